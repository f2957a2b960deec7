# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cell coadds of the made-up sky, as DP2 has them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import astropy.units as u
import numpy as np

import lsst.images as li
from lsst.images import cells as lic
from lsst.images import fields as lif
from lsst.images import fits as lifits

from ..boxes import Box
from .layouts import Layout, Patch
from .noise import tract_noise
from .pixel_code import MASK_PLANES, PixelCode
from .rendering import Picture, cell_psf, render
from .sky import Sky

__all__ = ("COMPRESSIONS", "Planes", "build_coadd", "make_coadd", "sky_planes", "write_coadd")

COMPRESSIONS: Mapping[str, Mapping[str, lifits.FitsCompressionOptions]] = {
    # The defaults of lsst.images: lossless GZIP_2.
    "gzip": {},
    # What the recipe lossy16 of the Butler's configuration says.
    "rice": {
        "image": lifits.FitsCompressionOptions.LOSSY,
        "variance": lifits.FitsCompressionOptions.LOSSY,
    },
}
"""Write options by name: ``gzip`` loses nothing, ``rice`` quantizes image and
variance with dithering, as DP2's files do."""

_DETECTION_EDGE = 8
"""Width of the border of a patch without detection, px."""


@dataclasses.dataclass
class Planes:
    """Arrays of one image, all of the shape of the patch's outer box."""

    image: np.ndarray
    """nJy, float32; NaN where there is no data."""

    variance: np.ndarray
    """nJy**2, float32; NaN where there is no data."""

    mask: dict[str, np.ndarray]
    """Boolean pictures by name of plane; planes not named are empty."""

    psf: np.ndarray
    """Kernels by cell, ``(rows, columns, ky, kx)``, float64; NaN for missing
    cells."""

    missing: frozenset[tuple[int, int]] = frozenset()
    """Missing cells ``(row, column)``."""


def make_coadd(
    layout: Layout,
    tract: int,
    patch: int,
    band: str,
    *,
    sky: Sky | None = None,
    offset: float = 0.0,
    code: PixelCode | None = None,
    missing_cells: Collection[tuple[int, int]] = (),
    mask_planes: Sequence[str] = MASK_PLANES,
    psf_shape: tuple[int, int] = (21, 21),
    full: bool = False,
) -> lic.CellCoadd:
    """Make the coadd of one patch and band.

    Parameters
    ----------
    layout
        Sky map.
    tract, patch, band
        Which image.
    sky
        What it shows; the default sky if not given.
    offset
        Constant added to the image, nJy.
    code
        Pixel values that name their pixels, in place of the sky's; the PSF
        and the missing cells remain those of the sky.
    missing_cells
        Cells ``(row, column)`` of this image without data, besides those that
        the sky's ``missing_cell_fraction`` picks.
    mask_planes
        Names of the mask planes in the order of their bits.
    psf_shape
        Rows and columns of the PSF kernels.
    full
        Whether to add what DP2 files have besides: noise realization, mask
        fractions, aperture corrections and provenance.

    Returns
    -------
    coadd
        An `lsst.images.cells.CellCoadd`.
    """
    planes = sky_planes(
        layout,
        tract,
        patch,
        band,
        sky=sky or Sky(),
        offset=offset,
        code=code,
        missing_cells=missing_cells,
        psf_shape=psf_shape,
    )
    return build_coadd(layout, tract, patch, band, planes, mask_planes=mask_planes, full=full)


def sky_planes(
    layout: Layout,
    tract: int,
    patch: int,
    band: str,
    *,
    sky: Sky,
    offset: float = 0.0,
    code: PixelCode | None = None,
    missing_cells: Collection[tuple[int, int]] = (),
    psf_shape: tuple[int, int] = (21, 21),
) -> Planes:
    """Pixels of the coadd of one patch and band; arguments as `make_coadd`.

    Parameters
    ----------
    layout, tract, patch, band, sky, offset, code, missing_cells, psf_shape
        See `make_coadd`.

    Returns
    -------
    planes
        The pixels.
    """
    where, definition = layout.tracts[tract], layout.patch(tract, patch)
    box = definition.outer
    missing = set(missing_cells) | _random_missing(sky, tract, definition, band)
    if bad := [cell for cell in missing if not _in_grid(cell, definition)]:
        raise ValueError(f"No cells {bad} in patch {patch} of tract {tract}: it has {definition.n_cells}.")
    if code is None:
        picture = render(sky, where, definition, band)
        noise = tract_noise(sky.seed, tract, band, box)
        image = picture.image + noise * np.sqrt(picture.variance) + offset
        edge = np.ones(box.shape, dtype=bool)
        edge[_DETECTION_EDGE:-_DETECTION_EDGE, _DETECTION_EDGE:-_DETECTION_EDGE] = False
        picture.planes["DETECTION_EDGE"] = edge
        # A variance of zero is not a thing that weights can be made of.
        picture.variance = np.maximum(picture.variance, 1e-6)
    else:
        picture, image = _coded(code, tract, patch, band, box)
    psf = np.empty((*definition.n_cells, *psf_shape))
    for row, column in np.ndindex(*definition.n_cells):
        cell = _cell_box(definition, row, column)
        psf[row, column] = cell_psf(sky, where, band, (cell.y0, cell.x0)).kernel(psf_shape)
    planes = Planes(
        image.astype(np.float32),
        picture.variance.astype(np.float32),
        {"NO_DATA": np.zeros(box.shape, dtype=bool), **picture.planes},
        psf,
        frozenset(missing),
    )
    for row, column in missing:
        index = _cell_box(definition, row, column).slices(box)
        planes.image[index] = planes.variance[index] = np.nan
        psf[row, column] = np.nan
        for name, plane in planes.mask.items():
            plane[index] = name == "NO_DATA"
    return planes


