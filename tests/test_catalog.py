# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

from __future__ import annotations

import gzip
import math
import re
from pathlib import Path
from typing import Any
from unittest import mock

import astropy.table
import astropy.units
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.catalog import Catalog, csv_file, open_catalog
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.request import CatalogSpec, SizeColumn
from lsst.dax.bulkcutout.tables import field_description, field_unit, refusal_schema

GOOD: dict[str, Any] = {
    "objectId": [7, 3, 5],
    "coord_ra": [10.5, 20.25, 30.0],
    "coord_dec": [-5.0, 0.0, 45.5],
}
NPIX = SizeColumn(column="npix")


@pytest.fixture
def parquet(tmp_path: Path) -> Any:
    """Make Parquet catalogs: the good columns and others or changed ones."""

    def write(**columns: Any) -> str:
        path = tmp_path / "catalog.parquet"
        contents = {name: values for name, values in (GOOD | columns).items() if values is not None}
        pq.write_table(pa.table(contents), path)
        return str(path)

    return write


@pytest.fixture
def text(tmp_path: Path) -> Any:
    """Make CSV catalogs out of lines."""

    def write(*lines: str, name: str = "catalog.csv", end: str = "\n") -> str:
        path = tmp_path / name
        path.write_bytes("".join(line + end for line in lines).encode("utf-8", "surrogateescape"))
        return str(path)

    return write


def opened(uri: str, size: int | SizeColumn = 64, **spec: Any) -> Catalog:
    return open_catalog(CatalogSpec(uri=uri, **spec), size)


def rows_of(catalog: Catalog, batch_rows: int = 200_000) -> list[dict[str, Any]]:
    return [row for batch in catalog.batches(batch_rows) for row in batch.to_pylist()]


def read(uri: str, size: int | SizeColumn = 64, **spec: Any) -> list[dict[str, Any]]:
    return rows_of(opened(uri, size, **spec))


def column(name: str, uri: str, size: int | SizeColumn = 64, **spec: Any) -> list[Any]:
    return [row[name] for row in read(uri, size, **spec)]


def refusal(uri: str, size: int | SizeColumn = 64, **spec: Any) -> str:
    """Return the message that a catalog is refused with."""
    with pytest.raises(UserError) as caught:
        read(uri, size, **spec)
    message = str(caught.value)
    assert uri in message or "column" in message
    return message


# Every row answered ----------------------------------------------------------


def expected_status(row: dict[str, Any]) -> str | None:
    """Judge a row as the documentation does."""
    if row["ragged"]:
        return "invalid_position"
    if row["id"] is None:
        return "invalid_id"
    for value, least, most in ((row["ra"], -180, 360), (row["dec"], -90, 90)):
        if not isinstance(value, int | float) or not least <= value <= most:
            return "invalid_position"
    size = row["npix"]
    if not isinstance(size, int | float) or size not in range(1, 2001):
        return "invalid_size"
    return None


def numbers(least: float, most: float) -> st.SearchStrategy[float | None]:
    odd = st.sampled_from(
        [None, math.nan, math.inf, -math.inf, 1e300, least, most, math.nextafter(most, 1e9), -0.0]
    )
    return st.floats(least, most) | st.floats(least, most) | odd


catalog_rows = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(-(2**63), 2**63 - 1) | st.none(),
            "ra": numbers(-180, 360),
            "dec": numbers(-90, 90),
            "npix": st.sampled_from([1, 64, 2000, 64.0, 0, -5, 2001, 12.5, None, math.nan]),
            "ragged": st.just(False),
        }
    ),
    min_size=1,
    max_size=60,
)
text_rows = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(-(2**63), 2**63 - 1) | st.none(),
            "ra": numbers(-180, 360) | st.sampled_from(["x", "12:30", "0x10", "1,5", '"']),
            "dec": numbers(-90, 90) | st.sampled_from(["+-5", "1 2", "ten", "é"]),
            "npix": st.sampled_from([1, 64, 2000, 64.0, 0, -5, 12.5, None, "many"]),
            "ragged": st.sampled_from([False, False, False, False, True]),
        }
    ),
    min_size=1,
    max_size=60,
)


