# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Are the cutouts of a tool the right ones?

The reference is what CFITSIO gives (by fitsio, whole planes), cut by index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fitsio
import h5py
import numpy as np

from .tools.work import PLANES

__all__ = ("WrongPixelsError", "check_cutouts", "check_product")


class WrongPixelsError(Exception):
    """A tool gave other pixels than the reference."""


def check_cutouts(job: Mapping[str, Any], *, pixels: bool = True) -> None:
    """Compare raw cutouts with the reference, bit for bit.

    Parameters
    ----------
    job
        The job that gave them.
    pixels
        Whether there are any; the limit only has as many bytes.

    Raises
    ------
    WrongPixelsError
        Raised if one pixel differs, or a cutout is missing.
    """
    size, n, directory = job["size"], job["n"], Path(job["output"])
    order = np.load(directory / "order.npy")
    if not np.array_equal(np.sort(order), np.arange(n)):
        raise WrongPixelsError(f"Not each of {n} cutouts came once.")
    with np.load(job["targets"]) as columns:
        first_y, first_x = columns["first_y"][order], columns["first_x"][order]
    for plane, dtype in PLANES.items():
        path = directory / f"{plane}.raw"
        if path.stat().st_size != n * size**2 * np.dtype(dtype).itemsize:
            raise WrongPixelsError(f"{path.name} has {path.stat().st_size} bytes.")
        if not pixels:
            continue
        found = np.memmap(path, dtype=np.int32, mode="r", shape=(n, size, size))
        expected = fitsio.read(job["path"], ext=job["planes"][plane]).astype(dtype, copy=False)
        expected = expected.view(np.int32)
        for row, (y, x) in enumerate(zip(first_y.tolist(), first_x.tolist(), strict=True)):
            if not np.array_equal(found[row], expected[y : y + size, x : x + size]):
                raise WrongPixelsError(f"{plane} of target {order[row]} differs from the reference.")


def check_product(
    path: Path,
    *,
    ids: str,
    planes: Mapping[str, str],
    hdus: Mapping[str, str | int],
    images: Sequence[Mapping[str, str]],
    first_y: np.ndarray,
    first_x: np.ndarray,
) -> None:
    """Compare an HDF5 product with the reference, bit for bit.

    Parameters
    ----------
    path
        The product; target k has identifier k.
    ids
        Dataset of the identifiers.
    planes
        Datasets ``(target, band, y, x)`` by plane.
    hdus
        HDUs of the images by plane.
    images
        For each target its image files by band, in the product's order if it
        does not state one.
    first_y, first_x
        First pixels of the boxes.

    Raises
    ------
    WrongPixelsError
        Raised if one pixel differs, or a cutout is missing.
    """
    with h5py.File(path) as file:
        found_ids = file[ids][:].astype(np.int64)
        if not np.array_equal(np.sort(found_ids), np.arange(len(images))):
            raise WrongPixelsError(f"Not each of {len(images)} targets is in {path} once.")
        bands = list(images[0])
        if "images/band" in file:
            bands = [band.decode() for band in file["images/band"][0]]
        groups: dict[tuple[int, str], list[int]] = {}
        for row, target in enumerate(found_ids.tolist()):
            for number, band in enumerate(bands):
                groups.setdefault((number, images[target][band]), []).append(row)
        for (number, image), rows in groups.items():
            for plane, name in planes.items():
                expected = fitsio.read(image, ext=hdus[plane]).astype(PLANES[plane], copy=False)
                expected = expected.view(np.int32)
                stored = file[name]
                for row in rows:
                    y, x = int(first_y[found_ids[row]]), int(first_x[found_ids[row]])
                    size = stored.shape[-1]
                    pixels = stored[row, number].view(np.int32)
                    if not np.array_equal(pixels, expected[y : y + size, x : x + size]):
                        raise WrongPixelsError(
                            f"{plane} of target {found_ids[row]} in {image} differs from the reference."
                        )
