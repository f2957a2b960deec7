# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Compiled kernels are kept, and whatever is wrong with what was kept is no
concern of a job.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest

from lsst.dax.bulkcutout.kernels import code_cache
from lsst.dax.bulkcutout.kernels.compiled import compiled
from lsst.dax.bulkcutout.kernels.warm import warm


@pytest.fixture
def cache_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Choose another directory for compiled kernels."""

    def choose(directory: Path) -> None:
        monkeypatch.setenv(code_cache.CACHE_VARIABLE, str(directory))
        code_cache.cache_directory.cache_clear()

    yield choose
    code_cache.cache_directory.cache_clear()


def kernel() -> Any:
    """Make a small kernel, as a process does that has not called it yet."""

    @compiled
    def double(value: int) -> int:
        return value + value

    return double


def test_what_was_compiled_is_not_compiled_again(tmp_path: Path, cache_in: Callable[[Path], None]) -> None:
    cache_in(tmp_path)
    first, second = kernel(), kernel()
    assert (first(21), first(1.5)) == (42, 3.0)
    assert (second(21), second(1.5)) == (42, 3.0)
    assert sum(second.stats.cache_hits.values()) == 2
    assert not second.stats.cache_misses


def test_results_of_two_processes_are_not_mixed_up(tmp_path: Path, cache_in: Callable[[Path], None]) -> None:
    """Each would call its result the first of the function: under one name
    the code of one would be called with the types of the other.
    """
    for directory, value in (("a", 21), ("b", 1.5)):
        cache_in(tmp_path / directory)
        kernel()(value)
    one, other = ({path.name for path in (tmp_path / name).rglob("*.nbc")} for name in "ab")
    assert len(one) == len(other) == 1
    assert one != other


@pytest.mark.parametrize("spoil", ["cut short", "noise", "gone"])
def test_spoiled_files_are_compiled_anew(
    tmp_path: Path, cache_in: Callable[[Path], None], spoil: str
) -> None:
    """A full disk, or a copy that went wrong."""
    cache_in(tmp_path)
    kernel()(21)
    files = [path for path in tmp_path.rglob("*.nb?")]
    assert len(files) == 2
    for path in files:
        if spoil == "cut short":
            path.write_bytes(path.read_bytes()[:10])
        elif spoil == "noise":
            path.write_bytes(b"noise" * 100)
        elif path.suffix == ".nbc":
            path.unlink()
    assert kernel()(21) == 42


def test_kernels_work_where_nothing_can_be_kept(tmp_path: Path, cache_in: Callable[[Path], None]) -> None:
    (tmp_path / "file").write_text("in the way")
    cache_in(tmp_path / "file")
    assert kernel()(21) == 42


def test_directory_is_that_of_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_in: Callable[[Path], None]
) -> None:
    """A kernel is made of several files: another state of any of them has a
    directory of its own.
    """
    cache_in(tmp_path)
    before = code_cache.cache_directory()
    assert before.parent == tmp_path
    copy = tmp_path / "kernels"
    copy.mkdir()
    for path in Path(code_cache.__file__).parent.glob("*.py"):
        (copy / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(code_cache, "__file__", str(copy / "code_cache.py"))
    stamp = code_cache._source_stamp.__wrapped__
    assert before.name == f"kernels-{stamp()}"
    with (copy / "rice.py").open("a") as stream:
        stream.write("#\n")
    assert before.name != f"kernels-{stamp()}"


def test_installation_that_cannot_be_written_has_its_kernels_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless they were compiled there before: then they are read."""
    monkeypatch.delenv(code_cache.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(code_cache, "_can_write", lambda directory: False)
    installed = tmp_path / "installed"
    (installed / "__pycache__").mkdir(parents=True)
    monkeypatch.setattr(code_cache, "__file__", str(installed / "code_cache.py"))
    name = f"kernels-{code_cache._source_stamp()}"
    choose = code_cache.cache_directory.__wrapped__
    assert choose() == tmp_path / "bulkcutout" / name
    (installed / "__pycache__" / name).mkdir()
    assert choose() == installed / "__pycache__" / name


JOB = """
import sys
import numpy as np
from lsst.dax.bulkcutout.readers.fits_extension import walk_extensions
from lsst.dax.bulkcutout.readers.fits_file import FitsFile
from lsst.dax.bulkcutout.readers.pixel_plane import PixelPlane
assert "numba" not in sys.modules
for path in sys.argv[1:]:
    with FitsFile(path) as file:
        for extension in list(walk_extensions(file))[1:]:
            for dtype in ("f4",) if extension.header.integer("ZBITPIX", -32) < 0 else ("f4", "i4"):
                plane = PixelPlane(extension, dtype=np.dtype(dtype).type)
                for canvas in ("f4", "f8") if dtype == "f4" else ("i4", "i8"):
                    plane.load_part(slice(0, 20), slice(0, 30), np.empty((20, 30), canvas))
from lsst.dax.bulkcutout.kernels import tile_runs
kernels = [kernel for kernel in vars(tile_runs).values() if hasattr(kernel, "stats")]
print(sum(sum(kernel.stats.cache_hits.values()) for kernel in kernels))
print(sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels))
print("astropy" in sys.modules)
"""


def test_job_compiles_nothing_once_kernels_are_warm(tmp_path: Path) -> None:
    """`warm` knows all combinations of types. Nor does a job import astropy,
    which takes as long as its first tile.
    """
    warm()
    rng, paths = np.random.default_rng(1), []
    for number, kind in enumerate(("u1", "i2", "i4", "f4", "f8")):
        pixels = rng.normal(90, 9, (20, 30)).astype(kind)
        paths.append(str(tmp_path / f"{number}.fits"))
        with fitsio.FITS(paths[-1], "rw") as file:
            for codec in ("RICE_1", "GZIP_1", "GZIP_2"):
                file.write(pixels, compress=codec, tile_dims=(8, 30))
            if kind[0] == "f":
                file.write(pixels, compress="GZIP_2", qlevel=None)
            else:
                file.write(pixels, compress="PLIO_1")
    run = subprocess.run([sys.executable, "-c", JOB, *paths], capture_output=True, text=True, check=True)
    hits, misses, has_astropy = run.stdout.split()
    assert int(hits) > 10
    assert (misses, has_astropy) == ("0", "False"), run.stderr