def check_answers(catalog: Catalog, rows: list[dict[str, Any]], batch_rows: int) -> None:
    answers = rows_of(catalog, batch_rows)
    assert catalog.n_rows == len(rows)
    assert [answer["row"] for answer in answers] == list(range(len(rows)))
    assert [answer["status"] for answer in answers] == [expected_status(row) for row in rows]
    for answer, row in zip(answers, rows, strict=True):
        assert (answer["status"] is None) == (answer["reason"] is None)
        if answer["status"] is None:
            assert answer["target_id"] == row["id"]
            assert answer["dec"] == row["dec"]
            assert 0 <= answer["ra"] < 360
            assert math.isclose(math.remainder(answer["ra"] - row["ra"], 360), 0, abs_tol=1e-12)
            assert answer["size_pixels"] == row["npix"]
        else:
            assert re.search(rf"\b{answer['row']}\b", answer["reason"])


@given(rows=catalog_rows, batch_rows=st.integers(1, 30), group=st.integers(1, 40))
def test_every_row_of_a_parquet_catalog_is_answered_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], batch_rows: int, group: int
) -> None:
    """Good and bad rows in any mixture, however the file is cut."""
    path = tmp_path_factory.mktemp("catalog") / "c.parquet"
    columns = {
        "id": pa.array([row["id"] for row in rows], pa.int64()),
        "ra": pa.array([row["ra"] for row in rows], pa.float64()),
        "dec": pa.array([row["dec"] for row in rows], pa.float64()),
        "npix": pa.array([row["npix"] for row in rows], pa.float64()),
    }
    pq.write_table(pa.table(columns), path, row_group_size=group)
    check_answers(opened(str(path), NPIX), rows, batch_rows)


@given(
    rows=text_rows,
    batch_rows=st.integers(1, 30),
    blank=st.integers(1, 9),
    end=st.sampled_from(["\n", "\r\n"]),
)
@example(
    rows=[{"id": 1, "ra": 1.0, "dec": 1.0, "npix": 1, "ragged": True}] * 40, batch_rows=7, blank=9, end="\n"
)
def test_every_row_of_a_csv_catalog_is_answered_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    batch_rows: int,
    blank: int,
    end: str,
) -> None:
    """Rows with a wrong number of fields keep their places.

    The reader drops them, and it reads in blocks: here very small ones.
    """
    lines = ["# a comment", "id,ra,dec,note,npix"]
    for number, row in enumerate(rows):
        cells = ["" if row[name] is None else str(row[name]) for name in ("id", "ra", "dec", "npix")]
        cells.insert(3, "two\nlines" if number % 7 == 5 else "é")
        quoted = ['"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\n') else cell for cell in cells]
        lines.append(",".join(quoted[: 2 + 4 * (number % 2)] * 2 if row["ragged"] else quoted))
        lines += [""] * (number % blank == 0)
    path = tmp_path_factory.mktemp("catalog") / "c.csv"
    path.write_bytes(end.join(lines).encode())
    with mock.patch.object(csv_file, "BLOCK_BYTES", 400):
        check_answers(opened(str(path), NPIX), rows, batch_rows)


@given(good=st.lists(st.booleans(), min_size=1, max_size=300), split=st.lists(st.booleans()))
def test_bad_rows_are_put_between_the_good_ones(good: list[bool], split: list[bool]) -> None:
    """The reader tells bad rows early, and good ones block by block."""
    bad = csv_file._BadRows(Path("c.csv"), 1, line_is_row=False)
    for row, is_good in enumerate(good):
        if not is_good:
            bad.add(mock.Mock(number=row + 2, text="x", actual_columns=1, expected_columns=3))
    found: list[bool] = []
    n_left = sum(good)
    for is_one in [*split, False]:
        n_good = min(n_left, 1) if is_one else n_left
        if not n_good:
            continue
        n_left -= n_good
        places, faults = bad.place(len(found), n_good)
        valid = [True] * n_good if places is None else [place is not None for place in places.to_pylist()]
        assert places is None or [p for p in places.to_pylist() if p is not None] == list(range(n_good))
        assert sorted(faults) == [i for i, is_valid in enumerate(valid) if not is_valid]
        found += valid
    places, _ = bad.place(len(found), None)
    found += [False] * (0 if places is None else len(places))
    assert found == good


