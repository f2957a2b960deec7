# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The images that all tools cut: Rubin-like patches and Euclid-like tiles.

Made once and kept: the same seed gives the same files.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from lsst.dax.bulkcutout.skymap.rings import KNOWN_SKYMAPS
from lsst.dax.bulkcutout.tests.coadds import build_coadd, sky_planes
from lsst.dax.bulkcutout.tests.layouts import Layout, rings_layout
from lsst.dax.bulkcutout.tests.repository_writer import RepositoryWriter
from lsst.dax.bulkcutout.tests.sky import Sky
from lsst.images.fits import (
    FitsCompressionAlgorithm,
    FitsCompressionOptions,
    FitsDitherAlgorithm,
    FitsQuantizationOptions,
)
from lsst.images.fits import write as write_fits
from lsst.images.serialization import ButlerInfo

__all__ = ("ALL_BANDS", "BANDS", "CASES", "CHANNELS", "FULL", "HDUS", "QUICK", "Data", "Scale", "make_data")

RECIPE = 2
"""Number of this way of making the data: another one makes it again."""

BANDS = ("g", "r", "i")
ALL_BANDS = ("u", "g", "r", "i", "z", "y")
"""Those of the first patch, which one quantum cuts in all of them."""

HDUS = {"image": "IMAGE", "variance": "VARIANCE", "mask": "MASK"}
POSITION = (150.1, 2.2)
CHANNELS = ("VIS", "NIR-Y", "NIR-J", "NIR-H")
ZERO_POINT = 23.9


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large everything is."""

    name: str
    skymap: str
    patch_rows: int
    """The repository has so many rows of so many patches."""

    euclid_side: int
    """Pixels of a side of a Euclid-like tile."""


FULL = Scale("full", "lsst_cells_v2", patch_rows=2, euclid_side=10_000)
QUICK = Scale("quick", "bulkcutout_demo_v1", patch_rows=1, euclid_side=1_000)


def _rice(level: float, tile: tuple[int, int] | None) -> FitsCompressionOptions:
    quantization = FitsQuantizationOptions(dither=FitsDitherAlgorithm.SUBTRACTIVE_DITHER_2, level=level)
    return FitsCompressionOptions(
        algorithm=FitsCompressionAlgorithm.RICE_1, quantization=quantization, tile_shape=tile
    )


def _lossless(name: str, tile: tuple[int, int] | None) -> FitsCompressionOptions:
    return FitsCompressionOptions(algorithm=FitsCompressionAlgorithm[name], tile_shape=tile)


CASES: Mapping[str, str] = {
    "rice-square": "RICE lossy (subtractive dither, q 32), mask RICE, tiles 256 x 256 px",
    "rice-row": "the same, tiles of one row",
    "gzip2-square": "GZIP_2 lossless, tiles 256 x 256 px",
    "gzip2-row": "the same, tiles of one row",
    "dp2": "as DP2 is written: RICE lossy with q 16, mask GZIP_2, tiles 150 x 150 px",
}


def _options(case: str, width: int) -> dict[str, FitsCompressionOptions]:
    if case == "dp2":
        # No tile shape: lsst.images takes that of the cells.
        return {"image": _rice(16.0, None), "variance": _rice(16.0, None)}
    codec, shape = case.split("-")
    tile = (256, 256) if shape == "square" else (1, width)
    if codec == "gzip2":
        return dict.fromkeys(HDUS, _lossless("GZIP_2", tile))
    return {"image": _rice(32.0, tile), "variance": _rice(32.0, tile), "mask": _lossless("RICE_1", tile)}


@dataclasses.dataclass(frozen=True)
class Data:
    """What there is, and where."""

    root: Path
    tract: int
    patches: tuple[int, ...]
    paths: Mapping[str, str]
    """Coadds of the repository by ``PATCH-BAND``, and files of the first
    patch in r by case."""

    inner: Mapping[str, Sequence[int]]
    """For each patch ``y0, x0`` of its file, ``y0, y1, x0, x1`` of its own
    pixels."""

    euclid: tuple[str, ...]

    @property
    def repository(self) -> Path:
        return self.root / "repo"

    def key(self, band: str, patch: int | None = None) -> str:
        return f"{self.patches[0] if patch is None else patch}-{band}"


def make_data(directory: Path, scale: Scale) -> Data:
    """Make what is not there yet."""
    root = directory / f"{scale.name}-{RECIPE}"
    note = root / "data.json"
    if not note.exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        note.write_text(json.dumps(_make(root, scale)))
    contents = json.loads(note.read_text())
    return Data(
        root,
        contents["tract"],
        tuple(contents["patches"]),
        contents["paths"],
        contents["inner"],
        tuple(contents["euclid"]),
    )


def layout_of(scale: Scale) -> Layout:
    """The patches around a position, which is in no corner of a tract."""
    skymap = KNOWN_SKYMAPS[scale.skymap]
    tract = int(skymap.find_tract(*POSITION))
    first = skymap.n_patches // 2 - 1
    rows = range(first, first + scale.patch_rows)
    return rings_layout(skymap, {tract: [row * skymap.n_patches + column for row in rows for column in rows]})


def _make(root: Path, scale: Scale) -> dict[str, object]:
    layout = layout_of(scale)
    ((tract, _), *_) = layout.images
    patches = [patch for _, patch in layout.images]
    keys = [
        (tract, patch, band) for patch in patches for band in (BANDS if patch in patches[1:] else ALL_BANDS)
    ]
    staging = root / "cases"
    staging.mkdir()
    with RepositoryWriter(root / "repo", layout, ALL_BANDS, keys) as repository:
        jobs = []
        for key in keys:
            cases = list(CASES) if key == (tract, patches[0], "r") else ["rice-square"]
            jobs.append((layout, key, cases, staging, repository.info(key)))
        # The names of Euclid's files, which say the channel.
        tiles = {name: root / f"EUC_MER_BGSUB-MOSAIC-{name}_TILE102018666.fits" for name in CHANNELS}
        jobs += [(path, scale.euclid_side, name) for name, path in tiles.items()]
        context = multiprocessing.get_context("spawn")
        processes = len(os.sched_getaffinity(0)) if scale.euclid_side > 5000 else 1
        with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
            for each in [pool.submit(_write_coadds if len(job) > 3 else _write_tile, *job) for job in jobs]:
                each.result()
        ingested = repository.ingest({key: _coadd_path(staging, key, "rice-square") for key in keys})
    paths = {f"{patch}-{band}": str(path) for (_, patch, band), path in ingested.items()}
    main = (tract, patches[0], "r")
    paths |= {case: str(_coadd_path(staging, main, case)) for case in CASES if case != "rice-square"}
    paths["rice-square"] = str(ingested[main])
    inner = {}
    for patch in patches:
        where = layout.patch(tract, patch)
        own = where.inner
        inner[str(patch)] = [where.outer.y0, where.outer.x0, own.y0, own.y1, own.x0, own.x1]
    euclid = [str(path) for path in tiles.values()]
    return {"tract": tract, "patches": patches, "paths": paths, "inner": inner, "euclid": euclid}


def _coadd_path(staging: Path, key: tuple[int, int, str], case: str) -> Path:
    return staging / "{}-{}-{}-{}.fits".format(*key, case)


def _write_coadds(
    layout: Layout, key: tuple[int, int, str], cases: Sequence[str], staging: Path, info: str
) -> None:
    planes = sky_planes(layout, *key, sky=Sky(seed=5))
    coadd = build_coadd(layout, *key, planes)
    for case in cases:
        write_fits(
            coadd,
            str(_coadd_path(staging, key, case)),
            compression_options=_options(case, planes.image.shape[1]),
            compression_seed=1 + (101 * key[1] + ord(key[2])) % 9999,
            butler_info=ButlerInfo.model_validate_json(info),
        )


def _write_tile(path: Path, side: int, name: str) -> None:
    """Noise and round sources, uncompressed, with a projection."""
    random = np.random.default_rng([7, CHANNELS.index(name)])
    pixels = random.standard_normal((side, side), dtype=np.float32)
    y, x = np.mgrid[-12:13, -12:13]
    stamp = np.exp(-(x**2 + y**2) / 18.0).astype(np.float32)
    positions = np.random.default_rng(8).integers(12, side - 13, (side**2 // 5000, 2)).tolist()
    for (row, column), flux in zip(positions, random.pareto(1.5, len(positions)), strict=True):
        pixels[row - 12 : row + 13, column - 12 : column + 13] += np.float32(3.0 * flux) * stamp
    header = fits.Header()
    for axis, kind, value, step in ((1, "RA---TAN", 270.0, -1.0), (2, "DEC--TAN", 66.0, 1.0)):
        header[f"CTYPE{axis}"], header[f"CUNIT{axis}"], header[f"CRVAL{axis}"] = kind, "deg", value
        header[f"CRPIX{axis}"], header[f"CD{axis}_{axis}"] = side / 2 + 0.5, step * 0.1 / 3600.0
    header["RADESYS"], header["MAGZERO"], header["FILTER"] = "ICRS", ZERO_POINT, name
    fits.PrimaryHDU(pixels, header).writeto(path)
