# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What all files of a product have in common, whatever they hold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from ..campaign import write_atomically
from ..cutout_dataset import CutoutDataset
from ..masks import merge_mask_planes
from ..quantum_output import QuantumOutput
from ..tables import MaskPlane

__all__ = ("SharedContents", "find_shared", "read_shared", "write_shared")


@dataclasses.dataclass(frozen=True)
class SharedContents:
    """What all files of a product have in common."""

    mask_planes: tuple[MaskPlane, ...]
    """The table of mask planes."""

    psf_shape: tuple[int, int] | None
    """Rows and columns of the kernels; `None` if there are none."""

    n_noise: int
    """Number of noise realizations."""

    mask_fractions: tuple[str, ...]
    """Names of the mask fractions."""


def find_shared(outputs: Iterable[QuantumOutput]) -> SharedContents:
    """Find what the cutout datasets have in common: every one is opened.

    Parameters
    ----------
    outputs
        State of the quanta, in an order that does not depend on circumstance.

    Returns
    -------
    shared
        What holds for all files of the product.
    """
    # Of as many tables as there are quanta there are few different ones.
    mask_tables: dict[tuple[MaskPlane, ...], None] = {}
    shapes: set[tuple[int, int]] = set()
    n_noise = 0
    mask_fractions: set[str] = set()
    for output in outputs:
        if output.path is not None:
            with CutoutDataset(output.path) as dataset:
                mask_tables.setdefault(dataset.mask_planes)
                # One pixel stands for no PSF at all.
                if (shape := dataset.psf_shape) is not None and shape != (1, 1):
                    shapes.add(shape)
                n_noise = max(n_noise, len(dataset.extra_planes.get("noise", ())))
                mask_fractions.update(dataset.extra_planes.get("mask_fraction", ()))
    return SharedContents(
        mask_planes=merge_mask_planes(list(mask_tables)),
        psf_shape=(max(s[0] for s in shapes), max(s[1] for s in shapes)) if shapes else None,
        n_noise=n_noise,
        mask_fractions=tuple(sorted(mask_fractions)),
    )


def write_shared(path: Path, shared: SharedContents) -> None:
    """Write it down for other processes.

    Parameters
    ----------
    path
        File to write (JSON).
    shared
        What was found.
    """
    write_atomically(path, json.dumps(dataclasses.asdict(shared)))


def read_shared(path: Path) -> SharedContents:
    """Read what `write_shared` wrote.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    shared
        What was found.
    """
    fields = json.loads(path.read_text())
    return SharedContents(
        mask_planes=tuple(MaskPlane(**plane) for plane in fields["mask_planes"]),
        psf_shape=None if fields["psf_shape"] is None else tuple(fields["psf_shape"]),
        n_noise=fields["n_noise"],
        mask_fractions=tuple(fields["mask_fractions"]),
    )
