# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Product files in HDF5: the reader of what `hdf5` writes."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np

from ..errors import CorruptInputError, UserError
from ..tables import MaskPlane
from .layout import READABLE_VERSIONS, SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..header_wcs import HeaderWcs

__all__ = ("HDF5Reader",)


class HDF5Reader:
    """Reads one product file.

    Parameters
    ----------
    path
        File to read.

    Raises
    ------
    UserError
        Raised if a newer version of the package wrote the file.
    CorruptInputError
        Raised if the file is damaged, or is not a product file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with self._damage("the file"):
            # Products are read from shared disks that may know no locks.
            self._file = h5py.File(self.path, "r", locking="best-effort")
        self._check_version()
        self.bands: tuple[str, ...] = tuple(self.read("meta/band_order").tolist())
        self.size = int(self.read("meta/image_shape")[0])
        self.n_rows = int(self._dataset("catalog/row").shape[0])
        self._projections: dict[tuple[int, int], HeaderWcs] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __contains__(self, path: str) -> bool:
        with self._damage(path):
            return path in self._file

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def names(self, group: str) -> tuple[str, ...]:
        """Names of what a group holds.

        Parameters
        ----------
        group
            Path of the group.

        Returns
        -------
        names
            In alphabetic order; none if there is no such group.
        """
        with self._damage(group):
            return tuple(self._file[group]) if group in self._file else ()

    def read(self, path: str, index: Any = ()) -> np.ndarray:
        """Read a dataset or a part of it.

        Parameters
        ----------
        path
            Path of the dataset.
        index
            What h5py takes as an index; everything by default.

        Returns
        -------
        values
            Text as an array of `str`.

        Raises
        ------
        CorruptInputError
            Raised if it is missing or cannot be read.
        """
        dataset = self._dataset(path)
        with self._damage(path):
            values = np.asarray(dataset[index])
            return np.strings.decode(values, "utf-8") if values.dtype.kind == "S" else values

    def wcs_cards(self, tract: int, patch: int) -> str:
        """Projection of images for which the ``wcs`` columns are not exact.

        Parameters
        ----------
        tract, patch
            Patch of the images.

        Returns
        -------
        cards
            Header cards, a line each, in pixels of the tract.

        Raises
        ------
        CorruptInputError
            Raised if the file does not have them.
        """
        cards = self._wcs_cards.get((tract, patch))
        if cards is None:
            raise CorruptInputError(f"{self.path} is damaged: it has no projection of patch {patch}.")
        return cards

    def projection(self, tract: int, patch: int) -> HeaderWcs:
        """Projection that `wcs_cards` describe; made once for a patch.

        Parameters
        ----------
        tract, patch
            Patch of the images.

        Returns
        -------
        projection
            In pixels of the tract.

        Raises
        ------
        CorruptInputError
            Raised if the file does not have it.
        """
        # Most products need none, and astropy is slow to import.
        from ..header_wcs import HeaderWcs

        if (tract, patch) not in self._projections:
            self._projections[tract, patch] = HeaderWcs(self.wcs_cards(tract, patch))
        return self._projections[tract, patch]

    @functools.cached_property
    def _wcs_cards(self) -> dict[tuple[int, int], str]:
        """Cards by tract and patch, the first band's that has any."""
        places = zip(*(self.read(f"provenance/{name}").tolist() for name in ("tract", "patch")), strict=True)
        by_band = self.read("provenance/wcs").tolist()
        found: dict[tuple[int, int], str] = {}
        for place, texts in zip(places, by_band, strict=True):
            for cards in filter(None, texts):
                found.setdefault(place, cards)
        return found

    def kind(self, path: str) -> tuple[str, tuple[int, ...]]:
        """Tell type and shape of a dataset.

        Parameters
        ----------
        path
            Path of the dataset.

        Returns
        -------
        kind
            Name of numpy's type, or ``text``.
        shape
            Its shape.
        """
        dataset = self._dataset(path)
        return ("text" if dataset.dtype.kind in "SO" else dataset.dtype.name, tuple(dataset.shape))

    def attributes(self, path: str) -> dict[str, str]:
        """Read unit and description of a dataset.

        Parameters
        ----------
        path
            Path of the dataset.

        Returns
        -------
        attributes
            Text by name.
        """
        dataset = self._dataset(path)
        with self._damage(path):
            return {name: str(value) for name, value in dataset.attrs.items()}

    def meta(self, name: str) -> str:
        """Read a text of the ``meta`` group.

        Parameters
        ----------
        name
            Name in the group.

        Returns
        -------
        text
            Its value.
        """
        return str(self.read(f"meta/{name}")[()])

    @functools.cached_property
    def mask_planes(self) -> tuple[MaskPlane, ...]:
        """The table of mask planes; empty if the product has no masks."""
        if "meta/mask_planes" not in self:
            return ()
        names, bits, texts = (
            self.read(f"meta/mask_planes/{name}") for name in ("name", "bit", "description")
        )
        return tuple(
            MaskPlane(name=str(name), bit=int(bit), description=str(text))
            for name, bit, text in zip(names, bits, texts, strict=True)
        )

    def _check_version(self) -> None:
        if "meta/schema_version" not in self:
            raise CorruptInputError(f"{self.path} is not a file of cutouts: it has no meta/schema_version.")
        for name, known in (("schema_version", (SCHEMA_VERSION,)), ("writer_version", READABLE_VERSIONS)):
            version = self.meta(name)
            if version not in known:
                self.close()
                raise UserError(
                    f"{self.path} has {name} {version!r}, this version of dax_bulkcutout reads"
                    f" {' and '.join(map(repr, known))}: a newer version wrote the file, and reads it."
                )

    def _dataset(self, path: str) -> h5py.Dataset:
        with self._damage(path):
            return self._file[path]

    @contextlib.contextmanager
    def _damage(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, KeyError, RuntimeError, UnicodeDecodeError) as error:
            # The operating system's own refusals (no such file, no
            # permission, ...) prove nothing about the contents.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise CorruptInputError(f"{self.path} is damaged: cannot read {what}: {error}") from error
