# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The state of one patch of a campaign, and its form in JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from .campaign import write_atomically

__all__ = ("QuantumOutput", "read_list", "write_list")


@dataclasses.dataclass(frozen=True)
class QuantumOutput:
    """The state of one patch of a campaign."""

    tract: int
    """Tract identifier."""

    patch: int
    """Patch identifier."""

    done: bool
    """Whether a quantum of this patch has run to its end: both the cutout
    dataset and the metadata are there.  One without the other is what a
    killed quantum leaves."""

    path: Path | None
    """The cutout dataset, if the quantum is done."""

    dataset_id: str
    """Identifier (UUID) of the cutout dataset."""

    run: str
    """Run that the cutout dataset belongs to."""

    inputs: dict[str, str]
    """Where the input images are, by dataset identifier."""


def write_list(path: Path, outputs: Iterable[QuantumOutput]) -> None:
    """Write a list of outputs.

    Parameters
    ----------
    path
        File to write (JSON).
    outputs
        The outputs.
    """
    entries = [
        {**dataclasses.asdict(output), "path": None if output.path is None else str(output.path)}
        for output in outputs
    ]
    write_atomically(path, json.dumps(entries, indent=1))


def read_list(path: Path) -> list[QuantumOutput]:
    """Read what `write_list` wrote.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    outputs
        The outputs.
    """
    entries = json.loads(path.read_text())
    return [
        QuantumOutput(**{**entry, "path": None if entry["path"] is None else Path(entry["path"])})
        for entry in entries
    ]