# Identifiers -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "expected", "dtype"),
    [
        (pa.array([1, None, 3], pa.int32()), [1, None, 3], pa.int64()),
        (pa.array([2**63 - 1, 0, -(2**63)]), [2**63 - 1, 0, -(2**63)], pa.int64()),
        (pa.array([1, 2**63 - 1, 2], pa.uint64()), [1, 2**63 - 1, 2], pa.int64()),
        (pa.array([1, 2**63, 2], pa.uint64()), ["1", str(2**63), "2"], pa.string()),
        (pa.array(["a", None, ""]), ["a", None, ""], pa.string()),
        (pa.array(["007", "b", "c"], pa.large_string()), ["007", "b", "c"], pa.string()),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"], pa.string()),
        (pa.array([5, 6, 5]).dictionary_encode(), [5, 6, 5], pa.int64()),
        (pa.array([1.0, math.nan, -(2.0**53)]), [1, None, -(2**53)], pa.int64()),
        (pa.array([1.0, None, 2.0**24], pa.float32()), [1, None, 2**24], pa.int64()),
    ],
)
def test_identifiers_are_kept_as_given(parquet: Any, ids: pa.Array, expected: list[Any], dtype: Any) -> None:
    catalog = opened(parquet(objectId=ids))
    rows = rows_of(catalog)
    assert catalog.id_type == dtype
    assert [row["target_id"] for row in rows] == expected
    assert [row["status"] for row in rows] == [None if i is not None else "invalid_id" for i in expected]


@pytest.mark.parametrize(
    ("ids", "row"),
    [
        (pa.array([1.0, 2.0, 2.0**53 + 2]), 2),
        (pa.array([1.0, -1e18, 1e18]), 1),
        (pa.array([math.inf, 2.0, 3.0]), 0),
        (pa.array([1.0, 2.0**24 + 2, 3.0], pa.float32()), 1),
    ],
)
def test_identifiers_that_have_lost_digits_are_refused(parquet: Any, ids: pa.Array, row: int) -> None:
    """Cutouts under wrong identifiers are worse than none."""
    message = refusal(parquet(objectId=ids))
    assert "digits have been lost" in message and f"row {row}" in message and "objectId" in message


def test_identifiers_that_are_no_whole_numbers_are_refused(parquet: Any) -> None:
    assert "1.5 in row 1" in refusal(parquet(objectId=[1.0, 1.5, 2.0]))


@pytest.mark.parametrize("ids", [[b"a", b"b", b"c"], [True, False, True], [[1], [2], [3]], [None] * 3])
def test_identifiers_of_other_types_are_refused(parquet: Any, ids: list[Any]) -> None:
    assert "whole numbers or strings" in refusal(parquet(objectId=ids))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1", "-2", ""], [1, -2, None]),
        ([" 1", "2 ", "nan"], [1, 2, None]),
        (["9223372036854775807", "1", "NULL"], [2**63 - 1, 1, None]),
        (["9223372036854775808", "1", "2"], ["9223372036854775808", "1", "2"]),
        (["007", "8", "9"], ["007", "8", "9"]),
        (["1", "2", "x3"], ["1", "2", "x3"]),
        (["12e4", "13e5", "7"], ["12e4", "13e5", "7"]),
        (["0x1F", "2", "3"], ["0x1F", "2", "3"]),
        (["1.0", "2", "3.0"], [1, 2, 3]),
        (["a", '""', ""], ["a", "", None]),
        (["a", "NA", "nan"], ["a", "NA", "nan"]),
    ],
)
def test_type_of_identifiers_in_csv_follows_from_all_of_them(
    text: Any, ids: list[str], expected: list[Any]
) -> None:
    """The last row may show that the first was no number."""
    path = text("id,ra,dec", *(f"{i},{n},5" for n, i in enumerate(ids)))
    assert column("target_id", path) == expected


@pytest.mark.parametrize("ids", [["1.6E+18", "2", "3"], ["9007199254740994", "1.0", "2"]])
def test_identifiers_in_csv_that_went_through_floating_point_are_refused(text: Any, ids: list[str]) -> None:
    message = refusal(text("id,ra,dec", *(f"{i},1,2" for i in ids)))
    assert "digits have been lost" in message and "row 0" in message


