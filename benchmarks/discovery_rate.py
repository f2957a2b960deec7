# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

r"""How many rows of a catalog find their patch in a second.

    python benchmarks/discovery_rate.py /scratch/rate
    python benchmarks/discovery_rate.py /scratch/rate --json rate.json
    python benchmarks/discovery_rate.py /scratch/rate --rows 100000000 \
        --cases "8 patches"

Makes catalogs of random positions with an identifier and two carried columns,
and registries of the observatory's map (lsst_cells_v2) whose images have no
files, which discovery never opens:

- "8 patches": two tracts, all rows in patches that have images;
- "1000 patches": ten tracts, likewise;
- "whole sky": rows all over the sky, 1000 patches with images in 100 tracts,
  so that nearly all rows are outside;
- "identifiers": two tracts, a catalog without positions, which are looked up
  in the release's object tables (as many rows as the catalog);
- "CSV" and "VOTable": the first, in these formats.

Each case is a process of its own, twice: `discover` from the opened file to
the finished target table, after imports, and the command build-graph, all of
it. Prints a line for each case: rows; millions of rows a second of processor
time, all threads together, and the elapsed seconds, of discovery; elapsed and
processor seconds and the peak memory of the process tree of build-graph.

``--json FILE`` writes a list of objects with the keys case, rows,
rows_per_core_s, seconds (elapsed, of discovery), peak_mb (build-graph,
process tree), and build_graph_s, build_graph_cpu_s.

Run by hand; ``--rows 1000000`` takes about a minute. The catalog of a hundred
million rows needs 3 GB of disk, discovery 12 GB more. Inputs are kept in the
directory, and used again by the next run there; outputs are deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from lsst.daf.butler import (
    Butler,
    DatasetRef,
    DatasetType,
    FileDataset,  # type: ignore[attr-defined]
)
from lsst.dax.bulkcutout.skymap.rings import KNOWN_SKYMAPS
from lsst.dax.bulkcutout.tests import rings_layout
from lsst.dax.bulkcutout.tests.repository_writer import RepositoryWriter

SKYMAP = "lsst_cells_v2"
EIGHT = {tract: (44, 45, 54, 55) for tract in (5063, 5064)}
THOUSAND = {tract: range(100) for tract in range(9800, 9810)}
SCATTERED = {tract: range(40, 50) for tract in range(3000, 18000, 150)}
BANDS = ("g", "r", "i")
PIECE_ROWS = 1_000_000
INNER = 2980
"""Pixels of a patch, along a side, that rows are scattered over."""

type Places = dict[int, tuple[int, ...] | range]


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("directory", type=Path, help="directory for everything; made if need be")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of each catalog (default 1000000)")
    parser.add_argument("--cases", nargs="+", choices=sorted(CASES), default=list(CASES), metavar="CASE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--discover", metavar="REQUEST", help=argparse.SUPPRESS)
    options = parser.parse_args()
    directory = options.directory.absolute()
    if options.discover:
        time_discovery(directory, Path(options.discover))
        return
    directory.mkdir(parents=True, exist_ok=True)
    # Nothing of this belongs into the list of the user's campaigns.
    os.environ["XDG_STATE_HOME"] = str(directory / "state")
    print(f"{'case':<15}{'rows':>12}{'Mrows/core s':>14}{'s':>8}{'build-graph s':>15}{'CPU s':>8}{'MB':>7}")
    found = []
    for case in options.cases:
        found.append(run(directory, case, options.rows))
        print("{case:<15}{rows:>12,}".format(**found[-1]), end="")
        print("{:>14.2f}{seconds:8.1f}".format(found[-1]["rows_per_core_s"] / 1e6, **found[-1]), end="")
        print("{build_graph_s:>15.1f}{build_graph_cpu_s:8.1f}{peak_mb:7.0f}".format(**found[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def run(directory: Path, case: str, rows: int) -> dict[str, object]:
    """Measure one case."""
    places, make_catalog = CASES[case]
    repository = directory / f"repository-{case.replace(' ', '-')}"
    suffix = {"CSV": "csv", "VOTable": "vot"}.get(case, "parquet")
    catalog = directory / f"{case.replace(' ', '-')}-{rows}.{suffix}"
    if not repository.exists():
        make_repository(repository, places)
    if not catalog.exists():
        make_catalog(catalog, places, rows)
    if case == "identifiers":
        make_object_tables(repository, catalog, places, rows)
    request = write_request(directory, repository, catalog)
    campaign = directory / "campaign"
    shutil.rmtree(campaign, ignore_errors=True)
    script = [sys.executable, __file__, str(directory), "--discover", str(request)]
    said = subprocess.run(script, check=True, stdout=subprocess.PIPE, text=True).stdout
    timed = json.loads(said.splitlines()[-1])
    shutil.rmtree(campaign, ignore_errors=True)
    command = [sys.executable, "-m", "lsst.dax.bulkcutout.cli", "build-graph", str(campaign)]
    command += ["--request", str(request), "--graph", str(directory / "graph.qg"), "--output-run", "run"]
    elapsed, cpu, peak = watched(command)
    shutil.rmtree(campaign, ignore_errors=True)
    return {
        "case": case,
        "rows": rows,
        "rows_per_core_s": rows / timed["cpu_s"],
        "seconds": timed["seconds"],
        "peak_mb": peak,
        "build_graph_s": elapsed,
        "build_graph_cpu_s": cpu,
    }


def time_discovery(directory: Path, request_file: Path) -> None:
    """Discover in this process; print how long it took."""
    from lsst.dax.bulkcutout.campaign import Campaign
    from lsst.dax.bulkcutout.campaign_butler import open_source
    from lsst.dax.bulkcutout.catalog import open_catalog
    from lsst.dax.bulkcutout.discovery.discover import discover
    from lsst.dax.bulkcutout.discovery.source_images import SourceImages
    from lsst.dax.bulkcutout.request import load_request

    request = load_request(request_file)
    campaign = Campaign(directory / "campaign")
    campaign.root.mkdir()
    with open_source(request.butler) as butler:
        images = SourceImages(butler, request)
        started, cpu = time.monotonic(), processor_seconds()
        catalog = open_catalog(request.catalog, request.size, find_objects=images.object_tables)
        found = discover(request, catalog, images, campaign)
        used = {"seconds": time.monotonic() - started, "cpu_s": processor_seconds() - cpu}
    n_targets = sum(sum(tract.rows_by_size.values()) for tract in found.tracts)
    assert n_targets + sum(found.refused.values()) == catalog.n_rows
    print(json.dumps(used))


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def watched(command: list[str]) -> tuple[float, float, float]:
    """Run a command; seconds, processor seconds, peak MB of its tree."""
    started = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: said.append(process.stdout.read()))
    reader.start()
    peak = 0
    while process.poll() is None:
        try:
            tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            peak = max(peak, sum(each.memory_info().rss for each in tree))
        except psutil.Error:
            pass
        time.sleep(0.02)
    reader.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed ({process.returncode}):\n{said[0][-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, cpu, peak / 2**20


def make_repository(root: Path, places: Places) -> None:
    """A registry of images that have no files."""
    with RepositoryWriter(root, rings_layout(SKYMAP, places), BANDS, []) as writer:
        data_ids = [
            {"skymap": SKYMAP, "tract": tract, "patch": patch, "band": band}
            for tract, patches in places.items()
            for patch in patches
            for band in BANDS
        ]
        with Butler.from_config(str(root), writeable=True) as butler:
            butler.registry.insertDatasets("deep_coadd", data_ids, run=writer.run)


def columns(generator: np.random.Generator, start: int, n: int) -> dict[str, pa.Array]:
    """What every catalog has but for positions."""
    magnitude = generator.normal(23.0, 1.5, n).astype("f4")
    kind = generator.integers(0, 5, n, dtype="i4")
    # Identifiers as the observatory gives them, in no order.
    identifier = (np.arange(start, start + n) * 7_919) % 1_000_000_007 + 2**52
    return {"id": pa.array(identifier), "mag": pa.array(magnitude), "kind": pa.array(kind)}


def positions(generator: np.random.Generator, places: Places, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Random positions in patches, in no order."""
    rings = KNOWN_SKYMAPS[SKYMAP]
    pairs = np.array([(tract, patch) for tract, patches in places.items() for patch in patches])
    pairs = pairs[generator.integers(0, len(pairs), n)]
    ra, dec = np.empty(n), np.empty(n)
    for tract in places:
        members = np.flatnonzero(pairs[:, 0] == tract)
        row, column = np.divmod(pairs[members, 1], rings.n_patches)
        y, x = (
            part * rings.patch_inner + generator.uniform(10, INNER, len(members)) for part in (row, column)
        )
        ra[members], dec[members] = rings.wcs(tract).pixel_to_sky(x, y)
    return ra, dec


