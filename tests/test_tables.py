# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout import tables
from lsst.dax.bulkcutout.errors import did_you_mean, nearest_names
from lsst.dax.bulkcutout.tables import (
    carried_fields,
    field_description,
    field_unit,
    in_band_order,
    refusal_schema,
    status_names,
    status_schema,
    target_schema,
    why_not_carried,
    with_unit,
)


def test_target_table_has_the_columns_that_other_modules_rely_on() -> None:
    schema = target_schema(pa.string(), [pa.field("mag", pa.float32())])
    assert schema.names == [
        "row", "target_id", "ra", "dec", "size_pixels", "tract", "patch", "carried:mag",
    ]  # fmt: skip
    assert schema.field("row").type == pa.int64()
    assert schema.field("target_id").type == pa.string()
    assert schema.field("carried:mag").type == pa.float32()
    assert field_unit(schema.field("ra")) == "deg"


def test_refusals_are_target_rows_with_status_and_reason() -> None:
    assert refusal_schema(pa.int64()).names == [*target_schema(pa.int64()).names, "status", "reason"]


def test_status_table_has_the_columns_that_users_rely_on() -> None:
    assert status_schema(pa.int64(), [pa.field("mag", pa.float32())]).names == [
        "row", "target_id", "ra", "dec", "status", "reason", "tract", "patch", "fallback", "size_pixels",
        "file", "index", "valid_fraction", "bands", "mag",
    ]  # fmt: skip


def test_carried_columns_come_back_with_their_own_names_and_metadata() -> None:
    field = with_unit(pa.field("row", pa.int8()), unit="mag", description="brightness")
    (again,) = carried_fields(refusal_schema(pa.int64(), [field]))
    assert again.equals(field, check_metadata=True)


def test_carried_column_with_one_of_our_names_is_renamed_in_the_status_table() -> None:
    assert status_names(["mag", "ra", "tract"]) == ["mag", "catalog_ra", "catalog_tract"]


def test_renamed_column_does_not_meet_another_one() -> None:
    assert status_names(["catalog_ra", "ra"]) == ["catalog_ra", "catalog_catalog_ra"]


@given(
    carried=st.lists(
        st.builds(
            lambda n, name: "catalog_" * n + name,
            st.integers(0, 3),
            st.sampled_from(["ra", "dec", "row", "x", "status", "file"]),
        ),
        unique=True,
    )
)
def test_status_table_never_has_a_name_twice(carried: list[str]) -> None:
    names = status_schema(pa.int64(), [pa.field(name, pa.int64()) for name in carried]).names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "dtype",
    [
        pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.bool_(), pa.string(), pa.large_string(),
        pa.dictionary(pa.int8(), pa.string()),
    ],
)  # fmt: skip
def test_simple_types_are_carried(dtype: pa.DataType) -> None:
    assert why_not_carried("mag", dtype) is None


@pytest.mark.parametrize(
    "dtype", [pa.list_(pa.int8()), pa.struct([]), pa.timestamp("s"), pa.binary(), pa.decimal128(3), pa.null()]
)
def test_other_types_are_not_carried(dtype: pa.DataType) -> None:
    assert str(dtype) in (why_not_carried("mag", dtype) or "")


@pytest.mark.parametrize("name", ["", ".", "a/b", "a\0b", "a\nb"])
def test_names_that_hdf5_cannot_hold_are_not_carried(name: str) -> None:
    assert "name" in (why_not_carried(name, pa.int64()) or "")


@pytest.mark.parametrize(
    "metadata",
    [{"unit": "mag", "description": "x"}, {"TUNIT": " mag ", "TCOMM": "x"}, {"unit": "", "units": "mag"}],
)
def test_unit_is_read_from_the_keys_that_writers_use(metadata: dict[str, str]) -> None:
    assert field_unit(pa.field("mag", pa.float32(), metadata=metadata)) == "mag"


def test_column_without_metadata_has_no_unit_and_no_description() -> None:
    field = pa.field("mag", pa.float32())
    assert (field_unit(field), field_description(field)) == ("", "")


def test_bands_are_ordered_by_wavelength_then_name() -> None:
    assert in_band_order(["y", "N921", "r", "HSC-G", "u", "r"]) == ("u", "r", "y", "HSC-G", "N921")


def test_every_status_has_a_sentence() -> None:
    assert all(sentence.endswith(".") for sentence in tables.STATUS.values())
    assert set(tables.STATUS) == {
        "delivered", "outside_footprint", "no_dataset", "no_data", "read_failed", "not_processed",
        "invalid_position", "invalid_size", "invalid_id",
    }  # fmt: skip


def test_nearest_name_is_found_in_any_case() -> None:
    assert nearest_names("COORD_RA", ["coord_dec", "coord_ra", "z"])[0] == "coord_ra"
    assert did_you_mean("xyzzy", ["coord_ra"]) == ""
