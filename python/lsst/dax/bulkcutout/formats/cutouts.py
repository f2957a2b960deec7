# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Reading a product back: `open_cutouts`."""

from __future__ import annotations

import collections
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import pyarrow.parquet as pq

from ..errors import CorruptInputError, UserError
from .cutout import Cutout
from .hdf5_reader import HDF5Reader
from .row_index import RowIndex

__all__ = ("Cutouts", "open_cutouts")

_MOST_OPEN_FILES = 16


def open_cutouts(path: str | os.PathLike[str]) -> Cutouts:
    """Open a product of cutouts.

    Parameters
    ----------
    path
        Directory of the product, one of the directories in it (``size=64``,
        ``size=64/healpix=0042``), or one of its data files.

    Returns
    -------
    cutouts
        The cutouts, in the order of the files.  Files are opened when they
        are needed; use it as a context manager, or call its ``close``.

    Raises
    ------
    UserError
        Raised if there are no cutouts at ``path``, or a newer version of the
        package wrote them.
    CorruptInputError
        Raised if a file is damaged, or is not a product file.

    Examples
    --------
    ::

        with open_cutouts("out") as cutouts:
            first = cutouts[0]
            pixels = first.image("r")
            saturated = first.mask_plane("SATURATED", "r")
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is nothing at {path}: give the directory of a product, or one of its files.")
    product = _product_of(path)
    if path.is_file():
        return Cutouts([path], product=product)
    inside = path.relative_to(product).as_posix() if path != product else ""
    files = sorted(path.rglob("*.hdf5") if inside else path.glob("size=*/**/*.hdf5"), key=_natural)
    missing = sorted(_promised(product, inside) - set(files))
    if missing:
        raise CorruptInputError(f"{missing[0]} is missing: the manifest of the product lists it.")
    if not files and not (product / "manifest.json").exists():
        raise UserError(f"{path} holds no cutouts: give the directory of a product, or one of its files.")
    return Cutouts(files, product=product)


class Cutouts(Sequence[Cutout]):
    """Cutouts of a product, by number, catalog row, identifier or position.

    Parameters
    ----------
    files
        Data files, in the order of their rows.
    product
        Directory of the product, whose ``status.parquet`` tells of rows that
        have no cutout.

    Notes
    -----
    A product may hold cutouts of several sizes; each of them knows its own,
    and `of_size` gives those of one size.
    """

    def __init__(self, files: Sequence[Path], *, product: Path) -> None:
        self._files = tuple(files)
        self._product = product
        self._open: collections.OrderedDict[int, HDF5Reader] = collections.OrderedDict()
        self._closed = False
        self._index: RowIndex | None = None
        self._stops: np.ndarray | None = None
        self._sizes: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __len__(self) -> int:
        stops = self._row_stops()
        return int(stops[-1]) if len(stops) else 0

    @overload
    def __getitem__(self, index: int) -> Cutout: ...
    @overload
    def __getitem__(self, index: slice) -> list[Cutout]: ...
    def __getitem__(self, index: int | slice) -> Cutout | list[Cutout]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return Cutout(self, *self.place(int(index)))

    def __iter__(self) -> Iterator[Cutout]:
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        sizes = "no size" if not self.sizes else ", ".join(f"{size} px" for size in self.sizes)
        return f"<{len(self)} cutouts of {sizes} in {len(self._files)} files>"

    @property
    def files(self) -> tuple[Path, ...]:
        """The data files."""
        return self._files

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the cutouts in pixels, ascending."""
        self._row_stops()
        return tuple(sorted(set(self._sizes)))

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands of every cutout, in the order of the files."""
        return self.reader(0).bands if self._files else ()

    def of_size(self, size: int) -> Cutouts:
        """Cutouts of one size.

        Parameters
        ----------
        size
            Side in pixels.

        Returns
        -------
        cutouts
            Opens files of its own; to be closed by itself.

        Raises
        ------
        UserError
            Raised if there are none of this size.
        """
        if size not in self.sizes:
            known = ", ".join(str(known) for known in self.sizes) or "none"
            raise UserError(f"There are no cutouts of {size} px here; the sizes are: {known}.")
        files = [file for file, of in zip(self._files, self._sizes, strict=True) if of == size]
        return Cutouts(files, product=self._product)

    def by_row(self, row: int) -> Cutout:
        """Find the cutout of a row of the catalog.

        Parameters
        ----------
        row
            Zero-based number of the row in the user's catalog.

        Returns
        -------
        cutout
            Its cutout.

        Raises
        ------
        UserError
            Raised if the row has no cutout; the message says why not.
        """
        found = self._rows().by_row(row)
        if found is None:
            raise UserError(f"Row {row} of the catalog has no cutout here: {self._why_not(row)}")
        return self[found]

    def by_id(self, identifier: int | str) -> list[Cutout]:
        """Find the cutouts of an identifier.

        Parameters
        ----------
        identifier
            Identifier as in the catalog, number or text.

        Returns
        -------
        cutouts
            As many as the catalog has delivered rows with it; may be none.

        Raises
        ------
        UserError
            Raised if a number is given and the identifiers are text, or the
            other way round.
        """
        return [self[number] for number in self._rows().by_id(identifier)]

    def near(self, ra: float, dec: float, radius_arcsec: float) -> list[Cutout]:
        """Find cutouts by position.

        Parameters
        ----------
        ra, dec
            Position, ICRS degrees.
        radius_arcsec
            Largest distance of a target from it.

        Returns
        -------
        cutouts
            The nearest first; may be none.
        """
        return [self[number] for number in self._rows().near(ra, dec, radius_arcsec)]

    def psf(self, index: int, band: str, at: str = "cell") -> np.ndarray:
        """Read the PSF of one cutout.

        Parameters
        ----------
        index
            Number of the cutout, as in ``cutouts[index]``.
        band
            Name of the band.
        at
            ``cell`` or ``target``: see `Cutout.psf`.

        Returns
        -------
        kernel
            Shape ``(ky, kx)``, float32; NaN where there is none.
        """
        return self[index].psf(band, at=at)

    def place(self, number: int) -> tuple[int, int]:
        """Tell where a cutout is.

        Parameters
        ----------
        number
            Number of the cutout, as in ``cutouts[number]``.

        Returns
        -------
        file
            Number of its data file in `files`.
        index
            Row of that file.

        Raises
        ------
        IndexError
            Raised if there are not so many cutouts.
        """
        if not -len(self) <= number < len(self):
            raise IndexError(f"There is no cutout {number}: there are {len(self)}.")
        number %= len(self)
        stops = self._row_stops()
        file = int(np.searchsorted(stops, number, side="right"))
        return file, number - (int(stops[file - 1]) if file else 0)

    def close(self) -> None:
        """Close all files; nothing can be read afterwards."""
        self._closed = True
        while self._open:
            self._open.popitem()[1].close()

    def reader(self, file: int) -> HDF5Reader:
        """Open one of the files, or find it open.

        Parameters
        ----------
        file
            Number of the file.

        Returns
        -------
        reader
            To be used at once: the least recently used file is closed when
            too many are open.
        """
        if self._closed:
            raise ValueError("These cutouts have been closed: open them again.")
        if file in self._open:
            self._open.move_to_end(file)
            return self._open[file]
        try:
            reader = HDF5Reader(self._files[file])
        except FileNotFoundError as error:
            raise CorruptInputError(f"{self._files[file]} has gone since the product was opened.") from error
        self._open[file] = reader
        if len(self._open) > _MOST_OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return reader

    def _row_stops(self) -> np.ndarray:
        if self._stops is None:
            readers = (self.reader(file) for file in range(len(self._files)))
            counts = []
            for reader in readers:
                counts.append(reader.n_rows)
                self._sizes.append(reader.size)
            self._stops = np.cumsum(np.array(counts, dtype=np.int64))
        return self._stops

    def _rows(self) -> RowIndex:
        if self._index is None:
            self._index = RowIndex(self.reader(file) for file in range(len(self._files)))
        return self._index

    def _why_not(self, row: int) -> str:
        status = self._product / "status.parquet"
        if not status.exists():
            return "there is no status.parquet beside the files to say why."
        columns = ["status", "reason", "file"]
        answers = pq.read_table(status, columns=columns, filters=[("row", "==", int(row))]).to_pylist()
        if not answers:
            return "the catalog has no such row."
        answer: dict[str, Any] = answers[0]
        return (
            f"{answer['status']}: {answer['reason']}" if answer["reason"] else f"it is in {answer['file']}."
        )


def _product_of(path: Path) -> Path:
    """Directory of the product that a file or directory belongs to."""
    directory = path.parent if path.is_file() else path
    if re.fullmatch(r"healpix=\d+", directory.name):
        directory = directory.parent
    return directory.parent if re.fullmatch(r"size=\d+", directory.name) else directory


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort numbers in names as numbers."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _promised(product: Path, directory: str) -> set[Path]:
    # A file that has been lost must not pass for one that never was.
    manifest = product / "manifest.json"
    if not manifest.exists():
        return set()
    try:
        listed = [entry["path"] for entry in json.loads(manifest.read_text())["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptInputError(f"{manifest} is damaged: {error}") from error
    return {
        product / name
        for name in listed
        if name.endswith(".hdf5") and (not directory or name.startswith(f"{directory}/"))
    }
