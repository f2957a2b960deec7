# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What came of files that were to be ingested."""

from __future__ import annotations

import dataclasses
from pathlib import Path

__all__ = ("IngestReport",)


@dataclasses.dataclass
class IngestReport:
    """What came of the files."""

    repo: Path
    """The repository."""

    collection: str
    """RUN collection of the images."""

    skymap: str
    """Name of the sky map that the images' tracts belong to."""

    dataset_type: str
    """Dataset type of the images."""

    companions: dict[str, str] = dataclasses.field(default_factory=dict)
    """Dataset types of companions, by kind."""

    ingested: list[tuple[Path, int, int, str]] = dataclasses.field(default_factory=list)
    """File, tract, patch and band of what is new."""

    present: list[Path] = dataclasses.field(default_factory=list)
    """Files that were in the collection already."""

    refused: list[tuple[Path, str]] = dataclasses.field(default_factory=list)
    """Files that cannot be used, and why not."""

    notes: list[str] = dataclasses.field(default_factory=list)
    """What the user should know."""

    bands: tuple[str, ...] = ()
    """Bands of the images in the collection."""

    @property
    def complaints(self) -> list[str]:
        """Files that are not used, and what else is worth a word."""
        return [f"not used: {reason}" for _, reason in self.refused] + [
            f"note: {text}" for text in self.notes
        ]

    @property
    def summary(self) -> str:
        """What was done, in a line."""
        tracts = {tract for _, tract, _, _ in self.ingested}
        patches = {(tract, patch) for _, tract, patch, _ in self.ingested}
        present = f"; {len(self.present)} were there already" if self.present else ""
        refused = f"; {len(self.refused)} cannot be used" if self.refused else ""
        return (
            f"# {len(self.ingested)} images in {len(patches)} patches of {len(tracts)} "
            f"tracts{present}{refused}.\n"
            "# For the request:"
        )

    @property
    def request(self) -> str:
        """What a request for these images must have, in YAML."""
        lines = [
            f"butler: {self.repo}",
            f"collections: [{self.collection}]",
            f"dataset_type: {self.dataset_type}",
            f"skymap: {self.skymap}",
            f"bands: [{', '.join(self.bands)}]",
        ]
        if self.companions:
            kinds = (f"{kind}: {name}" for kind, name in sorted(self.companions.items()))
            lines.append(f"companions: {{{', '.join(kinds)}}}")
        return "\n".join(lines)
