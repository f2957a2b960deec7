# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Every format of catalogs: read as astropy and fitsio read it."""

from __future__ import annotations

import bz2
import gzip
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import astropy.io.fits
import astropy.io.votable
import astropy.table
import astropy.units as u
import fitsio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsst.dax.bulkcutout.catalog import Catalog, file_bytes, fits_file, open_catalog
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.request import CatalogSpec
from lsst.dax.bulkcutout.tables import field_description, field_unit

N = 257


def make_table() -> astropy.table.Table:
    """Make a table whose rows all differ, with what is missing in some."""
    rng = np.random.default_rng(3)
    n = np.arange(N)
    table = astropy.table.Table(
        {
            "objectId": 2**60 + 3 * n,
            "ra": 360 * rng.random(N) * u.deg,
            "dec": (180 * rng.random(N) - 90) * u.deg,
            "flux": (n * 0.5).astype(np.float32),
            "count": astropy.table.MaskedColumn(n.astype(np.int16), mask=n % 7 == 3, fill_value=-99),
            "name": [f"source {k}" for k in n],
            "is_star": n % 3 == 0,
            "small": (n % 200).astype(np.uint8),
        }
    )
    table["flux"].unit = u.nJy
    table["flux"].description = "Flux of the model."
    table["flux"][5] = np.nan
    return table


def write_parquet(table: astropy.table.Table, path: Path) -> None:
    fields, arrays = [], []
    for name, column in table.columns.items():
        metadata = {"unit": str(column.unit or ""), "description": column.description or ""}
        arrays.append(pa.array(np.asarray(column), mask=getattr(column, "mask", None)))
        fields.append(pa.field(name, arrays[-1].type, metadata=metadata))
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), path)


def write_directory(table: astropy.table.Table, path: Path) -> None:
    path.mkdir()
    for n, rows in enumerate((slice(0, 100), slice(100, 100), slice(100, None))):
        write_parquet(table[rows], path / f"part-{n}.parquet")


def write_hats(table: astropy.table.Table, path: Path) -> None:
    root = path / "dataset"
    (path).mkdir()
    (path / "hats.properties").write_text(
        f"#HATS catalog\nobs_collection=stars\ndataproduct_type=object\nhats_nrows={len(table)}\n"
        "hats_col_ra=ra\nhats_col_dec=dec\nhats_order=10\n"
    )
    pixels = [(0, 7), (1, 4), (1, 10)]
    (path / "partition_info.csv").write_text("Norder,Npix\n" + "".join(f"{o},{p}\n" for o, p in pixels))
    for (order, pixel), rows in zip(pixels, (slice(0, 50), slice(50, 130), slice(130, None)), strict=True):
        place = root / f"Norder={order}" / "Dir=0"
        place.mkdir(parents=True, exist_ok=True)
        write_parquet(table[rows], place / f"Npix={pixel}.parquet")
    # What is in such a directory besides.
    write_parquet(table[:9], root / "data_thumbnail.parquet")
    pq.write_metadata(pa.schema([("objectId", pa.int64())]), root / "_metadata")
    pq.write_metadata(pa.schema([("objectId", pa.int64())]), root / "_common_metadata")
    (path / "point_map.fits").write_bytes(b"SIMPLE")


def write_fits(table: astropy.table.Table, path: Path) -> None:
    table.write(path, format="fits")


def votable(kind: str) -> Callable[[astropy.table.Table, Path], None]:
    def write(table: astropy.table.Table, path: Path) -> None:
        file = astropy.io.votable.from_table(table)
        # Only BINARY2 has another way to say that an integer is missing.
        file.get_first_table().get_field_by_id("count").values.null = -99
        file.to_xml(str(path), tabledata_format=kind)

    return write


def compressed(
    write: Callable[[astropy.table.Table, Path], None], compress: Callable[[bytes], bytes]
) -> Callable[[astropy.table.Table, Path], None]:
    def write_compressed(table: astropy.table.Table, path: Path) -> None:
        write(table, path)
        path.write_bytes(compress(path.read_bytes()))

    return write_compressed


def write_csv(table: astropy.table.Table, path: Path) -> None:
    table.write(path, format="ascii.csv")