# Columns ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("objectId", "coord_ra", "coord_dec"),
        ("diaObjectId", "ra", "dec"),
        ("id", "RA", "DEC"),
        ("NUMBER", "ALPHA_J2000", "DELTA_J2000"),
        ("SourceID", "Ra", "Dec"),
        ("source_id", "raj2000", "dej2000"),
    ],
)
def test_usual_names_of_columns_are_found(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(
        pa.table(dict(zip(names, ([1], [2.0], [3.0]), strict=True)) | {"parentObjectId": [9]}), path
    )
    (row,) = read(str(path))
    assert (row["target_id"], row["ra"], row["dec"]) == (1, 2.0, 3.0)


def test_columns_can_be_named(parquet: Any) -> None:
    path = parquet(ra2=[1.0, 2.0, 3.0], dec2=[4.0, 5.0, 6.0], name=["a", "b", "c"])
    rows = read(path, id_column="name", ra_column="ra2", dec_column="dec2")
    assert [(row["target_id"], row["ra"], row["dec"]) for row in rows] == [
        ("a", 1, 4),
        ("b", 2, 5),
        ("c", 3, 6),
    ]


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"objectId": None}, "catalog.id_column"),
        ({"coord_ra": None}, "catalog.ra_column"),
        ({"coord_dec": None}, "catalog.dec_column"),
    ],
)
def test_column_that_is_not_found_can_be_named_out_of_a_list(
    parquet: Any, columns: dict[str, Any], field: str
) -> None:
    message = refusal(parquet(**columns, mag=[1, 2, 3]))
    assert field in message and "Its columns are: " in message and "mag" in message


def test_two_columns_that_may_be_meant_are_not_guessed_between(parquet: Any) -> None:
    message = refusal(parquet(ra=[1.0, 2.0, 3.0]))
    assert "2 columns that may be the right ascension: coord_ra, ra" in message


def test_long_list_of_columns_is_cut(parquet: Any) -> None:
    message = refusal(parquet(objectId=None, **{f"c{n}": [1, 2, 3] for n in range(1000)}))
    assert "and 962 more" in message and len(message) < 1000


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"id_column": "objectid"}, "catalog.id_column"),
        ({"ra_column": "coord_Ra"}, "catalog.ra_column"),
        ({"tract_column": "coordra", "patch_column": "coord_ra"}, "catalog.tract_column"),
        ({"carry": ["coord_dek"]}, "catalog.carry"),
    ],
)
def test_column_that_is_not_there_is_answered_with_the_nearest(
    parquet: Any, spec: dict[str, Any], field: str
) -> None:
    message = refusal(parquet(), **spec)
    assert field in message and "did you mean" in message


def test_size_column_that_is_not_there_is_answered_with_the_nearest(parquet: Any) -> None:
    assert "size.column is 'npix'" in refusal(parquet(n_pix=[1, 2, 3]), NPIX)


def test_name_that_two_columns_have_is_refused_where_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    arrays = [pa.array([1]), pa.array([2.0]), pa.array([3.0]), pa.array([4]), pa.array([5])]
    pq.write_table(pa.Table.from_arrays(arrays, names=["id", "ra", "dec", "x", "x"]), path)
    assert "2 columns of this name" in refusal(str(path), carry=["x"])
    catalog = opened(str(path), carry="all")
    assert [field.name for field in catalog.carried] == ["id", "ra", "dec"]
    assert "'x' is not carried" in catalog.warnings[0]


def test_one_column_for_both_coordinates_is_refused(parquet: Any) -> None:
    assert "both 'coord_ra'" in refusal(parquet(), ra_column="coord_ra", dec_column="coord_ra")


@pytest.mark.parametrize("values", [[b"1", b"2", b"3"], [True, False, True], [[1.0], [2.0], [3.0]]])
def test_positions_that_are_no_numbers_are_refused(parquet: Any, values: list[Any]) -> None:
    assert "holds no numbers" in refusal(parquet(coord_ra=values))


# Positions -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ra", "expected"),
    [(-180.0, 180.0), (-0.25, 359.75), (360.0, 0.0), (0.0, 0.0), (359.5, 359.5), (-1e-20, 0.0)],
)
def test_right_ascension_is_wrapped_into_one_turn(parquet: Any, ra: float, expected: float) -> None:
    assert column("ra", parquet(coord_ra=[ra, 1.0, 1.0]))[0] == expected


@pytest.mark.parametrize(
    ("ra", "dec", "sentence"),
    [
        (400.0, 0.0, "coord_ra in row 1 is 400.0: must be from -180 to 360 degrees."),
        (-180.5, 0.0, "coord_ra in row 1 is -180.5: must be from -180 to 360 degrees."),
        (5.0, 90.01, "coord_dec in row 1 is 90.01: must be from -90 to 90 degrees."),
        (None, 0.0, "coord_ra in row 1 is missing."),
        (5.0, math.nan, "coord_dec in row 1 is nan."),
        (math.inf, 0.0, "coord_ra in row 1 is inf: must be from -180 to 360 degrees."),
        (
            None,
            95.0,
            "coord_ra in row 1 is missing. coord_dec in row 1 is 95.0: must be from -90 to 90 degrees.",
        ),
    ],
)
def test_reason_names_row_column_and_value(parquet: Any, ra: float, dec: float, sentence: str) -> None:
    rows = read(parquet(coord_ra=[1.0, ra, 2.0], coord_dec=[1.0, dec, 2.0]))
    assert [row["status"] for row in rows] == [None, "invalid_position", None]
    assert rows[1]["reason"] == sentence


