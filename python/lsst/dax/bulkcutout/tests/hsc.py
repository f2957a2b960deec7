# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A repository of a real piece of sky: HSC images that lie beside the project.

The files have pixels and a projection, no more. The variance is that of the
background which ``sep`` measures, the mask says which pixels were detected and
which are not there, and the PSF is a Gaussian as wide as the survey's median
seeing. The images show a nearby galaxy from which others were subtracted.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import astropy.io.fits
import astropy.wcs
import numpy as np
import pyarrow as pa

from ..boxes import Box
from .coadds import Planes, build_coadd, write_coadd
from .layouts import Layout, Patch, Tract
from .repositories import SkyRepository
from .repository_writer import ImageKey, RepositoryWriter

__all__ = ("HSC_NJY_PER_COUNT", "hsc_repo", "real_data")

HSC_NJY_PER_COUNT = 10 ** ((31.4 - 27.0) / 2.5)
"""HSC coadds count in units of magnitude 27 (FLUXMAG0 = 10**10.8)."""

_SEEING_ARCSEC = {"g": 0.77, "r": 0.76, "i": 0.58}
"""Median seeing of the survey's Wide layer."""

_TRACT = 9004
_TRACT_SIDE = 36_000
_CELL = 50


def real_data(name: str) -> Path | None:
    """Find a real file or directory that is not part of the project.

    Parameters
    ----------
    name
        Path below the directory of real data, which is
        ``$BULKCUTOUT_REAL_DATA`` or ``../shared/data/real`` from the
        project's root.

    Returns
    -------
    path
        `None` where it is absent: a test then skips.
    """
    default = Path(__file__).resolve().parents[5].parent / "shared" / "data" / "real"
    path = Path(os.environ.get("BULKCUTOUT_REAL_DATA") or default) / name
    return path if path.exists() else None


@dataclasses.dataclass
class _Band:
    """One of the images and what was measured in it."""

    image: np.ndarray
    variance: np.ndarray
    detected: np.ndarray
    sources: np.ndarray
    fwhm: float  # px


def hsc_repo(
    root: str | Path, folder: str | Path, *, patches_per_side: int = 2, compression: str = "gzip"
) -> tuple[SkyRepository, pa.Table]:
    """Make a repository of the registered g, r and i images, and a catalog.

    Parameters
    ----------
    root
        A directory that does not exist yet, or is empty.
    folder
        Directory with ``g-band.fits``, ``r-band.fits`` and ``i-band.fits``.
    patches_per_side
        1, or 2 for four overlapping patches.
    compression
        ``gzip`` or ``rice``.

    Returns
    -------
    repository
        One tract on the images' own pixel grid, named ``hsc_slug``; the
        border cells are partly empty.
    catalog
        Sources detected in r: ``id``, ``ra``, ``dec``, ``tract``, ``patch``,
        and measurements.
    """
    root = Path(root).absolute()
    files = {band: Path(folder) / f"{band}-band.fits" for band in "gri"}
    header = astropy.io.fits.getheader(files["r"])
    layout, seen = _layout(header, patches_per_side)
    scale = layout.tracts[_TRACT].pixel_scale_arcsec
    bands = {band: _measure(path, _SEEING_ARCSEC[band] / scale) for band, path in files.items()}
    keys = [(tract, patch, band) for tract, patch in layout.images for band in files]
    with RepositoryWriter(root, layout, tuple(files), keys) as target:
        written = {}
        for key in keys:
            planes = _planes(layout.patch(*key[:2]), bands[key[2]], seen)
            written[key] = root / "hsc_{}_{}_{}.fits".format(*key)
            write_coadd(build_coadd(layout, *key, planes), written[key], compression)
        paths = target.ingest(written)
    repository = SkyRepository(
        root=root,
        collection="coadds",
        run=target.run,
        dataset_type="deep_coadd",
        layout=layout,
        bands=tuple(files),
        paths=paths,
        refs=target.refs,
        missing_cells={key: _no_cells(key) for key in keys},
    )
    return repository, _catalog(repository, astropy.wcs.WCS(header), bands["r"])