FORMATS: dict[str, Callable[[astropy.table.Table, Path], None]] = {
    "parquet": write_parquet,
    "parquet directory": write_directory,
    "hats": write_hats,
    "fits": write_fits,
    "fits.gz": compressed(write_fits, gzip.compress),
    "tabledata": votable("tabledata"),
    "binary": votable("binary"),
    "binary2": votable("binary2"),
    "votable.gz": compressed(votable("binary2"), gzip.compress),
    "csv": write_csv,
    "csv.gz": compressed(write_csv, gzip.compress),
    "csv.bz2": compressed(write_csv, bz2.compress),
    "csv.zst": compressed(write_csv, lambda data: pa.compress(data, "zstd", asbytes=True)),
}


def opened(path: Path, **spec: Any) -> Catalog:
    return open_catalog(CatalogSpec(uri=str(path), **spec), 64)


def read(path: Path, batch_rows: int = 200_000, **spec: Any) -> pa.Table:
    return pa.Table.from_batches(opened(path, **spec).batches(batch_rows))


def refusal(path: Path, **spec: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(path, **spec)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_format_is_told_by_contents_and_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    """The name of the file says nothing at all."""
    table = make_table()
    path = tmp_path / "catalog"
    FORMATS[name](table, path)
    catalog = opened(path, carry="all")
    assert catalog.n_rows == N
    rows = pa.Table.from_batches(catalog.batches(100))
    assert rows["row"].to_pylist() == list(range(N))
    assert rows["target_id"].to_pylist() == table["objectId"].tolist()
    assert np.array_equal(rows["ra"], table["ra"]) and np.array_equal(rows["dec"], table["dec"])
    assert rows["status"].null_count == N
    expected = [None if m else v for v, m in zip(table["count"].data.data, table["count"].mask, strict=True)]
    assert rows["carried:count"].to_pylist() == expected
    assert rows["carried:name"].to_pylist() == table["name"].tolist()
    assert rows["carried:is_star"].to_pylist() == table["is_star"].tolist()
    assert rows["carried:small"].to_pylist() == table["small"].tolist()
    flux = rows["carried:flux"].to_numpy()
    assert np.array_equal(flux.astype(np.float32), table["flux"].data, equal_nan=True)
    assert catalog.warnings == []
    if "csv" not in name:
        field = {field.name: field for field in catalog.carried}["flux"]
        assert field.type == pa.float32()
        assert field_unit(field) == "nJy"
        if "fits" not in name:
            assert field_description(field) == "Flux of the model."


# FITS tables -----------------------------------------------------------------


def write_hdus(path: Path, *hdus: Any) -> None:
    astropy.io.fits.HDUList([astropy.io.fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)


def good_columns(n: int = 3) -> list[Any]:
    return [
        astropy.io.fits.Column("id", "K", array=np.arange(n) + 7),
        astropy.io.fits.Column("ra", "D", unit="deg", array=np.linspace(10, 20, n)),
        astropy.io.fits.Column("dec", "D", unit="deg", array=np.linspace(-5, 5, n)),
    ]


@pytest.mark.parametrize(
    ("form", "zero", "values"),
    [
        ("I", 2**15, np.array([0, 1, 65535], np.uint16)),
        ("J", 2**31, np.array([0, 2**31, 2**32 - 1], np.uint32)),
        ("K", 2**63, np.array([0, 2**63 - 1, 2**64 - 1], np.uint64)),
        ("B", -128, np.array([-128, 0, 127], np.int8)),
    ],
)
def test_unsigned_integers_are_as_fitsio_reads_them(
    tmp_path: Path, form: str, zero: float, values: np.ndarray
) -> None:
    path = tmp_path / "c.fits"
    column = astropy.io.fits.Column("value", form, bzero=zero, array=values)
    write_hdus(path, astropy.io.fits.BinTableHDU.from_columns([*good_columns(), column]))
    expected = fitsio.read(path, ext=1, columns="value")
    assert expected.tolist() == values.tolist()
    assert read(path, carry=["value"])["carried:value"].to_pylist() == values.tolist()


def test_scaled_integers_are_as_astropy_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "c.fits"
    column = astropy.io.fits.Column("value", "J", array=np.array([-7, 0, 123_456]))
    write_hdus(path, astropy.io.fits.BinTableHDU.from_columns([*good_columns(), column]))
    with fitsio.FITS(str(path), "rw") as file:
        file[1].write_key("TSCAL4", 0.25)
        file[1].write_key("TZERO4", 100.0)
    expected = astropy.io.fits.getdata(path)["value"].tolist()
    assert read(path, carry=["value"])["carried:value"].to_pylist() == expected == [98.25, 100.0, 30964.0]


def test_null_of_a_fits_table_is_the_stored_value(tmp_path: Path) -> None:
    path = tmp_path / "c.fits"
    columns = [
        astropy.io.fits.Column("value", "J", null=-1, array=np.array([-1, 0, 5])),
        astropy.io.fits.Column("text", "5A", array=np.array(["", "ab  c", "x  "])),
        astropy.io.fits.Column("pair", "2E", array=np.ones((3, 2))),
        astropy.io.fits.Column("list", "PJ()", array=np.array([[1], [1, 2], []], dtype=object)),
    ]
    write_hdus(path, astropy.io.fits.BinTableHDU.from_columns([*good_columns(), *columns]))
    catalog = opened(path, carry="all")
    rows = pa.Table.from_batches(catalog.batches())
    assert rows["carried:value"].to_pylist() == [None, 0, 5]
    assert rows["carried:text"].to_pylist() == [None, "ab  c", "x"]
    assert [re.findall("column '(.*)' is not", w) for w in catalog.warnings] == [["pair"], ["list"]]


def test_truth_values_of_a_fits_table_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "c.fits"
    column = astropy.io.fits.Column("flag", "L", array=np.array([True, False, True]))
    write_hdus(path, astropy.io.fits.BinTableHDU.from_columns([*good_columns(), column]))
    data = bytearray(path.read_bytes())
    with astropy.io.fits.open(path) as hdus:
        start, width = hdus[1].fileinfo()["datLoc"], hdus[1].header["NAXIS1"]
    assert data[start + width - 1] == ord("T")
    data[start + width - 1] = 0
    path.write_bytes(data)
    assert read(path, carry=["flag"])["carried:flag"].to_pylist() == [None, False, True]


def test_text_of_a_fits_table_that_is_not_utf8_is_replaced_and_said_so(tmp_path: Path) -> None:
    path = tmp_path / "c.fits"
    column = astropy.io.fits.Column("text", "3A", array=np.array(["abc", "a?c", "x"]))
    write_hdus(path, astropy.io.fits.BinTableHDU.from_columns([*good_columns(), column]))
    path.write_bytes(path.read_bytes().replace(b"a?c", b"a\xffc"))
    catalog = opened(path, carry=["text"])
    for _ in range(2):
        rows = pa.Table.from_batches(catalog.batches())
        assert rows["carried:text"].to_pylist() == ["abc", "a\N{REPLACEMENT CHARACTER}c", "x"]
        assert len(catalog.warnings) == 1 and "column text has text that is not UTF-8" in catalog.warnings[0]


def test_first_binary_table_with_rows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.fits"
    image = astropy.io.fits.ImageHDU(np.arange(35.0).reshape(5, 7))
    squeezed = astropy.io.fits.CompImageHDU(np.arange(10_000, dtype=np.int32).reshape(50, 200))
    empty = astropy.io.fits.BinTableHDU.from_columns(good_columns(0))
    first = astropy.io.fits.BinTableHDU.from_columns(good_columns(4))
    second = astropy.io.fits.BinTableHDU.from_columns(good_columns(9))
    write_hdus(path, image, squeezed, empty, first, second)
    assert len(read(path)) == 4
    write_hdus(path, image, empty)
    assert "a binary table, but it has no rows" in refusal(path)
    write_hdus(path, image)
    assert "no binary table" in refusal(path)


def test_blocks_of_rows_do_not_depend_on_their_size(tmp_path: Path) -> None:
    path = tmp_path / "c.fits"
    write_fits(make_table(), path)
    wanted = {"carry": ["count", "name", "is_star", "small"]}
    whole = read(path, **wanted)
    with mock.patch.object(fits_file, "BLOCK_BYTES", 1000):
        assert read(path, **wanted).equals(whole)
    assert read(path, batch_rows=10, **wanted).equals(whole)


@pytest.mark.parametrize("write", [write_fits, FORMATS["fits.gz"]])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.7, 0.85])
def test_fits_catalog_that_was_cut_short_is_refused(tmp_path: Path, write: Any, share: float) -> None:
    path = tmp_path / "c.fits"
    write(make_table()[:200], path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert re.search("was cut short|damaged", refusal(path))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"TFORM2  = 'D ", b"TFORM2  = 'Y "),
        (b"TFORM2  = 'D ", b"TFORM2  = 'J "),
        (b"TFORM2  = 'D ", b"TFORM2  = '999999999D "),
        (b"NAXIS1  =                   24", b"NAXIS1  =                    0"),
        (b"NAXIS1  =                   24", b"NAXIS1  =            999999999"),
        (b"NAXIS2  =                    3", b"NAXIS2  =                   -3"),
        (b"NAXIS2  =                    3", b"NAXIS2  =      999999999999999"),
        (b"NAXIS2  =                    3", b"NAXIS2  = 'three             '"),
        (b"TFIELDS =                    3", b"TFIELDS =                    T"),
        (b"TFIELDS =                    3", b"TFIELDS =                    4"),
    ],
)
def test_fits_table_that_is_described_wrongly_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "c.fits"
    write_hdus(path, astropy.io.fits.BinTableHDU.from_columns(good_columns()))
    data = path.read_bytes()
    assert data.count(old) == 1
    at = data.index(old)
    card = data[at : at + 80]
    path.write_bytes(data.replace(card, card.replace(old, new)[:80].ljust(80), 1))
    assert "cannot be read" in refusal(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    place=st.floats(0, 1, exclude_max=True),
    junk=st.sampled_from([b"9", b"'", b"=", b" ", b"T", b"\0", b"\xff", b"/", b"-", b"E", b"999999999999"]),
    longer=st.booleans(),
)
def test_damage_anywhere_in_a_fits_table_is_a_refusal_or_another_catalog(
    tmp_path: Path, place: float, junk: bytes, longer: bool
) -> None:
    path = tmp_path / "c.fits"
    write_hdus(path, astropy.io.fits.BinTableHDU.from_columns(good_columns()))
    data = path.read_bytes()
    at = int(place * len(data))
    path.write_bytes(data[:at] + junk + data[at + len(junk) * (not longer) :])
    try:
        read(path, carry="all")
    except UserError:
        pass


