# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The benchmark runs, and its tools give the right pixels.

How fast they are is no matter for a test: other things run on the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
NAMES = {"bulkcutout", "bulkcutout-2", "limit", "fitsio-planes", "fitsio-subset", "astropy"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a quick run says; it compares all cutouts with the reference."""
    directory = tmp_path_factory.mktemp("benchmark")
    file = directory / "results.json"
    command = [sys.executable, "-m", "benchmarks.side_by_side", "--quick", "--no-peers", "-n", "12"]
    command += ["--case", "rice-square", "end-to-end", "--directory", str(directory), "--json", str(file)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(file.read_text())


def test_quick_run_measures_every_tool(results: list[dict[str, Any]]) -> None:
    cut = [result for result in results if result["case"] == "rice-square"]
    assert {result["tool"] for result in cut} == NAMES
    for result in results:
        assert result["cutouts_per_s"] > 0 and result["cutouts_per_core_s"] > 0 and result["peak_mb"] > 1
    assert {result["tool"] for result in results} - NAMES == set()
    assert {result["n"] for result in results} == {12}


def test_page_says_what_was_reached_and_why_not(
    results: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.side_by_side.page import write_page

    made_up = [
        {**result, "case": "rice-square", "n": 10_000, "cutouts_per_core_s": rate, "cutouts_per_s": rate}
        for result in results
        if result["case"] == "rice-square"
        for rate in [
            {"limit": 4000.0, "bulkcutout": 2000.0, "bulkcutout-2": 3000.0}.get(result["tool"], 500.0)
        ]
    ]
    found = {"case": "8 patches", "rows": 1_000_000, "rows_per_core_s": 2.5e6, "seconds": 0.5}
    found |= {"build_graph_s": 3.0, "build_graph_cpu_s": 2.0, "peak_mb": 400.0}
    page = tmp_path / "page.md"
    write_page(made_up, [found], page)
    lines = page.read_text().splitlines()
    goals = [line for line in lines if "10,000 targets in a patch" in line]
    assert "| 3 x the better of fitsio's two | 4 | 6 | yes |" in goals[0]
    assert "| within 1.5 x the limit | 2 | 1.33 | **no** |" in goals[1]
    assert any("2.50 M" in line and "| yes |" in line for line in lines)
    assert (tmp_path / "page-patches.png").stat().st_size < 300_000


def test_wrong_pixel_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark of wrong pixels is worth nothing."""
    import fitsio

    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.side_by_side.check import WrongPixelsError, check_cutouts
    from benchmarks.side_by_side.tools.work import PLANES, Sink

    first_y, first_x = np.array([3, 0, 9]), np.array([1, 6, 2])
    planes = {
        plane: np.arange(20 * 30).reshape(20, 30).astype(dtype) + 10 * number
        for number, (plane, dtype) in enumerate(PLANES.items())
    }
    with fitsio.FITS(str(tmp_path / "image.fits"), "rw") as file:
        for plane, pixels in planes.items():
            file.write(pixels, extname=plane)
    np.savez(tmp_path / "targets.npz", first_y=first_y, first_x=first_x)
    job = {"path": str(tmp_path / "image.fits"), "planes": {plane: plane for plane in PLANES}, "n": 3}
    job |= {"size": 5, "targets": str(tmp_path / "targets.npz"), "output": str(tmp_path)}
    boxes = [(slice(y, y + 5), slice(x, x + 5)) for y, x in zip(first_y, first_x, strict=True)]
    for spoiled in (None, *PLANES):
        sink = Sink(str(tmp_path))
        for index in ([2], [0, 1]):
            block = {name: np.stack([pixels[boxes[k]] for k in index]) for name, pixels in planes.items()}
            if spoiled is not None and 2 in index:
                block[spoiled][0, 4, 4] += 1
            sink.write(np.array(index), block)
        sink.close()
        if spoiled is None:
            check_cutouts(job)
        else:
            with pytest.raises(WrongPixelsError, match=f"{spoiled} of target 2"):
                check_cutouts(job)