def build_coadd(
    layout: Layout,
    tract: int,
    patch: int,
    band: str,
    planes: Planes,
    *,
    mask_planes: Sequence[str] = MASK_PLANES,
    full: bool = False,
    n_noise: int = 1,
    backgrounds: bool = True,
) -> lic.CellCoadd:
    """Put arrays into a cell coadd.

    Parameters
    ----------
    layout, tract, patch, band
        Which image.
    planes
        Its pixels.
    mask_planes, full
        See `make_coadd`.
    n_noise
        Number of noise realizations of a ``full`` coadd.  It has as many mask
        fractions, ``rejected`` and ``clipped`` at most.
    backgrounds
        Whether there are the background models ``pretty`` and ``object``, the
        second of which is subtracted.

    Returns
    -------
    coadd
        An `lsst.images.cells.CellCoadd`.
    """
    where, definition = layout.tracts[tract], layout.patch(tract, patch)
    box = _images_box(definition.outer)
    frame = li.TractFrame(skymap=layout.name, tract=tract, bbox=_images_box(where.bbox))
    projection = li.SkyProjection.from_fits_wcs(where.wcs, frame, pixel_bounds=frame.bbox)
    descriptions = {p.name: p.description for p in li.get_legacy_deep_coadd_mask_planes().values()}
    schema = li.MaskSchema(
        [li.MaskPlane(name, descriptions.get(name, f"Test plane {name}.")) for name in mask_planes]
    )
    mask = li.Mask(0, schema=schema, bbox=box)
    for name, plane in planes.mask.items():
        if name in schema:
            mask.set(name, plane)
    grid = lic.CellGrid(bbox=box, cell_shape=li.YX(y=definition.cell_shape[0], x=definition.cell_shape[1]))
    missing = frozenset(lic.CellIJ(i=row, j=column) for row, column in planes.missing)
    bounds = lic.CellGridBounds(grid=grid, bbox=box, missing=missing)
    coadd = lic.CellCoadd(
        li.Image(planes.image, bbox=box, unit=u.nJy, sky_projection=projection),
        mask=mask,
        variance=li.Image(planes.variance, bbox=box, unit=u.nJy**2),
        band=band,
        psf=lic.CellPointSpreadFunction(planes.psf, bounds),
        patch=lic.PatchDefinition(
            id=patch,
            index=li.YX(y=definition.index[0], x=definition.index[1]),
            inner_bbox=_images_box(definition.inner),
            cells=grid,
        ),
        backgrounds=_backgrounds(box, patch, band) if backgrounds else None,
        **(_extras(planes, bounds, band, [tract, patch, ord(band[0])], n_noise) if full else {}),
    )
    return coadd


def write_coadd(
    coadd: lic.CellCoadd, path: str | os.PathLike[str], compression: str = "gzip", **kwargs: Any
) -> None:
    """Write a coadd as the Butler's formatter does.

    Parameters
    ----------
    coadd
        The coadd.
    path
        A new file.
    compression
        Name of one of `COMPRESSIONS`.
    **kwargs
        Further arguments of `lsst.images.fits.write`.
    """
    seed = 1 + (7919 * coadd.tract + 101 * coadd.patch.id + ord((coadd.band or "?")[0])) % 9999
    lifits.write(
        coadd, os.fspath(path), compression_options=COMPRESSIONS[compression], compression_seed=seed, **kwargs
    )


def _coded(code: PixelCode, tract: int, patch: int, band: str, box: Box) -> tuple[Picture, np.ndarray]:
    y, x = np.mgrid[box.y0 : box.y1, box.x0 : box.x1]
    image, variance, mask = (
        code.expected_pixel(plane, tract, patch, band, y, x) for plane in ("image", "variance", "mask")
    )
    planes = {name: (mask & 1 << bit) != 0 for bit, name in enumerate(MASK_PLANES)}
    return Picture(image, variance, planes), image


