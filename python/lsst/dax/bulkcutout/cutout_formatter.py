# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How the Butler stores cutout datasets: as they are written, as a stream."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lsst.daf.butler import FormatterV2, StorageClassConfig, StorageClassFactory
from lsst.resources import ResourcePath

__all__ = (
    "STORAGE_CLASS",
    "STORAGE_CLASS_DEFINITION",
    "CutoutFormatter",
    "CutoutStream",
    "define_storage_class",
)

STORAGE_CLASS = "BulkCutouts"
"""Storage class of cutout datasets."""

STORAGE_CLASS_DEFINITION = {"pytype": f"{__name__}.CutoutStream"}
"""What the Butler must know of it."""


class CutoutStream:
    """A cutout dataset that does not exist before it is written.

    The Butler stores objects; this one stands for the work of making a file,
    so that a dataset of any size is never in memory.

    Parameters
    ----------
    write
        Called with the path of the file to make.
    """

    def __init__(self, write: Callable[[Path], None]) -> None:
        self._write = write
        self.error: Exception | None = None
        """What went wrong in writing; the Butler wraps it in an error of its
        own."""

    def write(self, path: Path) -> None:
        """Make the file.

        Parameters
        ----------
        path
            Local file; does not exist.
        """
        try:
            self._write(path)
        except Exception as error:
            self.error = error
            raise


class CutoutFormatter(FormatterV2):
    """Writes `CutoutStream` objects; reading gives one that copies."""

    default_extension = ".hdf5"
    can_read_from_local_file = True

    def can_accept(self, in_memory_dataset: Any) -> bool:
        """Tell whether this formatter writes an object."""
        return isinstance(in_memory_dataset, CutoutStream)

    def write_local_file(self, in_memory_dataset: CutoutStream, uri: ResourcePath) -> None:
        """Write an object to a file."""
        in_memory_dataset.write(Path(uri.ospath))

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        """Read a file, for copies: what is in it, `CutoutDataset` tells."""

        def copy(target: Path) -> None:
            shutil.copyfile(path, target)

        return CutoutStream(copy)


def define_storage_class() -> None:
    """Make the storage class known to the Butler of this process.

    The jobs of a campaign know it from their Butler configuration; the graph
    builder reads the source repository with that repository's own.
    """
    StorageClassFactory().addFromConfig(StorageClassConfig({STORAGE_CLASS: STORAGE_CLASS_DEFINITION}))