def _layout(header: astropy.io.fits.Header, patches_per_side: int) -> tuple[Layout, Box]:
    """The map, and the box of the pixels that exist."""
    middle = _TRACT_SIDE // 2 - 1
    x0, y0 = middle + 1 - round(header["CRPIX1"]), middle + 1 - round(header["CRPIX2"])
    seen = Box(y0, y0 + header["NAXIS2"], x0, x0 + header["NAXIS1"])
    # As many whole cells as cover the image, which lies in their middle.
    n_cells = -(-max(seen.shape) // (_CELL * patches_per_side)) * patches_per_side
    side = n_cells * _CELL
    first_y, first_x = y0 - (side - seen.shape[0]) // 2, x0 - (side - seen.shape[1]) // 2
    whole = Box(first_y, first_y + side, first_x, first_x + side)
    inner = side // patches_per_side
    patches = {}
    for row, column in np.ndindex(patches_per_side, patches_per_side):
        top, left = first_y + row * inner, first_x + column * inner
        own = Box(top, top + inner, left, left + inner)
        grown = Box(own.y0 - _CELL, own.y1 + _CELL, own.x0 - _CELL, own.x1 + _CELL)
        patch = row * patches_per_side + column
        patches[patch] = Patch(patch, (row, column), own, grown.intersection(whole) or own, (_CELL, _CELL))
    scale = header["PC2_2"] * header["CDELT2"]
    tract = Tract(
        id=_TRACT,
        crval=(header["CRVAL1"], header["CRVAL2"]),
        crpix=(middle, middle),
        cd=((header["PC1_1"] * header["CDELT1"], 0.0), (0.0, scale)),
        bbox=Box(0, _TRACT_SIDE, 0, _TRACT_SIDE),
        patches=patches,
    )
    images = tuple((_TRACT, patch) for patch in patches)
    return Layout("hsc_slug", {_TRACT: tract}, images, _TRACT + 1), seen


def _measure(path: Path, fwhm: float) -> _Band:
    import sep

    counts = np.ascontiguousarray(astropy.io.fits.getdata(path), dtype=np.float32)
    background = sep.Background(counts, bw=64, bh=64)
    sources, segments = sep.extract(
        counts - background.back(), 1.5, err=background.rms(), minarea=5, segmentation_map=True
    )
    return _Band(
        image=counts * np.float32(HSC_NJY_PER_COUNT),
        variance=((background.rms() * HSC_NJY_PER_COUNT) ** 2).astype(np.float32),
        detected=segments > 0,
        sources=sources,
        fwhm=fwhm,
    )


def _planes(patch: Patch, band: _Band, seen: Box) -> Planes:
    box = patch.outer
    overlap = box.intersection(seen)
    assert overlap is not None, "All patches hold part of the image."
    here, there = overlap.slices(box), overlap.slices(seen)
    image, variance = (np.full(box.shape, np.nan, dtype=np.float32) for _ in range(2))
    image[here], variance[here] = band.image[there], band.variance[there]
    detected = np.zeros(box.shape, dtype=bool)
    detected[here] = band.detected[there]
    edge = np.ones(box.shape, dtype=bool)
    edge[8:-8, 8:-8] = False
    no_data = np.isnan(image)
    mask = {"NO_DATA": no_data, "DETECTED": detected, "DETECTION_EDGE": edge & ~no_data}
    y, x = np.ogrid[-10:11, -10:11]
    kernel = np.exp(-4 * np.log(2) * (y**2 + x**2) / band.fwhm**2)
    psf = np.broadcast_to(kernel / kernel.sum(), (*patch.n_cells, 21, 21)).copy()
    return Planes(image, variance, mask, psf)


def _no_cells(_: ImageKey) -> frozenset[tuple[int, int]]:
    return frozenset()


def _catalog(repository: SkyRepository, wcs: astropy.wcs.WCS, band: _Band) -> pa.Table:
    sources = band.sources[np.argsort(-band.sources["flux"])]
    ra, dec = wcs.all_pix2world(sources["x"], sources["y"], 0)
    homes = [repository.home(float(a), float(d)) for a, d in zip(ra, dec, strict=True)]
    flux = sources["flux"].astype(float) * HSC_NJY_PER_COUNT
    columns: dict[str, tuple[Any, str, str]] = {
        "id": (np.arange(len(sources)) + 900_400_000_000_000_001, "", "Identifier."),
        "ra": (ra, "deg", "Right ascension, ICRS."),
        "dec": (dec, "deg", "Declination, ICRS."),
        "tract": (pa.array([home and home[0] for home in homes], pa.int32()), "", "Tract."),
        "patch": (pa.array([home and home[1] for home in homes], pa.int32()), "", "Patch."),
        "mag_r": (31.4 - 2.5 * np.log10(flux), "mag", "Isophotal AB magnitude in r."),
        "radius": (np.sqrt(sources["a"] * sources["b"]), "pixel", "Root of the product of the axes."),
        "blended": ((sources["flag"] & 1) != 0, "", "Whether the source was deblended."),
    }
    arrays = [pa.array(values) for values, _, _ in columns.values()]
    fields = [
        pa.field(name, array.type, metadata={"description": text} | ({"unit": unit} if unit else {}))
        for array, (name, (_, unit, text)) in zip(arrays, columns.items(), strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