def test_bad_position_is_reported_as_given_where_it_is_a_number(parquet: Any) -> None:
    rows = read(parquet(coord_ra=[400.0, math.nan, 1.0], coord_dec=[1.0, 2.0, -91.0]))
    assert [(row["ra"], row["dec"]) for row in rows] == [(400.0, 1.0), (None, 2.0), (1.0, -91.0)]


@pytest.mark.parametrize(
    "values",
    [pa.array([1, 2, 3], pa.int16()), pa.array([1, 2, 3], pa.float32()), pa.array(["1.0", " +2", "3e0"])],
)
def test_positions_may_be_numbers_of_any_kind(parquet: Any, values: pa.Array) -> None:
    assert column("dec", parquet(coord_dec=values)) == [1.0, 2.0, 3.0]


def test_positions_in_single_precision_are_warned_about(parquet: Any) -> None:
    assert "float" in opened(parquet(coord_ra=pa.array([1, 2, 3], pa.float32()))).warnings[0]


def make_positions(parquet: Any, ra: np.ndarray, dec: np.ndarray) -> Catalog:
    return opened(parquet(objectId=np.arange(len(ra)), coord_ra=ra, coord_dec=dec))


@pytest.mark.parametrize(
    ("ra_range", "dec_range", "unit"),
    [
        ((0, 2 * math.pi), (-1.5, 1.5), "radians"),
        ((2.6, 2.62), (0.03, 0.04), "radians"),
        ((0, 24), (-60, 10), "hours"),
        ((0, 360), (-1, 1), None),
        ((10, 12), (-3, 3), None),
        ((0, 24), (-5, 5), None),
    ],
)
def test_positions_that_look_like_radians_or_hours_are_warned_about(
    parquet: Any, ra_range: tuple[float, float], dec_range: tuple[float, float], unit: str | None
) -> None:
    """No position is out of range then, and all cutouts are of other sky."""
    catalog = make_positions(parquet, np.linspace(*ra_range, 50), np.linspace(*dec_range, 50))
    assert catalog.warnings == []
    for _ in range(2):
        assert [row["status"] for row in rows_of(catalog, batch_rows=7)] == [None] * 50
        assert [f"in {unit}" in warning for warning in catalog.warnings] == ([True] if unit else [])


def test_few_positions_look_like_nothing(parquet: Any) -> None:
    catalog = make_positions(parquet, np.ones(5), np.ones(5))
    rows_of(catalog)
    assert catalog.warnings == []


def test_bad_rows_do_not_hide_radians(parquet: Any) -> None:
    catalog = make_positions(parquet, np.append(np.linspace(0, 6, 50), 999), np.linspace(-1, 1, 51))
    rows_of(catalog)
    assert "radians" in catalog.warnings[0]


# Sizes, tracts ---------------------------------------------------------------


def test_size_of_the_request_is_that_of_every_row(parquet: Any) -> None:
    assert column("size_pixels", parquet(), 51) == [51, 51, 51]


@pytest.mark.parametrize("value", [None, 0, -1, 2001, 64.5, math.nan, math.inf, 1e300])
def test_row_without_a_good_size_is_refused(parquet: Any, value: Any) -> None:
    rows = read(parquet(npix=pa.array([64, value, 2000], pa.float64())), NPIX)
    assert [row["status"] for row in rows] == [None, "invalid_size", None]
    assert [row["size_pixels"] for row in rows] == [64, None, 2000]
    assert "npix in row 1 is " in rows[1]["reason"] and "1 to 2000" in rows[1]["reason"]


@pytest.mark.parametrize("size", [1, 2000])
def test_smallest_and_largest_size_are_good(parquet: Any, size: int) -> None:
    assert column("status", parquet(npix=[size] * 3), NPIX) == [None] * 3


