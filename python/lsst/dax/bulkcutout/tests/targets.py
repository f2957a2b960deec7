# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Catalogs of targets in a test repository, and what each should get."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ..boxes import Box, visible_parts
from .repositories import SkyRepository
from .stars import is_isolated, photometry_columns

__all__ = ("Targets", "make_targets", "write_random_catalog")

_FIRST_ID = 1_152_921_504_606_846_977
"""Identifiers start above 2**53, where float64 no longer counts."""


@dataclasses.dataclass(frozen=True)
class Targets:
    """A catalog and the answer that each of its rows should get."""

    table: pa.Table
    """The catalog: ``id``, ``ra``, ``dec``, perhaps ``size``, ``tract`` and
    ``patch``, and columns to carry."""

    expected: pa.Table
    """One row for each: ``row``, ``kind``, ``status`` (null where it depends
    on whether another patch may stand in), ``tract``, ``patch``, ``x``, ``y``
    and ``bands`` (those with pixels in the cutout, joined by commas)."""

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the catalog.

        Parameters
        ----------
        path
            File name; ``.csv`` makes CSV (without units), all else Parquet.

        Returns
        -------
        path
            The file.
        """
        target = Path(path)
        if target.suffix == ".csv":
            pyarrow.csv.write_csv(self.table, target)
        else:
            pyarrow.parquet.write_table(self.table, target)
        return target


@dataclasses.dataclass
class _Row:
    kind: str
    ra: float | None
    dec: float | None
    size: int | None
    status: str | None = None
    no_id: bool = False
    source: dict[str, Any] | None = None
    """Row of the truth that the target is on."""


def make_targets(
    repo: SkyRepository,
    *,
    n_sources: int = 40,
    n_near: int = 0,
    n_random: int = 20,
    n_outside: int = 6,
    edges: bool = True,
    bad_rows: bool = True,
    size: int = 64,
    sizes: Sequence[int] = (),
    id_type: str = "int64",
    with_patches: bool = False,
    carried: bool = True,
    seed: int = 7,
) -> Targets:
    """Make a catalog of targets of all kinds, in mixed order.

    Parameters
    ----------
    repo
        The repository.
    n_sources
        Number of targets on stars and galaxies of the sky, brightest first.
    n_near
        Number of targets some pixels beside the brightest of these.
    n_random
        Number of targets at random places in inner regions of patches.
    n_outside
        Number of targets far from all images.
    edges
        Whether to add targets at and beyond edges of inner regions and images
        and in missing cells.
    bad_rows
        Whether to add rows with bad positions, identifiers and (with
        ``sizes``) sizes.
    size
        Size of the cutouts, for working out the answers.
    sizes
        Sizes to choose from for a column ``size``; without any there is no
        such column.
    id_type
        ``int64`` or ``string``.
    with_patches
        Whether the catalog has columns ``tract`` and ``patch``.
    carried
        Whether it has further columns of all types, with nulls and units;
        among them true fluxes, if the sky is a made-up one.
    seed
        For everything random.

    Returns
    -------
    targets
        Catalog and answers.
    """
    rng = np.random.default_rng(seed)

    def pick_size() -> int:
        return int(rng.choice(sizes)) if sizes else size

    rows = _good_rows(repo, rng, n_sources, n_near, n_random, pick_size)
    if edges:
        rows += _edge_rows(repo, pick_size)
    rows += _outside_rows(repo, rng, n_outside, pick_size)
    if bad_rows:
        ra, dec = rows[0].ra, rows[0].dec
        rows += _bad_rows(ra, dec, size, with_sizes=bool(sizes))
    order = rng.permutation(len(rows))
    rows = [rows[k] for k in order]
    expected = _expected(repo, rows)
    ids: list[Any] = [
        None if row.no_id else _FIRST_ID + 2 * k if id_type == "int64" else f"target-{k:05d}"
        for k, row in enumerate(rows)
    ]
    columns = {
        "id": _column(ids, pa.int64() if id_type == "int64" else pa.string(), "", "Identifier."),
        "ra": _column([row.ra for row in rows], pa.float64(), "deg", "Right ascension, ICRS."),
        "dec": _column([row.dec for row in rows], pa.float64(), "deg", "Declination, ICRS."),
    }
    if sizes:
        columns["size"] = _column([row.size for row in rows], pa.int64(), "pixel", "Side of the cutout.")
    if with_patches:
        for name in ("tract", "patch"):
            columns[name] = _column(expected[name].to_pylist(), pa.int32(), "", f"The {name} of the target.")
    if carried:
        columns |= _carried_columns(rng, [row.kind for row in rows])
        if repo.sky is not None:
            columns |= _photometry_columns(repo, rows)
    arrays, fields = zip(*columns.values(), strict=True)
    schema = pa.schema([field.with_name(name) for name, field in zip(columns, fields, strict=True)])
    return Targets(pa.Table.from_arrays(list(arrays), schema=schema), expected)


def write_random_catalog(
    path: str | os.PathLike[str],
    repo: SkyRepository,
    n_rows: int,
    *,
    seed: int = 7,
    batch_rows: int = 500_000,
) -> Path:
    """Write a catalog of any length with random good positions, in batches.

    Parameters
    ----------
    path
        Parquet file.
    repo
        The repository.
    n_rows
        Number of rows.
    seed
        For everything random.
    batch_rows
        Rows at a time.

    Returns
    -------
    path
        The file.
    """
    rng = np.random.default_rng(seed)
    schema = pa.schema(
        [("id", pa.int64()), ("ra", pa.float64()), ("dec", pa.float64()), ("mag", pa.float32())]
    )
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, n_rows, batch_rows):
            n = min(batch_rows, n_rows - start)
            which = rng.integers(0, len(repo.layout.images), n)
            ra, dec = np.empty(n), np.empty(n)
            for k, (tract, patch) in enumerate(repo.layout.images):
                mine = which == k
                box = repo.layout.patch(tract, patch).inner
                y = rng.uniform(box.y0, box.y1 - 1, int(mine.sum()))
                x = rng.uniform(box.x0, box.x1 - 1, int(mine.sum()))
                ra[mine], dec[mine] = repo.layout.tracts[tract].pixel_to_sky(x, y)
            arrays = [
                pa.array(np.arange(start, start + n)),
                pa.array(ra % 360.0),
                pa.array(dec),
                pa.array(rng.uniform(18, 26, n).astype(np.float32)),
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return Path(path)


def _good_rows(
    repo: SkyRepository,
    rng: np.random.Generator,
    n_sources: int,
    n_near: int,
    n_random: int,
    pick_size: Callable[[], int],
) -> list[_Row]:
    rows = []
    if n_sources and repo.sky is not None:
        truth = repo.truth.sort_by([("i_flux", "descending")]).to_pylist()
        inside = [source for source in truth if (source["tract"], source["patch"]) in repo.layout.images]
        rows += [_Row("source", s["ra"], s["dec"], pick_size(), source=s) for s in inside[:n_sources]]
        for source in inside[:n_near]:
            dy, dx = rng.uniform(-8, 8, 2)
            y, x = source["y"] + dy, source["x"] + dx
            rows.append(_row_at(repo, "near", source["tract"], y, x, pick_size))
    for _ in range(n_random):
        tract, patch = repo.layout.images[int(rng.integers(len(repo.layout.images)))]
        box = repo.layout.patch(tract, patch).inner
        x, y = rng.uniform(box.x0, box.x1 - 1), rng.uniform(box.y0, box.y1 - 1)
        rows.append(_row_at(repo, "random", tract, y, x, pick_size))
    return rows


def _edge_rows(repo: SkyRepository, pick_size: Callable[[], int]) -> list[_Row]:
    rows = []
    for tract, patch in repo.layout.images:
        definition = repo.layout.patch(tract, patch)
        for kind, box in (("inner_edge", definition.inner), ("outer_edge", definition.outer)):
            middle_y, middle_x = (box.y0 + box.y1) / 2, (box.x0 + box.x1) / 2
            for y, x in (
                (box.y0 - 0.3, middle_x + 0.2),
                (box.y1 - 1 + 0.3, middle_x - 0.4),
                (middle_y + 0.1, box.x0 + 0.25),
                (middle_y, box.x1 - 1.0),
                (box.y0, box.x0),
                (box.y1 - 0.75, box.x1 - 0.75),
            ):
                rows.append(_row_at(repo, kind, tract, y, x, pick_size))
        ny, nx = definition.cell_shape
        for band in repo.bands:
            for row, column in sorted(repo.missing_cells.get((tract, patch, band), ()))[:3]:
                y, x = (
                    definition.outer.y0 + (row + 0.5) * ny - 0.25,
                    definition.outer.x0 + (column + 0.5) * nx,
                )
                rows.append(_row_at(repo, "missing_cell", tract, y, x, pick_size))
    return rows


def _row_at(
    repo: SkyRepository, kind: str, tract: int, y: float, x: float, pick_size: Callable[[], int]
) -> _Row:
    ra, dec = repo.layout.tracts[tract].pixel_to_sky(x, y)
    return _Row(kind, float(ra) % 360.0, float(dec), pick_size())


def _outside_rows(
    repo: SkyRepository, rng: np.random.Generator, n: int, pick_size: Callable[[], int]
) -> list[_Row]:
    ra, dec = next(iter(repo.layout.tracts.values())).crval
    rows = []
    for _ in range(n):
        # On the other half of the sky from the first tract.
        far_ra = (ra + 180.0 + rng.uniform(-60, 60)) % 360.0
        far_dec = float(np.clip(-dec + rng.uniform(-20, 20), -89, 89))
        rows.append(_Row("outside", float(far_ra), far_dec, pick_size()))
    return rows


def _bad_rows(ra: float | None, dec: float | None, size: int, *, with_sizes: bool) -> list[_Row]:
    positions: list[tuple[float | None, float | None]] = [
        (math.nan, dec),
        (ra, math.nan),
        (None, dec),
        (ra, None),
        (math.inf, dec),
        (ra, 91.0),
        (ra, -1000.0),
    ]
    rows = [_Row("bad_position", a, b, size, "invalid_position") for a, b in positions]
    rows.append(_Row("bad_id", ra, dec, size, "invalid_id", no_id=True))
    if with_sizes:
        rows += [_Row("bad_size", ra, dec, bad, "invalid_size") for bad in (0, -5, None, 10_000_000)]
    return rows


def _expected(repo: SkyRepository, rows: list[_Row]) -> pa.Table:
    answers = []
    for number, row in enumerate(rows):
        answer: dict[str, Any] = {"row": number, "kind": row.kind, "status": row.status}
        home = None
        if row.ra is not None and row.dec is not None:
            home = repo.home(row.ra, row.dec)
        if home is not None:
            answer |= dict(zip(("tract", "patch", "x", "y"), home, strict=True))
            if row.status is None and row.size is not None:
                answer["status"], answer["bands"] = _status(repo, *home, row.size)
        elif row.status is None:
            answer["status"] = None if _covered(repo, row) else "outside_footprint"
        answers.append(answer)
    schema = pa.schema(
        [
            ("row", pa.int64()),
            ("kind", pa.string()),
            ("status", pa.string()),
            ("tract", pa.int32()),
            ("patch", pa.int32()),
            ("x", pa.float64()),
            ("y", pa.float64()),
            ("bands", pa.string()),
        ]
    )
    return pa.Table.from_pylist(answers, schema=schema)


def _status(
    repo: SkyRepository, tract: int, patch: int, x: float, y: float, size: int
) -> tuple[str | None, str]:
    y0, x0 = (math.ceil(round(position, 6) - size / 2) for position in (y, x))
    box = Box(y0, y0 + size, x0, x0 + size)
    bands = [band for band in repo.bands if (tract, patch, band) in repo.refs]
    if not bands:
        ra, dec = (float(value) for value in repo.layout.tracts[tract].pixel_to_sky(x, y))
        return (None if _covered(repo, _Row("", ra, dec, size)) else "no_dataset"), ""
    seen = [band for band in bands if _has_pixels(repo, tract, patch, band, box)]
    return ("delivered" if seen else "no_data"), ",".join(seen)


def _covered(repo: SkyRepository, row: _Row) -> bool:
    """Whether any image, of whichever patch, holds the position."""
    for tract, patch, _ in repo.refs:
        x, y = repo.layout.tracts[tract].sky_to_pixel(row.ra, row.dec)
        outer = repo.layout.patch(tract, patch).outer
        if outer.y0 - 0.5 <= y < outer.y1 - 0.5 and outer.x0 - 0.5 <= x < outer.x1 - 0.5:
            return True
    return False


def _has_pixels(repo: SkyRepository, tract: int, patch: int, band: str, box: Box) -> bool:
    """Whether a cutout gets pixels of a cell with data, from the image of its
    patch or from neighbours where that has none.
    """
    others = sorted(other for t, other, b in repo.refs if (t, b) == (tract, band) and other != patch)
    images = [patch, *others]
    boxes = [repo.layout.patch(tract, image).outer for image in images]
    for image, parts in zip(images, visible_parts(box, boxes), strict=True):
        definition = repo.layout.patch(tract, image)
        (ny, nx), missing = definition.cell_shape, repo.missing_cells[tract, image, band]
        for part in parts:
            low_y, low_x = part.y0 - definition.outer.y0, part.x0 - definition.outer.x0
            high_y, high_x = part.y1 - 1 - definition.outer.y0, part.x1 - 1 - definition.outer.x0
            cells = itertools.product(
                range(low_y // ny, high_y // ny + 1), range(low_x // nx, high_x // nx + 1)
            )
            if any(cell not in missing for cell in cells):
                return True
    return False


def _column(values: Sequence[Any], kind: pa.DataType, unit: str, text: str) -> tuple[pa.Array, pa.Field]:
    metadata = {"description": text} | ({"unit": unit} if unit else {})
    return pa.array(values, kind), pa.field("", kind, metadata=metadata)


def _photometry_columns(repo: SkyRepository, rows: Sequence[_Row]) -> dict[str, tuple[pa.Array, pa.Field]]:
    truth = repo.truth.to_pylist()
    isolated = dict(zip((source["id"] for source in truth), is_isolated(truth), strict=True))
    return photometry_columns(
        repo.bands,
        [row.source for row in rows],
        [None if row.source is None else isolated[row.source["id"]] for row in rows],
    )


def _carried_columns(rng: np.random.Generator, kinds: Sequence[str]) -> dict[str, tuple[pa.Array, pa.Field]]:
    n = len(kinds)

    def some(values: Sequence[Any]) -> list[Any]:
        return [None if lost else value for value, lost in zip(values, rng.random(n) < 0.15, strict=True)]

    classes = [("star", "galaxy", "QSO", 'na\u00efve \u03b1,"quoted"')[k] for k in rng.integers(0, 4, n)]
    return {
        "kind": _column(kinds, pa.string(), "", "Why the row is there."),
        "mag_i": _column(some(rng.uniform(16, 26, n).tolist()), pa.float64(), "mag", "Magnitude in i."),
        "redshift": _column(some(rng.uniform(0, 3, n).tolist()), pa.float32(), "", "Redshift."),
        "n_visits": _column(some(rng.integers(0, 900, n).tolist()), pa.int32(), "", "Number of visits."),
        "parent": _column(some((_FIRST_ID + rng.integers(0, 99, n)).tolist()), pa.int64(), "", "Parent."),
        "variable": _column(some((rng.random(n) < 0.3).tolist()), pa.bool_(), "", "Whether it varies."),
        "class": _column(some(classes), pa.string(), "", "Class, some in other letters."),
    }
