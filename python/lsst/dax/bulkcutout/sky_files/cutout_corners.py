# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Where on the sky the cutouts of a product are."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from ..formats.hdf5_reader import HDF5Reader
from ..wcs import tangent_plane_to_sky

__all__ = ("corners", "read_corners")

_BLOCK_ROWS = 100_000


def read_corners(path: str | os.PathLike[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read where the cutouts of a data file are.

    Parameters
    ----------
    path
        Data file of a product.

    Yields
    ------
    row
        Rows of the catalog, shape ``(n,)``, in the order of the file.
    corners
        What `corners` gives, shape ``(n, 4, 2)``.

    Raises
    ------
    CorruptInputError
        Raised if the file is damaged.
    """
    with HDF5Reader(path) as reader:
        for start in range(0, reader.n_rows, _BLOCK_ROWS):
            some = slice(start, start + _BLOCK_ROWS)
            terms = (reader.read(f"wcs/{name}", some) for name in ("crval", "crpix", "cd"))
            found = corners(*terms, size=reader.size)
            _correct(found, reader, some)
            yield reader.read("catalog/row", some), found


def _correct(found: np.ndarray, reader: HDF5Reader, some: slice) -> None:
    """Put the corners of cutouts right whose ``wcs`` columns are linear terms
    of another projection; they stay in their order.
    """
    linear = ~reader.read("wcs/exact", some)
    if not linear.any():
        return
    values = {name: reader.read(f"catalog/{name}", some) for name in ("x", "y", "x_cutout", "y_cutout")}
    first = np.stack([np.rint(values[axis] - values[f"{axis}_cutout"]) for axis in "xy"], axis=-1)
    low, high = -0.5, reader.size - 0.5
    pixels = first[:, None] + np.array([[low, low], [high, low], [high, high], [low, high]])
    flipped = np.linalg.det(reader.read("wcs/cd", some)) > 0
    pixels[flipped] = pixels[flipped, ::-1]
    places = np.stack([reader.read(f"catalog/{name}", some) for name in ("tract", "patch")], axis=-1)
    for tract, patch in np.unique(places[linear], axis=0).tolist():
        here = linear & (places == (tract, patch)).all(axis=1)
        projection = reader.projection(tract, patch)
        found[here] = np.stack(projection.pixel_to_sky(*np.moveaxis(pixels[here], -1, 0)), axis=-1)


def corners(crval: np.ndarray, crpix: np.ndarray, cd: np.ndarray, *, size: int) -> np.ndarray:
    """Outer corners of square cutouts.

    Parameters
    ----------
    crval
        Tangent points, ICRS degrees, shape ``(n, 2)``.
    crpix
        Their pixels (x, y), where the centre of the first pixel is 1, shape
        ``(n, 2)``.
    cd
        Degrees per pixel, shape ``(n, 2, 2)``.
    size
        Side of the cutouts in pixels.

    Returns
    -------
    corners
        Right ascension (0 to 360) and declination of the four corners, ICRS
        degrees, shape ``(n, 4, 2)``, counter-clockwise with north up and east
        to the left.
    """
    low, high = 0.5, size + 0.5
    pixels = np.array([[low, low], [high, low], [high, high], [low, high]])
    plane = np.radians(np.einsum("nij,ncj->nci", cd, pixels - crpix[:, None]))
    # A projection that is not mirrored has its x axis towards the east.
    flipped = np.linalg.det(cd) > 0
    plane[flipped] = plane[flipped, ::-1]
    ra0, dec0 = crval.T[:, :, None]
    return np.stack(tangent_plane_to_sky(plane[..., 0], plane[..., 1], ra0, dec0), axis=-1)