def test_too_many_sizes_are_refused_before_any_row(parquet: Any) -> None:
    def path(n_sizes: int) -> Any:
        ids = np.arange(500)
        return parquet(objectId=ids, coord_ra=ids * 0.5, coord_dec=ids * 0.1, npix=ids % n_sizes + 30)

    assert len(read(path(20), NPIX)) == 500
    with pytest.raises(UserError, match="21 different sizes; at most 20"):
        opened(path(21), NPIX)


def test_bad_position_comes_before_bad_size_and_bad_identifier_before_both(parquet: Any) -> None:
    path = parquet(objectId=[None, 1, 2], coord_ra=[999.0, 999.0, 1.0], npix=[0, 0, 0])
    assert column("status", path, NPIX) == ["invalid_id", "invalid_position", "invalid_size"]


def test_tract_and_patch_are_read_where_they_are_given(parquet: Any) -> None:
    path = parquet(tract=[5063, None, -1], patch=[4.0, 5.0, 6.5])
    catalog = opened(path, tract_column="tract", patch_column="patch")
    rows = rows_of(catalog)
    assert [(row["tract"], row["patch"]) for row in rows] == [(5063, 4), (None, 5), (None, None)]
    assert [row["status"] for row in rows] == [None] * 3
    assert "2 rows have no tract number in column tract" in catalog.warnings[0]


def test_tract_is_null_where_it_is_not_given(parquet: Any) -> None:
    """A column of that name is not used unasked: it may be of another map."""
    assert column("tract", parquet(tract=[1, 2, 3])) == [None] * 3


# Carried columns -------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pa.array([1, None, -3], pa.int8()), pa.int8()),
        (pa.array([1, None, 2**64 - 1], pa.uint64()), pa.uint64()),
        (pa.array([1.5, None, math.inf], pa.float32()), pa.float32()),
        (pa.array([True, None, False]), pa.bool_()),
        (pa.array(["a", None, ""]), pa.string()),
        (pa.array(["a", None, "é"], pa.large_string()), pa.string()),
        (pa.array(["a", None, "a"]).dictionary_encode(), pa.string()),
    ],
)
def test_carried_columns_keep_values_nulls_and_types(parquet: Any, values: pa.Array, dtype: Any) -> None:
    catalog = opened(parquet(mag=values), carry=["mag"])
    assert [row["carried:mag"] for row in rows_of(catalog)] == values.to_pylist()
    assert catalog.carried[0].type == dtype


def test_carried_columns_keep_unit_and_description(tmp_path: Path) -> None:
    metadata = {"unit": "nJy", "description": "flux", "other": "x"}
    schema = pa.schema(
        [*(pa.field(name, pa.float64()) for name in ("ra", "dec")), pa.field("id", pa.int64())]
    )
    schema = schema.append(pa.field("flux", pa.float32(), metadata=metadata))
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"ra": [1.0], "dec": [1.0], "id": [1], "flux": [2.0]}, schema=schema), path)
    catalog = opened(str(path), carry=["flux"])
    assert (field_unit(catalog.carried[0]), field_description(catalog.carried[0])) == ("nJy", "flux")
    (batch,) = catalog.batches()
    assert batch.schema.equals(catalog.schema, check_metadata=True)
    assert field_unit(batch.schema.field("carried:flux")) == "nJy"


def test_units_of_a_table_that_astropy_wrote_are_found(tmp_path: Path) -> None:
    table = astropy.table.QTable({"id": [1, 2], "ra": [1.0, 2.0] * astropy.units.deg, "dec": [3.0, 4.0]})
    table["flux"] = [5.0, 6.0] * astropy.units.nJy
    table["flux"].info.description = "how bright"
    table.meta["made"] = {"by": ("somebody", 5)}
    table.write(tmp_path / "c.parquet")
    catalog = opened(str(tmp_path / "c.parquet"), carry=["flux"])
    assert field_unit(catalog.carried[0]) == "nJy"
    assert field_description(catalog.carried[0]) == "how bright"
    table["ra"] = table["ra"].to(astropy.units.rad)
    table.write(tmp_path / "r.parquet")
    assert "column ra is in radians" in opened(str(tmp_path / "r.parquet")).warnings[0]


def test_all_columns_are_carried_but_those_of_other_types(parquet: Any) -> None:
    path = parquet(
        mag=[1.0, 2.0, 3.0],
        shape=[[1], [2], [3]],
        when=pa.array([1, 2, 3], pa.timestamp("s")),
        **{"a/b": [1, 2, 3]},
    )
    catalog = opened(path, carry="all")
    assert [field.name for field in catalog.carried] == ["objectId", "coord_ra", "coord_dec", "mag"]
    assert [re.findall(r"column '(.*?)'", warning) for warning in catalog.warnings] == [
        ["shape"],
        ["when"],
        ["a/b"],
    ]