def pieces(places: Places, rows: int, *, whole_sky: bool = False):
    """Tables of a catalog, one after the other."""
    for start in range(0, rows, PIECE_ROWS):
        generator = np.random.default_rng([20261121, start])
        n = min(PIECE_ROWS, rows - start)
        if whole_sky:
            ra, dec = generator.uniform(0, 360, n), np.degrees(np.arcsin(generator.uniform(-1, 1, n)))
        else:
            ra, dec = positions(generator, places, n)
        rest = columns(generator, start, n)
        yield pa.table({"id": rest.pop("id"), "ra": ra, "dec": dec, **rest})


def make_parquet(path: Path, places: Places, rows: int, *, whole_sky: bool = False) -> None:
    writer = None
    for table in pieces(places, rows, whole_sky=whole_sky):
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def make_whole_sky(path: Path, places: Places, rows: int) -> None:
    make_parquet(path, places, rows, whole_sky=True)


def make_csv(path: Path, places: Places, rows: int) -> None:
    with path.open("wb") as stream:
        for number, table in enumerate(pieces(places, rows)):
            options = pyarrow.csv.WriteOptions(include_header=not number, quoting_style="none")
            pyarrow.csv.write_csv(table, stream, options)


def make_votable(path: Path, places: Places, rows: int) -> None:
    kinds = {"id": "long", "ra": "double", "dec": "double", "mag": "float", "kind": "int"}
    fields = "".join(f'<FIELD name="{name}" datatype="{kind}"/>\n' for name, kind in kinds.items())
    with path.open("w") as stream:
        stream.write('<?xml version="1.0"?>\n<VOTABLE version="1.4"><RESOURCE><TABLE>\n')
        stream.write(f"{fields}<DATA><TABLEDATA>\n")
        for table in pieces(places, rows):
            cells = zip(*(column.to_pylist() for column in table.columns), strict=True)
            for row in cells:
                stream.write("<TR>" + "".join(f"<TD>{value!r}</TD>" for value in row) + "</TR>\n")
        stream.write("</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>\n")