# Directories -----------------------------------------------------------------


def part(path: Path, start: int, n: int = 2, **columns: Any) -> None:
    numbers = np.arange(start, start + n)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": numbers, "ra": numbers * 1.0, "dec": numbers * 0.5, **columns}), path)


def test_files_of_a_directory_come_in_the_order_of_the_numbers_in_their_names(tmp_path: Path) -> None:
    path = tmp_path / "c"
    for n in (10, 9, 100, 1):
        part(path / f"part-{n}.parquet", n)
    part(path / "b" / "part-0.PARQ", 500)
    part(path / "_temporary" / "part-3.parquet", 3)
    part(path / ".hidden.parquet", 4)
    (path / "_SUCCESS").touch()
    (path / "README").touch()
    catalog = opened(path)
    ids = pa.Table.from_batches(catalog.batches())["target_id"].to_pylist()
    assert ids == [500, 501, 1, 2, 9, 10, 10, 11, 100, 101]
    (warning,) = catalog.warnings
    assert "1 files that are not named as Parquet files are passed over, README" in warning


def test_keys_in_names_of_directories_become_columns(tmp_path: Path) -> None:
    path = tmp_path / "c"
    table = pa.table(
        {"id": [1, 2, 3], "ra": [1.0, 2.0, 3.0], "dec": [1.0, 2.0, 3.0], "tract": [12, 5, 12]}
        | {"kind": ["a b", "c", None]}
    )
    pq.write_to_dataset(table, path, partition_cols=["tract", "kind"])
    rows = read(path, carry=["tract", "kind"]).to_pylist()
    found = {row["target_id"]: (row["carried:tract"], row["carried:kind"]) for row in rows}
    assert found == {1: (12, "a b"), 2: (5, "c"), 3: (12, None)}
    rows = read(path, tract_column="tract", patch_column="tract")
    assert rows["tract"].to_pylist() == [5, 12, 12]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"mag": [1.0, 2.0]}, "has a column 'mag', unlike"),
        ({"ra": pa.array([1.0, 2.0], pa.float32())}, "has 'ra' as float, and it is double in"),
    ],
)
def test_file_with_other_columns_is_named(tmp_path: Path, columns: dict[str, Any], problem: str) -> None:
    path = tmp_path / "c"
    part(path / "a.parquet", 1)
    part(path / "b.parquet", 3, **columns)
    assert f"{path / 'b.parquet'} {problem} {path / 'a.parquet'}" in refusal(path)
    part(path / "a.parquet", 1, **columns)
    assert len(read(path)) == 4


