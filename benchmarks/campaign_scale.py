# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How a campaign of very many, very small quanta fares.

    python benchmarks/campaign_scale.py /scratch/scale
    python benchmarks/campaign_scale.py /scratch/scale --patches 2000 --run 0

Makes a repository of tiny images, prepares a campaign over all its patches
with BPS, and runs one over some of them on the test pool (which must be
installed: bin/cluster). Prints a table. Run by hand; it takes ten
minutes or more on two cores. The directory must be new, and is left as it is.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

SIDE, STEP, PER_ROW = 50, 40, 10
"""Pixels of an image, of its share of the tract, and images in a row."""

DEGREES_PER_PIXEL = 0.2 / 3600.0
SITES = Path(__file__).parents[1] / "python" / "lsst" / "dax" / "bulkcutout" / "config" / "sites"


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("directory", type=Path, help="new directory for everything")
    parser.add_argument("--patches", type=int, default=10_000, help="quanta to prepare (default 10000)")
    parser.add_argument("--run", type=int, default=1000, help="quanta to run on the pool (default 1000)")
    parser.add_argument("--glideins", type=int, default=2, help="glideins of one CPU (default 2)")
    options = parser.parse_args()
    directory = options.directory.absolute()
    directory.mkdir(parents=True)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["XDG_STATE_HOME"] = str(directory / "state")
    print(f"{'stage':<34}{'s':>8}{'CPU s':>8}{'MB':>7}  remarks")
    ra, dec = make_images(directory / "images", options.patches)
    stage("ingest", ["bulkcutout", "ingest", "images", "--repo", "repo"], directory)
    site = directory / "site.yaml"
    site.write_text(json.dumps({"includeConfigs": [str(SITES / "htcondor.yaml")], "memoryLimit": 8000}))
    request = write_request(directory, "all", ra, dec)
    command = ["bulkcutout", "submit", request, "--site", site, "--prepare-only"]
    stage("submit --prepare-only", command, directory)
    stage("bps prepare", ["bps", "prepare", "all.campaign/bps.yaml"], directory)
    tell_files(directory / "all.campaign")
    stage("status", ["bulkcutout", "status", "all"], directory, good=range(256))
    if options.run:
        some = write_request(directory, "some", ra[: options.run], dec[: options.run])
        run_on_pool(directory, some, options)


