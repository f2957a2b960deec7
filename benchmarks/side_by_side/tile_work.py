# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cutana's own kind of work: Euclid-like tiles, four channels, floats as they
are; whole processes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .check import WrongPixelsError, check_product
from .data import CHANNELS, Data
from .measure import FailedError, measure, warm_memory
from .patch_work import TOOLS_DIRECTORY
from .peers import install
from .targets import SIZE, tile_targets
from .workplace import Workplace

__all__ = ("CASE", "TOOLS", "measure_tiles")

CASE = "tiles"

TOOLS = {
    "bulkcutout": "a request, its plan, quanta and finish in one process",
    "bulkcutout-engine": "the engine alone, one thread, into one HDF5 file",
    "cutana": "Cutana, float32, Zarr, no normalisation, no flux conversion",
}
"""What each does."""

SCRIPTS = {"bulkcutout": "campaign_steps", "bulkcutout-engine": "tiles_engine", "cutana": "cutana_run"}

OUR_BANDS = ("VIS", "Y", "J", "H")
"""The channels as `ingest` takes them from the names of the files."""

MOST_SHIFT = 2
"""Cutana's boxes may be off by so many pixels."""


def measure_tiles(
    place: Workplace,
    data: Data,
    *,
    numbers: Sequence[int],
    tools: Sequence[str],
    round_number: int,
    keep: Callable[[dict[str, Any]], None],
) -> None:
    """Run every tool once for every number of targets; parameters as
    `measure_patch`.
    """
    repository = _repository(place, data)
    directory = place.scratch / "tiles"
    for n in numbers:
        targets = tile_targets(data, n)
        for tool in tools:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            job = _job(directory, data, repository, targets, tool)
            path, report = directory / "job.json", directory / "report.json"
            path.write_text(json.dumps({**job, "report": str(report)}))
            python, env = sys.executable, place.own_environment()
            if tool == "cutana":
                python, env = str(install(tool, place.environments)), place.peer_environment()
            command = [python, str(TOOLS_DIRECTORY / f"{SCRIPTS[tool]}.py"), str(path)]
            warm_memory(place.scratch / "warm", 2 * n * len(CHANNELS) * SIZE**2 * 4)
            (place.scratch / "warm").unlink()
            figures = measure(command, log=place.scratch / "log", report=report, env=env)
            # Cutana starts processes of its own, so only wholes compare.
            figures = {name: figures[name] for name in ("whole_s", "whole_cpu_s", "peak_mb")}
            figures["bytes"] = n * len(CHANNELS) * SIZE**2 * 4
            if round_number == 0:
                shift = _check(tool, job, targets, python)
                if shift is not None:
                    figures["box_shift"] = shift
            keep({"tool": tool, "case": CASE, "n": n, "round": round_number, **figures})
    shutil.rmtree(directory)


def _repository(place: Workplace, data: Data) -> Path:
    repository = data.root / "tiles"
    if not (done := data.root / "tiles-are-ingested").exists():
        shutil.rmtree(repository, ignore_errors=True)
        command = [sys.executable, "-m", "lsst.dax.bulkcutout.cli", "ingest", *data.euclid]
        command += ["--repo", str(repository), "--dataset-type", "mosaic", "--band-from", "-([A-Z]+)_TILE"]
        run = subprocess.run(command, env=place.own_environment(), capture_output=True, text=True)
        if run.returncode != 0:
            raise FailedError(f"ingest ended with {run.returncode}:\n{run.stdout}{run.stderr}")
        done.touch()
    return repository