def _random_missing(sky: Sky, tract: int, patch: Patch, band: str) -> set[tuple[int, int]]:
    if sky.missing_cell_fraction == 0.0:
        return set()
    rng = np.random.default_rng([sky.seed, 9, tract, patch.id, ord(band[0])])
    lost = rng.random(patch.n_cells) < sky.missing_cell_fraction
    return {(int(row), int(column)) for row, column in np.argwhere(lost)}


def _in_grid(cell: tuple[int, int], patch: Patch) -> bool:
    return 0 <= cell[0] < patch.n_cells[0] and 0 <= cell[1] < patch.n_cells[1]


def _cell_box(patch: Patch, row: int, column: int) -> Box:
    ny, nx = patch.cell_shape
    y0, x0 = patch.outer.y0 + row * ny, patch.outer.x0 + column * nx
    return Box(y0, y0 + ny, x0, x0 + nx)


def _images_box(box: Box) -> li.Box:
    return li.Box.factory[box.y0 : box.y1, box.x0 : box.x1]


def _backgrounds(box: li.Box, patch: int, band: str) -> li.BackgroundMap:
    """Models that differ from each other, and from patch to patch and band
    to band: ``pretty`` is a sum of splines, as in DP2, ``object`` a
    polynomial.
    """
    level = 1.0 + 0.3 * patch + 0.01 * (ord(band[0]) - ord("a"))
    rng = np.random.default_rng([patch, ord(band[0])])
    # More than 64 values go into an HDU of their own.
    y, x = (np.linspace(side.min + 5, side.max - 7, n) for side, n in ((box.y, 9), (box.x, 10)))
    grid = (level + rng.normal(0.0, 0.2, (9, 10))).astype(np.float32)
    grid[2, 3] = grid[4:, 8] = grid[:, 6] = np.nan
    small = np.array([[0.1, 0.5, -0.3], [0.2, -0.2, 0.4]]) * level
    pretty = lif.SumField(
        [
            lif.SplineField(box, grid, y=y, x=x, unit=u.nJy),
            lif.SplineField(box, small, y=y[[1, 7]], x=x[[0, 4, 9]], unit=u.nJy),
        ]
    )
    coefficients = np.array([[2.0 * level, 0.1, 0.3], [-0.2, 0.05, 0.0]])
    backgrounds = li.BackgroundMap()
    backgrounds.add("pretty", pretty, "Made-up background pretty.")
    polynomial = lif.ChebyshevField(box, coefficients, unit=u.nJy)
    backgrounds.add("object", polynomial, "Made-up background object.", is_subtracted=True)
    return backgrounds


def _extras(
    planes: Planes, bounds: lic.CellGridBounds, band: str, seed: list[int], n_noise: int
) -> dict[str, Any]:
    box = bounds.bbox
    rng = np.random.default_rng(seed)
    noise = [rng.standard_normal(planes.image.shape) * np.sqrt(planes.variance) for _ in range(n_noise)]
    fractions = {
        name: planes.mask.get(name.upper(), np.zeros(planes.image.shape)) * rng.random(planes.image.shape)
        for name in ("rejected", "clipped")[:n_noise]
    }
    corrections = np.where(np.isnan(planes.psf[:, :, 0, 0]), np.nan, 1.02)
    provenance = lic.CoaddProvenance
    inputs = provenance.make_empty_input_table(1)
    cells = sorted(bounds.cell_indices())
    contributions = provenance.make_empty_contribution_table(len(cells))
    # Slices, so that the columns keep their types.
    for table in (inputs, contributions):
        table["instrument"][:] = "DemoCam"
        table["visit"][:] = 1
        table["detector"][:] = 2
    inputs["physical_filter"][:] = f"{band}_demo"
    inputs["day_obs"][:] = 20260101
    inputs["polygon"][0] = li.Polygon.from_box(box)
    contributions["cell_i"][:] = [cell.i for cell in cells]
    contributions["cell_j"][:] = [cell.j for cell in cells]
    for name, value in (("overlap_fraction", 1.0), ("unmasked_fraction", 1.0), ("weight", 1.0)):
        contributions[name][:] = value
    return {
        "noise_realizations": [li.Image(each.astype(np.float32), bbox=box) for each in noise],
        "mask_fractions": {
            name: li.Image(each.astype(np.float32), bbox=box) for name, each in fractions.items()
        },
        "aperture_corrections": {"base_PsfFlux_instFlux": lic.CellField(bounds, corrections)},
        "provenance": provenance(inputs, contributions),
    }
