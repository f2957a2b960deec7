# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The campaign directory: the names of everything in it, and its plan."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pydantic

from .errors import UserError

__all__ = ("Campaign", "Plan", "TractPlan", "write_atomically")

PLAN_VERSION = 2
"""Version 2: targets have a column ``fallback``."""


class TractPlan(pydantic.BaseModel):
    """The targets of one tract, as the graph builder wrote them."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    tract: int
    """Tract identifier."""

    path: str
    """Target file, relative to the directory of the targets."""

    bytes: int
    """Size of the target file."""

    sha256: str
    """Checksum of the target file, hexadecimal."""

    patches: int
    """Number of patches with targets; each has a row group or more."""

    rows_by_size: dict[int, int]
    """Number of targets for each cutout size in pixels."""

    fallback: int = 0
    """Number of targets that are cut from another patch than that of the
    rule."""


class Plan(pydantic.BaseModel):
    """What a campaign is going to do, fixed before its first quantum runs."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    plan_version: int = PLAN_VERSION
    """Version of this layout."""

    request_fingerprint: str
    """`CutoutRequest.fingerprint` of the request that was planned."""

    skymap: str
    """Sky map that tract and patch numbers belong to."""

    bands: tuple[str, ...]
    """Band axis of every cutout."""

    catalog_rows: int
    """Rows of the user's catalog."""

    refused: dict[str, int]
    """Rows refused before any pixel was read, by status."""

    tracts: tuple[TractPlan, ...]
    """Tracts with targets, ascending."""

    warnings: tuple[str, ...] = ()
    """What the user should know about catalog and coverage."""

    extra_planes: dict[str, int] = {}
    """Number of planes of noise and mask fractions that one image of each
    band had, the most of all bands; empty if they are not asked for."""

    @property
    def targets(self) -> int:
        """Rows that go to a quantum."""
        return sum(sum(tract.rows_by_size.values()) for tract in self.tracts)

    @property
    def fallback(self) -> int:
        """Rows that are cut from another patch than that of the rule."""
        return sum(tract.fallback for tract in self.tracts)


@dataclasses.dataclass(frozen=True)
class Campaign:
    """One submission of one request, in a directory of its own."""

    root: Path
    """The directory."""

    @property
    def request(self) -> Path:
        """The request with all paths absolute (YAML)."""
        return self.root / "request.yaml"

    @property
    def bps_config(self) -> Path:
        """What ``bps submit`` takes."""
        return self.root / "bps.yaml"

    @property
    def policy(self) -> Path:
        """Copy of the policy of the site (YAML), if the site has one."""
        return self.root / "policy.yaml"

    @property
    def purged(self) -> Path:
        """What ``bulkcutout purge`` deletes (JSON); written before."""
        return self.root / "purged.json"

    @property
    def purged_manifest(self) -> Path:
        """Manifest of a product that was purged (JSON)."""
        return self.root / "manifest.json"

    @property
    def butler_config(self) -> Path:
        """Butler configuration of all jobs."""
        return self.root / "campaign-butler.yaml"

    @property
    def datastore(self) -> Path:
        """Root of the datastore that the quanta write to."""
        return self.root / "datastore"

    @property
    def targets(self) -> Path:
        """Directory of the target table, one Parquet file per tract."""
        return self.root / "targets"

    @property
    def refused(self) -> Path:
        """Rows that were refused before any pixel was read (Parquet)."""
        return self.root / "refused.parquet"

    @property
    def plan(self) -> Path:
        """The plan (JSON), written when the targets are complete."""
        return self.root / "plan.json"

    @property
    def patches(self) -> Path:
        """The patches that have targets, and where they are (Parquet)."""
        return self.root / "patches.parquet"

    @property
    def patch_loads(self) -> Path:
        """What each patch will cost (Parquet), for those who make jobs."""
        return self.root / "patch-loads.parquet"

    @property
    def graphs(self) -> Path:
        """Directory of the quantum graphs, one for each attempt."""
        return self.root / "graphs"

    @property
    def registered(self) -> Path:
        """Outputs of other campaigns that this one uses (JSON)."""
        return self.root / "registered.json"

    @property
    def submit(self) -> Path:
        """Directory where BPS keeps its own files."""
        return self.root / "submit"

    @property
    def scratch(self) -> Path:
        """Temporary files; safe to delete when nothing runs."""
        return self.root / "scratch"

    @property
    def run_lock(self) -> Path:
        """Locked by the process that submits, or that Parsl runs in."""
        return self.root / "run.lock"

    @property
    def build_lock(self) -> Path:
        """Locked while a graph is built."""
        return self.root / "build.lock"

    @property
    def finish_lock(self) -> Path:
        """Locked while a product is packaged."""
        return self.root / "finish.lock"

    @property
    def finish_log(self) -> Path:
        """Outcome of the last ``bulkcutout finish`` (JSON)."""
        return self.root / "finish.json"

    @property
    def callback(self) -> Path:
        """What the server was told that asked for it (JSON)."""
        return self.root / "callback.json"

    @property
    def cancelled(self) -> Path:
        """Marker of ``bulkcutout cancel`` (JSON: time, by).

        Jobs that see it end, and ``finish`` packages nothing.
        """
        return self.root / "cancelled.json"

    def read_plan(self) -> Plan:
        """Read the plan.

        Returns
        -------
        plan
            What the campaign is going to do.

        Raises
        ------
        UserError
            Raised if there is no plan yet, or one of another version.
        """
        try:
            text = self.plan.read_text()
        except FileNotFoundError:
            raise UserError(
                f"Campaign {self.root} has no plan yet: its quantum graph was not built to the end. "
                "Submit it first, and look for errors of build-graph."
            ) from None
        version = json.loads(text).get("plan_version")
        if version != PLAN_VERSION:
            raise UserError(
                f"Campaign {self.root} was planned by another version of this software (plan version "
                f"{version}, known is {PLAN_VERSION}): finish it with that version or submit it anew."
            )
        return Plan.model_validate_json(text)

    def write_plan(self, plan: Plan) -> None:
        """Write the plan.

        Parameters
        ----------
        plan
            What the campaign is going to do.
        """
        write_atomically(self.plan, plan.model_dump_json(indent=1))

    def graph_files(self) -> list[Path]:
        """Find the quantum graphs of all attempts.

        Returns
        -------
        paths
            Oldest first.
        """
        return sorted(self.graphs.glob("*.qg"))


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that readers see all of it or the one before.

    Parameters
    ----------
    path
        File to write; its directory must exist.
    text
        Contents.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
