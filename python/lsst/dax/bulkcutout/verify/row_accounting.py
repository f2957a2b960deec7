# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Does every row of the catalog have its one answer, and is it true?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import CorruptInputError
from ..formats.hdf5_reader import HDF5Reader
from ..manifest import STATUS_NAME, ProductFile
from ..tables import BAND_NO_DATASET, BAND_OK, DELIVERED, STATUS

__all__ = ("Problem", "StatusTable", "check_data_file", "read_status")

_COLUMNS = (
    ("row", "catalog/row"),
    ("target_id", "catalog/object_id"),
    ("ra", "catalog/ra"),
    ("dec", "catalog/dec"),
    ("tract", "catalog/tract"),
    ("patch", "catalog/patch"),
    ("fallback", "catalog/fallback"),
)
"""Columns of ``status.parquet`` and what must be equal in the data files."""

_NOT_IN_VERSION_1 = {"fallback"}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a product."""

    check: str
    """Check that found it: checksums, rows or pixels."""

    file: str
    """File of the product."""

    dataset: str = ""
    """Dataset or column in it."""

    row: int | None = None
    """Row of the user's catalog."""

    message: str = ""
    """What is wrong."""

    def __str__(self) -> str:
        where = [self.file, self.dataset, "" if self.row is None else f"row {self.row}"]
        return f"{', '.join(part for part in where if part)}: {self.message}"


@dataclasses.dataclass(frozen=True)
class StatusTable:
    """What ``status.parquet`` says, as far as it is compared."""

    counts: dict[str, int]
    """Number of rows by status."""

    files: tuple[str, ...]
    """Data files that delivered rows are in."""

    delivered: pa.Table
    """The rows that are in a file, by file and index."""

    starts: dict[str, tuple[int, int]]
    """First row of each file in ``delivered``, and the one after its last."""


def read_status(path: Path, problems: list[Problem]) -> StatusTable:
    """Read ``status.parquet`` and check what can be without data files.

    Parameters
    ----------
    path
        The file.
    problems
        What is found wrong is added here.

    Returns
    -------
    status
        Its contents.

    Raises
    ------
    CorruptInputError
        Raised if it cannot be read.
    """
    counts: dict[str, int] = {}
    parts = []
    n_rows = 0
    wanted = [*(name for name, _ in _COLUMNS), "status", "reason", "size_pixels", "file", "index", "bands"]
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            wanted = [name for name in wanted if name in schema.names or name not in _NOT_IN_VERSION_1]
            if missing := [name for name in wanted if name not in schema.names]:
                raise CorruptInputError(f"{path} has no column {', '.join(missing)}.")
            empty = schema.empty_table().select(wanted)
            for batch in file.iter_batches(batch_size=200_000, columns=wanted):
                _check_batch(batch, n_rows, problems)
                n_rows += batch.num_rows
                for each in batch.column("status").value_counts().to_pylist():
                    counts[each["values"]] = counts.get(each["values"], 0) + each["counts"]
                is_placed = pc.and_(pc.is_valid(batch.column("file")), pc.is_valid(batch.column("index")))
                parts.append(batch.filter(is_placed).drop_columns("reason"))
    except pa.ArrowException as error:
        raise CorruptInputError(f"{path} is damaged: {error}") from error
    delivered = pa.Table.from_batches(parts) if parts else empty.drop_columns("reason")
    delivered = delivered.sort_by([("file", "ascending"), ("index", "ascending")])
    runs = pc.run_end_encode(delivered.column("file").combine_chunks())
    starts, start = {}, 0
    for name, stop in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        starts[str(name)], start = (start, stop), stop
    return StatusTable(counts, tuple(starts), delivered, starts)


