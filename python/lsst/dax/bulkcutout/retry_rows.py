# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Rows that may have another answer now, and the patches they are cut from.

The user names rows by what has become of them (``read_failed,no_data``), by
number (``12,40-99``), or in a file (``@FILE``: Parquet with a column ``row``,
or text with the same words).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.lib
import pyarrow.parquet as pq

from . import tables
from .campaign import Campaign, Plan
from .cutout_dataset import CutoutDataset
from .errors import CorruptInputError, UserError, did_you_mean
from .quantum_outputs import read_outputs
from .target_table import read_targets

__all__ = ("patches_to_retry",)

STATUSES = tuple(status for status in tables.STATUS if status != tables.DELIVERED)

_OF_CUTOUTS = (tables.READ_FAILED, tables.NO_DATA)
"""What a job has found out; the other answers are those of the plan, or of a
job that did not finish, and need no patch to be cut again that has been."""


def patches_to_retry(campaign: Campaign, which: str) -> set[tuple[int, int]]:
    """Find the patches that have to be cut again.

    Parameters
    ----------
    campaign
        A campaign that has a plan.
    which
        The rows, in the user's words.

    Returns
    -------
    patches
        Tract and patch of each.  None for rows that were refused before any
        pixel was read: a new plan gives them theirs.

    Raises
    ------
    UserError
        Raised if the words say nothing, or there are no such rows.
    """
    plan = campaign.read_plan()
    statuses, rows = _parse(which, plan.catalog_rows)
    by_status = _with_status(campaign, plan, statuses)
    refused = [status for status in statuses if plan.refused.get(status)]
    if not (len(rows) or by_status or refused or tables.NOT_PROCESSED in statuses):
        named = " or ".join(sorted(statuses)) or "named"
        raise UserError(f"No row of campaign {campaign.root} is {named}: there is nothing to retry.")
    return by_status | _with_rows(campaign, plan, rows)


def _parse(which: str, catalog_rows: int) -> tuple[set[str], np.ndarray]:
    """Statuses, and numbers of rows, ascending."""
    statuses: set[str] = set()
    rows = [np.zeros(0, dtype=np.int64)]
    for word in _words(which):
        if isinstance(word, np.ndarray):
            for row in (word.min(), word.max()) if len(word) else ():
                _check(int(row), catalog_rows)
            rows.append(word)
        elif match := re.fullmatch(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", word):
            first, last = int(match[1]), int(match[2] or match[1])
            if first > last:
                raise UserError(f"--retry-rows {word!r}: the lower row of a range comes first.")
            _check(last, catalog_rows)
            rows.append(np.arange(first, last + 1))
        elif word in STATUSES:
            statuses.add(word)
        else:
            raise UserError(
                f"--retry-rows {word!r}{did_you_mean(word, STATUSES)}: give statuses "
                f"({', '.join(STATUSES)}), numbers of rows such as 12 or 40-99, with commas between them, "
                "or @FILE."
            )
    return statuses, np.unique(np.concatenate(rows))


def _words(which: str) -> Iterator[str | np.ndarray]:
    if not which.startswith("@"):
        yield from filter(None, re.split(r"[,\s]+", which))
        return
    path = Path(which[1:])
    try:
        with path.open("rb") as stream:
            is_parquet = stream.read(4) == b"PAR1"
        if is_parquet:
            yield _rows_of_parquet(path)
            return
        words = list(filter(None, re.split(r"[,\s]+", path.read_text())))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--retry-rows {which}: the file cannot be read: {error}") from None
    # The heading that a CSV file has.
    yield from words[1:] if words[:1] == ["row"] else words


def _rows_of_parquet(path: Path) -> np.ndarray:
    try:
        column = pq.read_table(path, columns=["row"]).column("row").cast("int64")
        rows: np.ndarray = column.to_numpy()
        if column.null_count:
            raise KeyError("a row has no number")
    except (KeyError, pyarrow.lib.ArrowException) as error:
        raise UserError(
            f"--retry-rows @{path}: a Parquet file with a column 'row' of whole numbers is wanted: {error}"
        ) from None
    return rows


def _check(row: int, catalog_rows: int) -> None:
    if not 0 <= row < catalog_rows:
        raise UserError(
            f"--retry-rows: there is no row {row}: the catalog has {catalog_rows} rows, "
            "and the first is row 0."
        )


def _with_rows(campaign: Campaign, plan: Plan, rows: np.ndarray) -> set[tuple[int, int]]:
    """Patches that some of the rows are cut from."""
    found: set[tuple[int, int]] = set()
    for tract in plan.tracts if len(rows) else ():
        for batch in read_targets(campaign.targets / tract.path, columns=("row", "patch")):
            wanted = np.isin(batch.column("row").to_numpy(), rows)
            patches = np.unique(batch.column("patch").to_numpy()[wanted])
            found.update((tract.tract, patch) for patch in patches.tolist())
    return found


def _with_status(campaign: Campaign, plan: Plan, statuses: Iterable[str]) -> set[tuple[int, int]]:
    """Patches with such rows; a band that could not be read is enough."""
    wanted = set(statuses).intersection(_OF_CUTOUTS)
    if not wanted:
        return set()
    sizes = {tract.tract: tuple(tract.rows_by_size) for tract in plan.tracts}
    found = set()
    for place, output in read_outputs(campaign).items():
        # What is not there will be cut anyway.
        with contextlib.suppress(FileNotFoundError, CorruptInputError):
            if output.path is not None and wanted & _statuses(output.path, sizes.get(place[0], ())):
                found.add(place)
    return found


def _statuses(path: Path, sizes: Iterable[int]) -> set[str]:
    """Which of `_OF_CUTOUTS` a cutout dataset has."""
    with CutoutDataset(path) as dataset:
        bands = [dataset.read(size, "band_status") for size in sizes if dataset.count(size)]
        found = {tables.READ_FAILED} if dataset.unusable else set()
    for status in bands:
        failed = status == tables.BAND_READ_FAILED
        if failed.any():
            found.add(tables.READ_FAILED)
        if not ((status == tables.BAND_OK) | failed).any(axis=1).all():
            found.add(tables.NO_DATA)
    return found