def test_columns_in_another_order_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "c"
    part(path / "a.parquet", 1)
    pq.write_table(pa.table({"dec": [1.0], "ra": [2.0], "id": [3]}), path / "b.parquet")
    assert read(path)["ra"].to_pylist() == [1.0, 2.0, 2.0]


def test_damaged_file_of_a_directory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c"
    part(path / "a.parquet", 1)
    (path / "b.parquet").write_bytes((path / "a.parquet").read_bytes()[:100])
    assert f"{path / 'b.parquet'} cannot be read: it is damaged" in refusal(path)


def test_bad_row_is_counted_over_the_whole_directory(tmp_path: Path) -> None:
    path = tmp_path / "c"
    part(path / "a.parquet", 1)
    part(path / "b.parquet", 3, extra=[1, 2])
    part(path / "a.parquet", 1, extra=[1, 2])
    pq.write_table(pa.table({"id": [1], "ra": [400.0], "dec": [0.0], "extra": [0]}), path / "c.parquet")
    (row,) = read(path).slice(4).to_pylist()
    assert row["reason"] == "ra in row 4 is 400.0: must be from -180 to 360 degrees."


def test_directory_without_parquet_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.mkdir()
    assert "directory without Parquet files" in refusal(path)
    (path / "stars.csv").touch()
    assert "(it has stars.csv)" in refusal(path)