def make_images(directory: Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Write one plain image a patch; gives a position in each."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    data = (1000 * rows + columns).astype(">f4").tobytes()
    places = []
    for number in range(n):
        tract, patch = divmod(number, PER_ROW**2)
        row, column = divmod(patch, PER_ROW)
        crval = 10.0 + 3.0 * (tract % 100), -40.0 + 3.0 * (tract // 100)
        crpix = (PER_ROW / 2 - column) * STEP + 0.5, (PER_ROW / 2 - row) * STEP + 0.5
        path = directory / f"tract{tract}" / f"patch{patch}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_padded(_header(crval, crpix), b" ") + _padded(data, b"\0"))
        eta = (SIDE / 2 - crpix[1]) * DEGREES_PER_PIXEL
        xi = -(SIDE / 2 - crpix[0]) * DEGREES_PER_PIXEL
        dec = crval[1] + eta
        places.append((crval[0] + xi / np.cos(np.radians(dec)), dec))
    ra, dec = np.array(places).T
    return ra, dec


def _header(crval: tuple[float, float], crpix: tuple[float, float]) -> bytes:
    values: dict[str, object] = {"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": SIDE, "NAXIS2": SIDE}
    values |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"}
    values |= {"CRPIX1": crpix[0], "CRPIX2": crpix[1], "CRVAL1": crval[0], "CRVAL2": crval[1]}
    values |= {"CD1_1": -DEGREES_PER_PIXEL, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": DEGREES_PER_PIXEL}
    values |= {"RADESYS": "ICRS", "BAND": "g", "BUNIT": "nJy"}
    cards = []
    for key, value in values.items():
        text = (
            f"'{value:<8}'" if isinstance(value, str) else ("T" if value is True else f"{value!r}").rjust(20)
        )
        cards.append(f"{key:<8}= {text}".ljust(80))
    return "".join([*cards, "END".ljust(80)]).encode()


def _padded(block: bytes, fill: bytes) -> bytes:
    return block.ljust(-(-len(block) // 2880) * 2880, fill)


def write_request(directory: Path, name: str, ra: np.ndarray, dec: np.ndarray) -> Path:
    catalog = directory / f"{name}.parquet"
    pq.write_table(pa.table({"id": np.arange(len(ra)), "ra": ra, "dec": dec}), catalog)
    request = {
        "schema_version": 1,
        "request_id": f"scale-{name}",
        "catalog": {"uri": str(catalog), "id_column": "id"},
        "butler": str(directory / "repo"),
        "collections": ["images"],
        "dataset_type": "image",
        "bands": ["g"],
        "size": 16,
        "planes": ["image"],
        "output": str(directory / name),
    }
    path = directory / f"{name}.json"
    path.write_text(json.dumps(request))
    return path


def stage(
    name: str,
    command: Sequence[object],
    directory: Path,
    *,
    env: dict[str, str] | None = None,
    good: Sequence[int] = (0,),
) -> str:
    """Run a command; print its time and the peak memory of its processes."""
    started = time.monotonic()
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=directory,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: said.append(process.stdout.read()))
    reader.start()
    peak, cpu = 0, {}
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        memory = 0
        try:
            for each in [tree, *tree.children(recursive=True)]:
                memory += each.memory_info().rss
                times = each.cpu_times()
                cpu[each.pid] = times.user + times.system
        except psutil.Error:
            pass
        peak = max(peak, memory)
        time.sleep(0.1)
    reader.join()
    if process.returncode not in good:
        sys.exit(f"{name} failed ({process.returncode}):\n{said[0][-3000:]}")
    seconds = time.monotonic() - started
    print(f"{name:<34}{seconds:8.1f}{sum(cpu.values()):8.1f}{peak / 2**20:7.0f}", flush=True)
    for pattern in (
        r"Built a graph of .*",
        r"\w+ stage completed: Took [\d.]+ s",
        r"\d+ quanta in \d+ jobs.*",
    ):
        for found in re.finditer(pattern, said[0]):
            print(f"    {found[0]}")
    return said[0]


def tell_files(campaign: Path) -> None:
    counts = {
        name: [path for path in (campaign / name).rglob("*") if path.is_file()]
        for name in ("submit", "targets", "graphs", "datastore")
    }
    for name, paths in counts.items():
        size = sum(path.stat().st_size for path in paths) / 1e6
        print(f"    {name}/: {len(paths):,} files, {size:.1f} MB", flush=True)


def run_on_pool(directory: Path, request: Path, options: argparse.Namespace) -> None:
    """Run a campaign on the test pool, which is started and stopped here."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cluster"))
    from pool import Pool
    from pool_setup import install, tests_directory

    install()
    pool = Pool(tests_directory())
    try:
        pool.start()
        pool.need_glideins(options.glideins)
        env = {**pool.env, "XDG_STATE_HOME": os.environ["XDG_STATE_HOME"]}
        started = time.time()
        command = ["bulkcutout", "submit", request, "--site", "site.yaml"]
        said = stage(f"submit of {options.run}", command, directory, env=env)
        (run_id,) = re.findall(r"Run Id: (\d+\.\d+)", said)
        pool.wait_for_job(run_id, deadline_s=3600.0)
        print(f"{'on the pool, all of it':<34}{time.time() - started:8.1f}")
        tell_jobs(directory / "some.campaign", options.run)
        tell_files(directory / "some.campaign")
        stage("status", ["bulkcutout", "status", "some"], directory, env=env)
        stage("finish again", ["bulkcutout", "finish", "some"], directory, env=env)
    finally:
        pool.stop()


def tell_jobs(campaign: Path, n: int) -> None:
    """Times of jobs from HTCondor's logs, of quanta from their metadata."""
    starts, ends, memory = [], [], []
    for path in campaign.glob("submit/*/jobs/extractCutouts/**/*.log"):
        text = path.read_text()
        starts.append(_times(text, "001")[-1])
        ends.append(_times(text, "005")[-1])
        memory += [int(found) for found in re.findall(r"Memory \(MB\)\s+:\s+(\d+)", text)]
    busy = sum((end - start).total_seconds() for start, end in zip(starts, ends, strict=True))
    span = (max(ends) - min(starts)).total_seconds()
    tasks = [json.loads(path.read_text()) for path in campaign.glob("datastore/**/*_metadata/**/*.json")]
    cutting = sum(task["metadata"]["extractCutouts"]["scalars"]["seconds"] for task in tasks)
    print(
        f"    {len(starts)} jobs, {len(tasks)} quanta in {span:.0f} s: {n / span:.1f} quanta/s; a quantum "
        f"{busy / n:.3f} s of a slot, {(busy - cutting) / n:.3f} s of them overhead; "
        f"memory {max(memory, default=0)} MB"
    )


def _times(log: str, event: str) -> list[datetime.datetime]:
    found = re.findall(rf"^{event} \([\d.]+\) (\d+-\d+-\d+ \d+:\d+:\d+)", log, re.MULTILINE)
    return [datetime.datetime.fromisoformat(text) for text in found]


if __name__ == "__main__":
    main()
