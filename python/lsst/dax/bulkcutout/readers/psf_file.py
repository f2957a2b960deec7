# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Files that hold a PSF model and nothing else: PSFEx's ``.psf``, or a table
with the width of a Gaussian.
"""

from __future__ import annotations

import math

import numpy as np

from ..boxes import Box
from ..errors import UserError
from .byte_source import Location
from .fits_extension import walk_extensions
from .fits_file import FitsFile
from .fits_header import FitsHeader
from .fits_table import FitsTable
from .model_cells import ModelCells
from .psf_models import GaussianPsf, PsfexPsf, PsfModel

__all__ = ("read_psf_file",)

_SIGMAS_IN_KERNEL = 5


def read_psf_file(path: Location, bbox: Box) -> ModelCells:
    """Read the PSF of an image from a file of its own.

    Parameters
    ----------
    path
        File: a table with the column ``PSF_MASK`` as PSFEx writes it, whose
        positions count the image's pixels from 1; or a table with one row
        and the column ``sigma`` (pixels), and ``dimensions_x`` and
        ``dimensions_y`` for the size of the kernel.
    bbox
        Absolute pixels of the image.

    Returns
    -------
    cells
        Kernels for each pixel of the image, or one for all.

    Raises
    ------
    UserError
        Raised if there is no such table, or a model that is not read here.
    CorruptInputError
        Raised if the table contradicts itself.
    """
    with FitsFile(path) as file:
        for extension in walk_extensions(file):
            if str(extension.header.values.get("XTENSION")).strip() != "BINTABLE":
                continue
            table = FitsTable(extension.header)
            columns = set(table.rows.dtype.names or ())
            if len(table.rows) != 1 or not columns & {"PSF_MASK", "sigma"}:
                continue
            model: PsfModel
            try:
                if "PSF_MASK" in columns:
                    model = _psfex(extension.header, table, bbox)
                else:
                    model = _gaussian(table, columns)
            except ValueError as error:
                raise file.corrupt(str(error)) from None
            return ModelCells(model, bbox)
    raise UserError(
        f"{path}: it has no PSF that can be read: allowed are the files of PSFEx (a table with the column "
        "PSF_MASK), and tables of one row with the column sigma."
    )


def _psfex(header: FitsHeader, table: FitsTable, bbox: Box) -> PsfModel:
    n_axes, n_groups = header.integer("POLNAXIS", 0), header.integer("POLNGRP", 0)
    names = [header.text(f"POLNAME{axis}", "") for axis in range(1, n_axes + 1)]
    known = n_axes == 0 or (n_axes == 2 and n_groups == 1 and _are_positions(names))
    if not known:
        raise UserError(
            f"{header.file.path}: its PSFEx model depends on {', '.join(names) or 'nothing'} in {n_groups} "
            "groups; read here are models that depend on X_IMAGE and Y_IMAGE in one group."
        )
    sides = [header.integer(f"PSFAXIS{axis}", 1, minimum=1) for axis in (1, 2, 3)]
    masks = np.ravel(table.rows["PSF_MASK"][0]).astype(np.float64)
    if masks.size != math.prod(sides):
        raise ValueError(f"its PSF_MASK has {masks.size} values instead of {math.prod(sides)}")
    first = (bbox.x0 - 1.0, bbox.y0 - 1.0)
    return PsfexPsf(
        masks.reshape(sides[::-1]),
        degree=header.integer("POLDEG1", minimum=0) if n_axes else 0,
        zero=(header.number("POLZERO1", 0.0), header.number("POLZERO2", 0.0)),
        scale=(header.number("POLSCAL1", 1.0), header.number("POLSCAL2", 1.0)),
        step=header.number("PSF_SAMP"),
        origin=first,
    )


def _are_positions(names: list[str]) -> bool:
    return [name.strip().upper()[:2] for name in names] in (["X_", "Y_"], ["XW", "YW"]) and all(
        name.strip().upper().endswith("_IMAGE") for name in names
    )


def _gaussian(table: FitsTable, columns: set[str]) -> PsfModel:
    row = table.rows[0]
    sigma = float(np.ravel(row["sigma"])[0])
    side = 2 * math.ceil(_SIGMAS_IN_KERNEL * sigma) + 1 if 0 < sigma < 1e3 else 1
    shape = (side, side)
    if {"dimensions_x", "dimensions_y"} <= columns:
        shape = (int(row["dimensions_y"]), int(row["dimensions_x"]))
    return GaussianPsf(sigma, shape)