def make_identifiers(path: Path, places: Places, rows: int) -> None:
    writer = None
    for table in pieces(places, rows):
        table = table.drop_columns(["ra", "dec"])
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def make_object_tables(repository: Path, catalog: Path, places: Places, rows: int) -> None:
    """The object tables of the release, with the rows of the catalog."""
    rings = KNOWN_SKYMAPS[SKYMAP]
    parts: dict[int, list[pa.Table]] = {tract: [] for tract in places}
    for table in pieces(places, rows):
        tract = rings.find_tract(table["ra"].to_numpy(), table["dec"].to_numpy())
        renamed = table.select(["id", "ra", "dec"]).rename_columns(["objectId", "coord_ra", "coord_dec"])
        for number in parts:
            parts[number].append(renamed.filter(pa.array(tract == number)))
    with Butler.from_config(str(repository), writeable=True, run="coadds/run") as butler:
        kind = DatasetType("object", ("skymap", "tract"), "ArrowTable", universe=butler.dimensions)
        butler.registry.registerDatasetType(kind)
        for tract, tables in parts.items():
            found = butler.query_datasets(
                "object", "coadds/run", where=f"skymap = '{SKYMAP}' AND tract = {tract}", explain=False
            )
            butler.pruneDatasets(found, purge=True, unstore=True, disassociate=True)
            path = repository / f"object-{tract}.parq"
            pq.write_table(pa.concat_tables(tables), path, row_group_size=200_000)
            data_id = butler.registry.expandDataId(skymap=SKYMAP, tract=tract)
            butler.ingest(
                FileDataset(path=str(path), refs=[DatasetRef(kind, data_id, "coadds/run")]), transfer="move"
            )


def write_request(directory: Path, repository: Path, catalog: Path) -> Path:
    request = {
        "schema_version": 1,
        "request_id": "rate",
        "catalog": {"uri": str(catalog), "id_column": "id", "carry": ["mag", "kind"]},
        "butler": str(repository),
        "collections": ["coadds"],
        "dataset_type": "deep_coadd",
        "bands": list(BANDS),
        "size": 64,
        "planes": ["image"],
        "output": str(directory / "product"),
    }
    path = directory / "request.json"
    path.write_text(json.dumps(request))
    return path


CASES: dict[str, tuple[Places, Callable[[Path, Places, int], None]]] = {
    "8 patches": (EIGHT, make_parquet),
    "1000 patches": (THOUSAND, make_parquet),
    "whole sky": (SCATTERED, make_whole_sky),
    "identifiers": (EIGHT, make_identifiers),
    "CSV": (EIGHT, make_csv),
    "VOTable": (EIGHT, make_votable),
}


if __name__ == "__main__":
    main()