def check_data_file(
    directory: Path, file: ProductFile, bands: tuple[str, ...], status: StatusTable, problems: list[Problem]
) -> int:
    """Compare a data file with what was said of it.

    Parameters
    ----------
    directory
        Directory of the product.
    file
        The file, as the manifest has it.
    bands
        Bands of the product.
    status
        What ``status.parquet`` says.
    problems
        What is found wrong is added here.

    Returns
    -------
    rows
        Number of rows of the file.
    """

    def problem(message: str, *, dataset: str = "", row: int | None = None) -> None:
        problems.append(Problem("rows", file.path, dataset=dataset, row=row, message=message))

    start, stop = status.starts.get(file.path, (0, 0))
    said = status.delivered.slice(start, stop - start)
    with HDF5Reader(directory / file.path) as reader:
        if reader.n_rows != file.rows:
            problem(f"has {reader.n_rows} rows, the manifest says {file.rows}")
        if reader.n_rows != said.num_rows:
            problem(f"has {reader.n_rows} rows, {STATUS_NAME} says {said.num_rows}")
        if (reader.size, reader.bands) != (file.size, bands):
            problem(f"has {reader.size} px in {reader.bands}, the manifest says {file.size} px in {bands}")
        index = said.column("index").to_numpy()
        if not np.array_equal(index, np.arange(len(index))):
            problem(f"{STATUS_NAME} does not name each of its rows once", dataset="index")
            return reader.n_rows
        if (said.column("size_pixels").to_numpy() != reader.size).any():
            problem(f"{STATUS_NAME} has other sizes than {reader.size} px", dataset="size_pixels")
        n = min(reader.n_rows, said.num_rows)
        rows = said.column("row").to_numpy()
        for column, dataset in _COLUMNS:
            if column in _NOT_IN_VERSION_1 and column not in said.column_names and dataset not in reader:
                continue
            theirs, ours = said.column(column).to_numpy()[:n], reader.read(dataset)[:n]
            if (wrong := theirs != ours).any():
                first = int(np.argmax(wrong))
                message = f"{wrong.sum()} rows differ; row {first} of the file has {ours[first]!s}"
                problem(
                    f"{message}, {STATUS_NAME} says {theirs[first]!s}", dataset=dataset, row=int(rows[first])
                )
        if file.healpix is not None and (wrong := reader.read("catalog/healpix")[:n] != file.healpix).any():
            message = f"{wrong.sum()} rows are not in the pixel {file.healpix} of the file"
            problem(message, dataset="catalog/healpix", row=int(rows[int(np.argmax(wrong))]))
        _check_bands(reader, said, n, problem)
        order = [reader.read(f"catalog/{name}") for name in ("row", "patch", "tract")]
        if not np.array_equal(np.lexsort(order), np.arange(reader.n_rows)):
            problem("rows are not in the order of tract, patch and catalog", dataset="catalog/row")
        return reader.n_rows


def _check_batch(batch: pa.RecordBatch, first_row: int, problems: list[Problem]) -> None:
    def problem(message: str, dataset: str, which: np.ndarray) -> None:
        if which.any():
            row = first_row + int(np.argmax(which))
            said = f"{message} ({which.sum()} rows)"
            problems.append(Problem("rows", STATUS_NAME, dataset=dataset, row=row, message=said))

    def is_null(name: str) -> np.ndarray:
        return np.asarray(batch.column(name).is_null().to_numpy(zero_copy_only=False))

    expected = np.arange(first_row, first_row + batch.num_rows)
    problem("rows are not numbered one by one", "row", batch.column("row").to_numpy() != expected)
    known = pc.is_in(batch.column("status"), value_set=pa.array(list(STATUS))).to_numpy(zero_copy_only=False)
    problem("has an unknown status", "status", ~known)
    delivered = pc.equal(batch.column("status"), DELIVERED).to_numpy(zero_copy_only=False)
    problem("is delivered, but in no file", "file", delivered & (is_null("file") | is_null("index")))
    problem("is refused, but in a file", "file", ~delivered & ~is_null("file"))
    problem("is refused without a reason", "reason", ~delivered & is_null("reason"))


def _check_bands(reader: HDF5Reader, said: pa.Table, n: int, problem: Any) -> None:
    band_status = reader.read("images/band_status")[:n]
    present = reader.read("images/band_present")[:n]
    rows = said.column("row").to_numpy()
    for dataset, wrong in (
        ("images/band_present", (present != (band_status != BAND_NO_DATASET)).any(axis=1)),
        ("images/band_status", ~(band_status == BAND_OK).any(axis=1)),
    ):
        if wrong.any():
            message = f"contradicts that the row is delivered ({wrong.sum()} rows)"
            problem(message, dataset=dataset, row=int(rows[int(np.argmax(wrong))]))
    theirs = said.column("bands").to_pylist()[:n]
    for row, bands, good in zip(rows[:n].tolist(), theirs, (band_status == BAND_OK).tolist(), strict=True):
        ours = ",".join(band for band, has in zip(reader.bands, good, strict=True) if has)
        if ours != bands:
            problem(f"has data in {ours}, {STATUS_NAME} says {bands}", dataset="images/band_status", row=row)
            return
