# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Where on the sky the cutouts of a product are."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from ..formats.hdf5_reader import HDF5Reader
from ..header_wcs import HeaderWcs

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
    tract, patch = (reader.read(f"catalog/{name}", some) for name in ("tract", "patch"))
    input_tract, input_patch = (reader.read(f"provenance/{name}") for name in ("tract", "patch"))
    for number, texts in enumerate(reader.read("provenance/wcs")):
        here = linear & (tract == input_tract[number]) & (patch == input_patch[number])
        cards = next((str(text) for text in texts if text), None)
        if cards is not None and here.any():
            sky = HeaderWcs(cards).pixel_to_sky(pixels[here, :, 0], pixels[here, :, 1])
            found[here] = np.stack(sky, axis=-1)


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
    xi, eta = plane[..., 0], plane[..., 1]
    ra0, dec0 = np.radians(crval).T[:, :, None]
    forward = np.cos(dec0) - eta * np.sin(dec0)
    ra = np.degrees(ra0 + np.arctan2(xi, forward)) % 360.0
    dec = np.degrees(np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, forward)))
    return np.stack([np.where(ra < 360.0, ra, 0.0), dec], axis=-1)
