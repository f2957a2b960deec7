# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Rows in = rows delivered + rows refused, whatever happens on the way."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import h5py
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_sky import SIZE, TRACT, tiny_table

from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL, finish
from lsst.dax.bulkcutout.formats.hdf5 import HDF5Writer
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, run_here, write_request

GOOD = 6
"""Targets of each of the three patches."""

kinds = st.sampled_from(["good", "no position", "beyond the pole", "elsewhere", "no id"])
failures = st.sets(st.sampled_from([(TRACT, patch) for patch in range(3)]))


def catalog_of(repo: SkyRepository, rows: list[str]) -> pa.Table:
    """The good targets, and between them rows of any kind."""
    table = tiny_table(repo, GOOD).to_pydict()
    for place, kind in enumerate(rows):
        if kind == "no position":
            table["ra"][place] = float("nan")
        elif kind == "beyond the pole":
            table["dec"][place] = -91.0
        elif kind == "elsewhere":
            table["dec"][place] = 60.0
        elif kind == "no id":
            table["id"][place] = None
    return pa.table(table)


def check(out: Path, rows: list[str], *, lost: set[tuple[int, int]]) -> None:
    """Each row once, with the answer that follows from what was done."""
    answers = pq.read_table(out / "status.parquet").to_pylist()
    assert [answer["row"] for answer in answers] == list(range(3 * GOOD))
    refusals = {
        "no position": "invalid_position",
        "beyond the pole": "invalid_position",
        "elsewhere": "outside_footprint",
        "no id": "invalid_id",
    }
    for answer, kind in zip(answers, rows, strict=True):
        patch = (TRACT, answer["row"] // GOOD)
        expected = refusals.get(kind, "not_processed" if patch in lost else "delivered")
        assert answer["status"] == expected
        if expected == "delivered":
            with h5py.File(out / answer["file"]) as file:
                assert file["catalog/row"][answer["index"]] == answer["row"]
    manifest = read_manifest(out)
    assert sum(manifest.counts.values()) == manifest.rows == 3 * GOOD
    in_files = sum(file.rows for file in manifest.files if file.tract is not None)
    assert in_files == manifest.counts.get("delivered", 0)


def digests(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("size=*/*")}


@settings(max_examples=6, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(kinds, min_size=3 * GOOD, max_size=3 * GOOD),
    keep=st.lists(st.integers(0, GOOD - 1), min_size=3, max_size=3),
    first=failures,
    second=failures,
    place=st.sampled_from(["before", "after_cutouts"]),
    killed_finish=st.booleans(),
)
def test_every_row_is_answered_once_whatever_happens(
    tiny_repo: SkyRepository,
    rows: list[str],
    keep: list[int],
    first: set[tuple[int, int]],
    second: set[tuple[int, int]],
    place: str,
    killed_finish: bool,
) -> None:
    """Quanta fail, and some of them again; a finish dies between two files;
    then all goes well, and nothing tells of it.
    """
    # One good target in each patch, or there is nothing to fail.
    for patch, member in enumerate(keep):
        rows[patch * GOOD + member] = "good"
    with TemporaryDirectory() as name:
        directory = Path(name)
        catalog = directory / "catalog.parquet"
        pq.write_table(catalog_of(tiny_repo, rows), catalog)
        fields = {"size": SIZE, "partition": {"max_rows_per_file": 4}}
        undisturbed = write_request(directory / "calm", tiny_repo, catalog, **fields)
        _, status = run_here(undisturbed)
        assert status == COMPLETE
        request = write_request(directory / "rough", tiny_repo, catalog, **fields)
        out = directory / "rough" / "out"
        campaign, status = run_here(request, fail=first, place=place)
        assert status == (PARTIAL if first else COMPLETE)
        check(out, rows, lost=first)
        lost = first & second
        if first:
            campaign = init_and_run(request, fail=lost, place=place)
            if killed_finish:
                with mock.patch.object(HDF5Writer, "close", side_effect=OSError(5, "gone")):
                    finish(campaign)
            assert finish(campaign) == (PARTIAL if lost else COMPLETE)
            check(out, rows, lost=lost)
        if lost:
            _, status = run_here(request)
            assert status == COMPLETE
        check(out, rows, lost=set())
        assert digests(out) == digests(directory / "calm" / "out")