@pytest.mark.parametrize(
    "properties", ["dataproduct_type=margin\n", "dataproduct_type = index\n", "catalog_type=association\n"]
)
def test_margins_and_other_tables_of_hats_are_refused(tmp_path: Path, properties: str) -> None:
    path = tmp_path / "c"
    write_hats(make_table(), path)
    (path / "hats.properties").rename(path / "properties")
    assert len(read(path)) == N
    (path / "properties").write_text(properties)
    kind = properties.strip().partition("=")[2].strip()
    assert f"HATS table of the kind '{kind}', not a catalog" in refusal(path)


def test_hats_files_come_by_order_and_pixel_and_columns_are_those_it_names(tmp_path: Path) -> None:
    path = tmp_path / "c"
    table = make_table()
    table["coord_ra"], table["coord_dec"] = 1.0, 2.0
    write_hats(table, path)
    rows = read(path)
    assert rows["target_id"].to_pylist() == table["objectId"].tolist()
    assert np.array_equal(rows["ra"], table["ra"])


def test_hats_collection_is_read_without_its_margin(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.mkdir()
    write_hats(make_table(), path / "stars")
    write_hats(make_table(), path / "stars_margin")
    (path / "stars_margin" / "hats.properties").write_text("dataproduct_type=margin\n")
    assert "a HATS catalog in it, stars: name that one" in refusal(path)
    (path / "collection.properties").write_text("hats_primary_table_url=stars\nall_margins=stars_margin\n")
    assert len(read(path)) == N
    (path / "collection.properties").write_text("hats_primary_table_url=../elsewhere\n")
    assert "main catalog '../elsewhere' is not in it" in refusal(path)


def test_hats_catalog_that_is_not_complete_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    write_hats(make_table(), path)
    lost = path / "dataset" / "Norder=1" / "Dir=0" / "Npix=4.parquet"
    lost.unlink()
    assert "1 of the 3 files in its partition_info.csv are missing, Norder=1 Npix=4" in refusal(path)
    (path / "partition_info.csv").unlink()
    assert "has 257 rows, and its files have 177" in opened(path).warnings[0]


# Compressed files ------------------------------------------------------------


def test_file_that_becomes_far_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(gzip.compress(b"id,ra,dec\n" + b"1,2,3\n" * 500_000))
    with mock.patch.object(file_bytes, "ALWAYS_ALLOWED_BYTES", 1_000_000):
        assert "more than 200 times as large" in refusal(path)
    for content in (b"SIMPLE  =                    T" + b" " * 3_000_000, b"<VOTABLE>" + b" " * 3_000_000):
        path.write_bytes(gzip.compress(content))
        with mock.patch.object(file_bytes, "ALWAYS_ALLOWED_BYTES", 1_000_000):
            assert re.search("more than 200 times as large|cut short", refusal(path))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("name", ["csv.gz", "csv.bz2", "csv.zst", "votable.gz"])
def test_compressed_file_that_was_cut_short_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / "catalog"
    FORMATS[name](make_table(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "damaged or was cut short" in refusal(path)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"PK\x03\x04 and so on", "a ZIP archive"),
        (b"\xfd7zXZ\x00", "compressed by xz"),
    ],
)
def test_formats_that_are_not_read_are_refused_by_name(tmp_path: Path, start: bytes, name: str) -> None:
    path = tmp_path / "c.dat"
    path.write_bytes(start)
    assert f"is {name}, which is not read" in refusal(path)


def test_parquet_that_was_compressed_again_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet.gz"
    part(path, 1)
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert "compressed again: decompress it" in refusal(path)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Let astropy write units that VOTables do not know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