def test_column_of_another_type_is_refused_when_it_is_listed(parquet: Any) -> None:
    assert "timestamp" in refusal(parquet(when=pa.array([1, 2, 3], pa.timestamp("s"))), carry=["when"])


def test_types_in_csv_follow_from_all_rows(text: Any) -> None:
    """A reader that looks at the first block sees integers everywhere."""
    names = ["i", "f", "b", "s", "zip", "big", "gap", "none", "nan"]
    first = ["1", "1", "true", "1", "1", "1", "", "", "nan"]
    last = ["-2", "2.5", "False", "x", "007", str(2**63), "3", "", "NaN"]
    lines = [",".join(map(str, (n, 1, 2, *first))) for n in range(300)] + [",".join(["300", "1", "2", *last])]
    path = text(",".join(["id", "ra", "dec", *names]), *lines)
    with mock.patch.object(csv_file, "BLOCK_BYTES", 1000):
        catalog = opened(path, carry=names)
        end = rows_of(catalog)[-1]
    types = {field.name: str(field.type) for field in catalog.carried}
    assert types == {
        "i": "int64", "f": "double", "b": "bool", "s": "string", "zip": "string", "big": "string",
        "gap": "int64", "none": "string", "nan": "double",
    }  # fmt: skip
    expected = [-2, 2.5, False, "x", "007", str(2**63), 3, None]
    assert [end[f"carried:{name}"] for name in names[:-1]] == expected
    assert math.isnan(end["carried:nan"])


def test_missing_integers_in_csv_are_null_and_not_floats(text: Any) -> None:
    path = text("id,ra,dec,n", f"1,1,1,{2**53 + 1}", "2,1,1,NaN", "3,1,1,", "4,1,1,null")
    assert column("carried:n", path, carry=["n"]) == [2**53 + 1, None, None, None]


# Files -----------------------------------------------------------------------


def test_batches_have_the_documented_columns_and_at_most_the_rows_asked_for(parquet: Any) -> None:
    catalog = opened(parquet(mag=[1.0, 2.0, 3.0]), carry=["mag"])
    batches = list(catalog.batches(2))
    assert [batch.num_rows for batch in batches] == [2, 1]
    assert batches[0].schema.names == refusal_schema(pa.int64(), catalog.carried).names
    assert catalog.schema.names[-3:] == ["carried:mag", "status", "reason"]
    for batch in batches:
        batch.validate(full=True)


def test_catalog_can_be_read_again(parquet: Any) -> None:
    catalog = opened(parquet())
    assert rows_of(catalog) == rows_of(catalog)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_catalog_without_rows_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"c.{suffix}"
    # Without rows some writers know no types.
    table = pa.table({"id": pa.array([], pa.int64()), "ra": pa.array([], pa.float64()), "dec": pa.nulls(0)})
    if suffix == "csv":
        path.write_text("id,ra,dec\n")
    else:
        pq.write_table(table, path)
    assert "is empty" in refusal(str(path))


def test_file_without_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.touch()
    assert "is empty" in refusal(str(path))
    path.write_text("# only\n\n# comments\n")
    assert "no line with column names" in refusal(str(path))


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(str(tmp_path / "c.csv"))
    assert "is a directory" in refusal(str(tmp_path))
    assert "local disk" in refusal("s3://bucket/c.parquet")