def _job(
    directory: Path, data: Data, repository: Path, targets: Mapping[str, np.ndarray], tool: str
) -> dict[str, Any]:
    n = len(targets["ra"])
    job: dict[str, Any] = {"size": SIZE, "warm_up": None, "bytes": 0, "output": str(directory / "out.h5")}
    if tool == "cutana":
        catalog = directory / "sources.csv"
        files = json.dumps(list(data.euclid)).replace('"', "'")
        lines = [
            f'{k},{ra!r},{dec!r},{SIZE},"{files}"'
            for k, (ra, dec) in enumerate(zip(targets["ra"].tolist(), targets["dec"].tolist(), strict=True))
        ]
        head = "SourceID,RA,Dec,diameter_pixel,fits_file_paths"
        catalog.write_text("\n".join([head, *lines, ""]))
        output, result = str(directory / "cutouts"), str(directory / "result.npz")
        return {**job, "catalog": str(catalog), "output": output, "channels": CHANNELS, "result": result}
    catalog = directory / "catalog.parquet"
    pq.write_table(pa.table({"id": np.arange(n), "ra": targets["ra"], "dec": targets["dec"]}), catalog)
    request = {
        "schema_version": 1,
        "request_id": "benchmark",
        "catalog": {"uri": str(catalog), "id_column": "id"},
        "butler": str(repository),
        "collections": ["images"],
        "dataset_type": "mosaic",
        "bands": list(OUR_BANDS),
        "size": SIZE,
        "planes": ["image"],
        "output": str(directory / "out"),
    }
    (directory / "request.json").write_text(json.dumps(request))
    tiles = {"catalog": str(catalog), "tiles": list(data.euclid)}
    return {**job, **tiles, "request": str(directory / "request.json")}


def _check(tool: str, job: Mapping[str, Any], targets: Mapping[str, np.ndarray], python: str) -> float | None:
    if tool != "cutana":
        (product,) = (
            [Path(job["output"])] if tool == "bulkcutout-engine" else _products(Path(job["request"]).parent)
        )
        tiles = dict(zip(OUR_BANDS, job["tiles"], strict=True))
        check_product(
            product,
            ids="catalog/object_id",
            planes={"image": "images/flux"},
            hdus={"image": 0},
            images=[tiles] * len(targets["ra"]),
            first_y=targets["first_y"],
            first_x=targets["first_x"],
        )
        return None
    script = str(TOOLS_DIRECTORY / "cutana_result.py")
    path = Path(job["catalog"]).parent / "job.json"
    subprocess.run([python, "-I", script, str(path)], check=True)
    with np.load(job["result"]) as result:
        return _shift(result["ids"], result["pixels"], _tiles_of_catalog(job), targets)


def _products(directory: Path) -> Iterator[Path]:
    return (directory / "out").rglob("*.hdf5")


def _tiles_of_catalog(job: Mapping[str, Any]) -> list[str]:
    line = Path(job["catalog"]).read_text().splitlines()[1]
    return list(json.loads(line.split(",", 4)[4].strip('"').replace("'", '"')))


def _shift(
    ids: np.ndarray, pixels: np.ndarray, tiles: Sequence[str], targets: Mapping[str, np.ndarray]
) -> float:
    """How far Cutana's boxes are from the others', px; each of its cutouts
    must be some box of the tiles, exactly.
    """
    if not np.array_equal(np.sort(ids), np.arange(len(targets["ra"]))):
        raise WrongPixelsError("Not each target is in Cutana's output once.")
    most = 0
    near = sorted(np.ndindex(2 * MOST_SHIFT + 1, 2 * MOST_SHIFT + 1), key=lambda s: sum(s) != 2 * MOST_SHIFT)
    for number, tile in enumerate(tiles):
        image = fitsio.read(tile)
        for row, k in enumerate(ids.tolist()):
            y, x = int(targets["first_y"][k]), int(targets["first_x"][k])
            for dy, dx in ((a - MOST_SHIFT, b - MOST_SHIFT) for a, b in near):
                box = image[y + dy : y + dy + SIZE, x + dx : x + dx + SIZE]
                if np.array_equal(pixels[row, number], box):
                    most = max(most, abs(dy), abs(dx))
                    break
            else:
                raise WrongPixelsError(f"Cutana's cutout of target {k} in {tile} is no box of the tile.")
    return most
