# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Reading binary tables of FITS files in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import astropy.io.fits
import numpy as np
import pyarrow as pa

from ..errors import UserError
from .file_bytes import CatalogBytes
from .files import Chunk
from .fits_columns import FitsColumn, fits_columns
from .frames import frame_of_radesys

__all__ = ("FitsFile",)

BLOCK_BYTES = 32 * 1024 * 1024
"""About how many bytes of rows are held at a time."""

MOST_ROW_BYTES = 64 * 1024 * 1024
MOST_HEADER_BLOCKS = 4000
"""A header with 144,000 cards is none."""

_FITS_BLOCK = 2880


class FitsFile:
    """A FITS catalog: the first binary table that has rows.

    The header is read by astropy, the rows as they come: so the file may be
    compressed, and memory does not grow with it.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    UserError
        Raised if the file is damaged or has no such table.
    """

    is_text = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        try:
            self._find_table()
        except (astropy.io.fits.VerifyError, LookupError, ValueError, TypeError, OverflowError) as error:
            # Cards are not understood before they are asked for.
            raise UserError(
                f"Catalog {path} cannot be read: a header in it is damaged ({str(error).rstrip('.')}). Copy "
                "it or write it again."
            ) from None

    def scan(self, columns: Sequence[str], *, batch_rows: int) -> Iterator[Chunk]:
        """Read some columns.

        Parameters
        ----------
        columns
            Names that occur once in `schema`, at least one.
        batch_rows
            Largest number of rows to read at a time.

        Yields
        ------
        chunk
            Rows in the order of the file, each row once.
        """
        wanted: dict[str, FitsColumn] = {
            name: self._columns[self.schema.get_field_index(name)] for name in columns
        }
        dtype = np.dtype(
            {
                "names": list(wanted),
                "formats": [column.raw for column in wanted.values()],
                "offsets": [column.offset for column in wanted.values()],
                "itemsize": self._row_bytes,
            }
        )
        block_rows = max(1, min(batch_rows, BLOCK_BYTES // self._row_bytes))
        n_rows = self.n_rows or 0
        with CatalogBytes(self.path) as contents:
            contents.skip(self._start)
            for start in range(0, n_rows, block_rows):
                n = min(block_rows, n_rows - start)
                data = contents.read(n * self._row_bytes)
                if len(data) < n * self._row_bytes:
                    raise self._cut_short(f"row {start + len(data) // self._row_bytes}")
                rows = np.frombuffer(data, dtype)
                arrays = {name: column.values(rows[name]) for name, column in wanted.items()}
                yield Chunk(start, n, arrays)
        for name, column in wanted.items():
            if column.has_odd_text:
                warning = (
                    f"Catalog {self.path}: column {name} has text that is not UTF-8; what cannot be read is "
                    "replaced by \N{REPLACEMENT CHARACTER}."
                )
                if warning not in self.warnings:
                    self.warnings.append(warning)

    def _find_table(self) -> None:
        start, empty = 0, False
        with CatalogBytes(self.path) as contents:
            while (header := self._read_header(contents)) is not None:
                header, n_bytes = header
                start += n_bytes
                n_data = self._data_bytes(header)
                if self._is_table(header):
                    if header["NAXIS2"] > 0:
                        break
                    empty = True
                padded = -(-n_data // _FITS_BLOCK) * _FITS_BLOCK
                contents.skip(padded)
                start += padded
            else:
                what = "a binary table, but it has no rows" if empty else "no binary table"
                raise UserError(
                    f"Catalog {self.path} is a FITS file with {what}: catalogs are read from the first "
                    "binary table that has rows."
                )
            self.n_rows: int | None = int(header["NAXIS2"])
            self._row_bytes = int(header["NAXIS1"])
            self._start = start
            if contents.n_left is not None and contents.n_left < self.n_rows * self._row_bytes:
                raise self._cut_short(f"row {contents.n_left // self._row_bytes}")
        if header.get("ZTABLE") is True:
            raise UserError(
                f"Catalog {self.path} holds a compressed table (fpack): unpack it with `funpack`."
            )
        self._columns = fits_columns(header, self._row_bytes)
        metadata = {}
        if frame := frame_of_radesys(header.get("RADESYS", header.get("RADECSYS")), header.get("EQUINOX")):
            metadata["frame"] = frame
        self.schema = pa.schema([column.field for column in self._columns], metadata=metadata)

    def _read_header(self, contents: CatalogBytes) -> tuple[Any, int] | None:
        blocks = []
        while block := contents.read(_FITS_BLOCK):
            blocks.append(block)
            if len(block) < _FITS_BLOCK or len(blocks) > MOST_HEADER_BLOCKS:
                break
            cards = [block[at : at + 8] for at in range(0, _FITS_BLOCK, 80)]
            if b"END     " in cards:
                header = astropy.io.fits.Header.fromstring(b"".join(blocks))
                return self._checked(header), _FITS_BLOCK * len(blocks)
        if blocks and any(block.strip(b"\0 ") for block in blocks):
            raise self._cut_short("a header")
        return None

    @staticmethod
    def _checked(header: Any) -> Any:
        numbers = ["BITPIX", "NAXIS", *(f"NAXIS{n}" for n in range(1, int(header["NAXIS"]) + 1))]
        if header.get("XTENSION") == "BINTABLE":
            numbers += ["PCOUNT", "GCOUNT", "TFIELDS"]
            if header["NAXIS"] != 2:
                raise ValueError(f"a table with NAXIS={header['NAXIS']}")
            if header["NAXIS2"] > 0 and not 0 < header["NAXIS1"] <= MOST_ROW_BYTES:
                raise ValueError(f"rows of NAXIS1={header['NAXIS1']} bytes")
        for name in numbers:
            if type(header[name]) is not int or (header[name] < 0 and name != "BITPIX"):
                raise ValueError(f"{name} is {header[name]!r}")
        return header

    @staticmethod
    def _is_table(header: Any) -> bool:
        return header.get("XTENSION") == "BINTABLE" and header.get("ZIMAGE") is not True

    @staticmethod
    def _data_bytes(header: Any) -> int:
        axes = [header[f"NAXIS{n}"] for n in range(1, header["NAXIS"] + 1)]
        if not axes:
            return 0
        if axes[0] == 0 and header.get("GROUPS") is True:
            axes = axes[1:]
        n_values = int(np.prod(np.array(axes, dtype=object)))
        n_values = int(header.get("GCOUNT", 1)) * (int(header.get("PCOUNT", 0)) + n_values)
        return n_values * abs(int(header["BITPIX"])) // 8

    def _cut_short(self, where: str) -> UserError:
        return UserError(
            f"Catalog {self.path} cannot be read: it was cut short in {where}. Copy it or write it again."
        )