@pytest.mark.parametrize("share", [0.0005, 0.3, 0.9, 0.999])
def test_truncated_parquet_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "c.parquet"
    n = np.arange(20_000)
    pq.write_table(pa.table({"id": n, "ra": n * 0.01, "dec": n * 0.001}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "damaged or was cut short" in refusal(str(path))


def test_damaged_page_of_a_parquet_catalog_is_refused_with_the_row(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    n = np.arange(50_000)
    table = pa.table({"id": n, "ra": n * 0.001, "dec": n * 0.001})
    pq.write_table(table, path, write_page_checksum=True, row_group_size=10_000, use_dictionary=False)
    group = pq.ParquetFile(path).metadata.row_group(3).column(1)
    damaged = bytearray(path.read_bytes())
    damaged[group.data_page_offset + group.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(damaged)
    rows = []
    with pytest.raises(UserError, match=r"cannot be read from row \d+ on: it is damaged"):
        for batch in opened(str(path)).batches(5000):
            rows += batch.column("row").to_pylist()
    assert rows == list(range(30_000))


def test_contents_count_more_than_the_name(parquet: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    Path(parquet()).rename(path)
    assert len(read(str(path))) == 3
    path = tmp_path / "c.parquet"
    path.write_text("id,ra,dec\n1,2,3\n")
    assert "not a Parquet file" in refusal(str(path))


def test_comments_are_passed_over_before_the_names(text: Any) -> None:
    path = text("\ufeff# %made by hand", "#", "", " id , ra,dec ", "1, 2, 3", "", "2,3,4")
    assert column("ra", path) == [2.0, 3.0]


def test_quoted_names_and_line_ends_of_windows_are_read(text: Any) -> None:
    path = text('"id","ra","dec","a,b"', '"1","2","3","x, ""y"""', end="\r\n")
    assert column("carried:a,b", path, carry="all") == ['x, "y"']


def test_compressed_csv_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.csv.gz"
    path.write_bytes(gzip.compress(b"id,ra,dec\n1,2,3\n4,5\n"))
    assert [row["status"] for row in read(str(path))] == [None, "invalid_position"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("1,2.5,3", "2,3.5,4"), "no line with column names"),
        (("#id,ra,dec", "1,2.5,3"), "Remove the # before it"),
        (("id;ra;dec", "1;2;3"), "separated by commas"),
        (("id ra dec", "1 2 3"), "separated by commas"),
        (("id\0,ra,dec", "1,2,3"), "neither Parquet, CSV, FITS nor VOTable"),
        (("id,ra,dec\udcff", "1,2,3"), "UTF-8 (line 1)"),
        (("id,ra,dec", "1,2,3", "x\udcff,2,3"), "UTF-8 (line 3)"),
        (("id,ra,dec,note", '1,2,3,"a', "2,3,4,b", "3,4,5,c"), "2 lines would be lost"),
    ],
)
def test_text_that_is_no_csv_catalog_is_refused(text: Any, lines: tuple[str, ...], expected: str) -> None:
    assert expected in refusal(text(*lines), carry="all")


def test_text_that_is_not_used_need_not_be_utf8(text: Any) -> None:
    assert column("ra", text("id,ra,dec,note", "1,2,3,M\udcfcller")) == [2.0]


def test_row_with_a_wrong_number_of_fields_is_answered_with_its_line(text: Any) -> None:
    rows = read(text("# comment", "id,ra,dec", "1,2,3", "2,3", "3,4,5,6", "4,5,6"))
    assert [row["status"] for row in rows] == [None, "invalid_position", "invalid_position", None]
    assert rows[1]["reason"] == "Row 1 (line 4) has 2 fields where the header has 3: '2,3'."
    assert [row["target_id"] for row in rows] == [1, None, None, 4]


def test_line_is_not_told_where_lines_are_not_rows(text: Any) -> None:
    rows = read(text("id,ra,dec", "", "1,2,3", "2,3"))
    assert rows[1]["reason"] == "Row 1 has 2 fields where the header has 3: '2,3'."


def test_text_over_several_lines_is_warned_about(text: Any) -> None:
    """One quotation mark too many in two rows swallows what is between."""
    catalog = opened(text("id,ra,dec,note", '1,2,3,"a', 'b"', "4,5,6,c"))
    assert catalog.n_rows == 2
    assert "1 lines belong to quoted text" in catalog.warnings[0]


def test_file_whose_rows_do_not_fit_its_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("id,ra,dec\n" + "1,2,3,\n" * 10_100)
    message = refusal(str(path))
    assert "more than half of the rows" in message and "has 4 fields" in message


def test_row_that_is_too_long_is_refused(text: Any) -> None:
    with mock.patch.object(csv_file, "BLOCK_BYTES", 1000):
        message = refusal(text("id,ra,dec,note", "1,2,3,a", '2,3,4,"' + "b" * 5000))
    assert "more than 1000 bytes" in message


@pytest.mark.parametrize("change", ["4,5,6\n", "id,ra,dec\n1,2,3\nx,2,3\n", "id,ra,dec\n1,2,3\n"])
def test_csv_that_changes_between_readings_is_noticed(text: Any, change: str) -> None:
    path = Path(text("id,ra,dec", "1,2,3", "2,3,4"))
    catalog = opened(str(path))
    path.write_text(change)
    with pytest.raises(UserError, match="was changed while it was read"):
        rows_of(catalog)
