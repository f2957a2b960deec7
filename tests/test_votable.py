# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""VOTables: what is missing in them, and what is meant to do harm."""

from __future__ import annotations

import base64
import gzip
import struct
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import astropy.io.votable
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsst.dax.bulkcutout.catalog import Catalog, open_catalog, votable_parser
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.request import CatalogSpec

FIELDS = """
<FIELD name="id" datatype="long"/>
<FIELD name="ra" datatype="double" unit="deg" ucd="pos.eq.ra;meta.main"/>
<FIELD name="dec" datatype="double" unit="deg" ucd="pos.eq.dec;meta.main"/>
"""
MORE = '<FIELD name="more" datatype="long" arraysize="{}"/>'
ROWS = "<TR><TD>7</TD><TD>10.5</TD><TD>-5</TD></TR><TR><TD>8</TD><TD>11</TD><TD>+6e0</TD></TR>"
ENCODED = base64.b64encode(struct.pack(">qddqdd", 7, 10.5, -5, 8, 11, 6)).decode()


def tabledata(rows: str, fields: str = FIELDS) -> str:
    return f"<TABLE>{fields}<DATA><TABLEDATA>{rows}</TABLEDATA></DATA></TABLE>"


def binary(encoded: str, fields: str = FIELDS, kind: str = "BINARY") -> str:
    return (
        f'<TABLE>{fields}<DATA><{kind}><STREAM encoding="base64">{encoded}</STREAM></{kind}></DATA></TABLE>'
    )


def document(*tables: str, declaration: str = '<?xml version="1.0"?>\n') -> str:
    return (
        f'{declaration}<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f"<RESOURCE>{''.join(tables)}</RESOURCE></VOTABLE>\n"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.xml"


def opened(path: Path, contents: str | bytes, **spec: Any) -> Catalog:
    path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    return open_catalog(CatalogSpec(uri=str(path), **spec), 64)


def read(path: Path, contents: str | bytes, **spec: Any) -> list[dict[str, Any]]:
    catalog = opened(path, contents, **spec)
    return pa.Table.from_batches(catalog.batches()).to_pylist()


def refusal(path: Path, contents: str | bytes, **spec: Any) -> str:
    """Return the message of a refusal that comes within a second."""
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        read(path, contents, **spec)
    assert time.process_time() - start < 1
    assert str(path) in str(caught.value)
    return str(caught.value)


def places(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["target_id"], row["ra"], row["dec"]) for row in rows]


GOOD = [(7, 10.5, -5.0), (8, 11.0, 6.0)]


# What is meant to do harm ----------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[str]:
    """A file that nobody may open while the test runs."""
    path = tmp_path / "secret.txt"
    path.write_text("1 2 3")
    yield path.as_uri()
    # Not even looked at.
    assert path.stat().st_atime_ns <= path.stat().st_mtime_ns


LAUGHS = '<!DOCTYPE VOTABLE [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(98 + k)} "{f"&{chr(97 + k)};" * 10}">' for k in range(12)
)

HOSTILE = {
    "billion laughs": (
        LAUGHS + f"]>{document(tabledata('<TR><TD>&m;</TD><TD>1</TD><TD>2</TD></TR>'), declaration='')}",
        "has <!DOCTYPE",
    ),
    "external entity": (
        '<!DOCTYPE VOTABLE [<!ENTITY x SYSTEM "SECRET">]>'
        + document(tabledata("<TR><TD>1</TD><TD>&x;</TD><TD>2</TD></TR>"), declaration=""),
        "has <!DOCTYPE",
    ),
    "external document type": (
        '<!DOCTYPE VOTABLE SYSTEM "SECRET">' + document(tabledata(ROWS), declaration=""),
        "has <!DOCTYPE",
    ),
    "entity after the start": (
        document(tabledata(ROWS)).replace("<RESOURCE>", '<RESOURCE><!ENTITY x SYSTEM "SECRET">'),
        "has <!ENTITY",
    ),
    "stream from a file": (
        document(binary("").replace('encoding="base64"', 'encoding="base64" href="SECRET"')),
        "STREAM href",
    ),
    "stream from a file with a prefix": (
        document(binary("").replace("<STREAM ", "<v:STREAM\nx='>' href = 'SECRET' ")),
        "STREAM href",
    ),
    "fits file": (
        document(f'<TABLE>{FIELDS}<DATA><FITS><STREAM href="SECRET"/></FITS></DATA></TABLE>'),
        "STREAM href",
    ),
    "parquet file": (
        document(f'<TABLE>{FIELDS}<DATA><PARQUET type="x"><STREAM href="SECRET"/></PARQUET></DATA></TABLE>'),
        "STREAM href",
    ),
}

DISGUISES = {
    "plain": lambda text: text.encode(),
    "bom": lambda text: text.encode("utf-8-sig"),
    "latin-1": lambda text: (
        b'<?xml version="1.0" encoding="ISO-8859-1"?>' + text.removeprefix('<?xml version="1.0"?>\n').encode()
    ),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16-le without bom": lambda text: text.encode("utf-16-le"),
    "utf-16-be": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "gzip": lambda text: gzip.compress(text.encode()),
    "gzip of utf-16": lambda text: gzip.compress(text.encode("utf-16")),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("name", HOSTILE)
def test_votable_that_names_other_files_or_entities_is_refused(
    path: Path, secret: str, name: str, disguise: str
) -> None:
    text, message = HOSTILE[name]
    contents = DISGUISES[disguise](text.replace("SECRET", secret))
    with mock.patch.object(votable_parser.xml.parsers.expat, "ParserCreate") as parser:
        assert message in refusal(path, contents)
    # No parser has seen a byte of it.
    parser.assert_not_called()


def test_parser_refuses_by_itself_what_the_scan_looks_for(path: Path, secret: str) -> None:
    """The file may be exchanged after the scan."""
    for name, (text, _) in HOSTILE.items():
        with mock.patch("lsst.dax.bulkcutout.catalog.votable_file.check_votable"):
            message = refusal(path, text.replace("SECRET", secret))
        assert any(word in message for word in ("document type", "STREAM href", "in the form", "damaged")), (
            name
        )


@pytest.mark.parametrize("disguise", DISGUISES)
def test_harmless_votable_is_read_in_every_encoding(path: Path, disguise: str) -> None:
    assert places(read(path, DISGUISES[disguise](document(tabledata(ROWS))))) == GOOD


@pytest.mark.parametrize("encoding", ["utf-7", "cp037", "utf-32", "hz"])
def test_encoding_that_could_hide_markup_is_refused(path: Path, encoding: str) -> None:
    text = document(tabledata(ROWS), declaration=f'<?xml version="1.0" encoding="{encoding}"?>')
    assert "save it as UTF-8" in refusal(path, text if encoding != "utf-32" else text.encode(encoding))


def test_elements_that_are_nested_deeply_are_refused(path: Path) -> None:
    message = refusal(path, "<VOTABLE>" + "<RESOURCE>" * 500_000)
    assert "nested more than 50 deep" in message


@pytest.mark.parametrize(
    "inside",
    [
        "<INFO name='" + "x" * 3_000_000,
        tabledata("<TR><TD>" + "y " * 2_000_000),
        tabledata("<TR>" + "<TD/>" * 500_000),
        "<TABLE>" + "<FIELD name='a' datatype='int'/>" * 10_001,
    ],
)
def test_what_would_have_to_be_held_in_memory_is_refused(path: Path, inside: str) -> None:
    with mock.patch.object(votable_parser, "MOST_CELL_BYTES", 1_000_000):
        message = refusal(path, document(inside))
    assert "more than" in message


@pytest.mark.parametrize("table", [tabledata(ROWS * 2000), tabledata(ROWS.replace("-5", "&#45;5") * 2000)])
@pytest.mark.parametrize("kind", ["tabledata", "binary"])
def test_what_need_not_be_held_may_be_of_any_size(path: Path, table: str, kind: str) -> None:
    """The limit is that of a value, not that of the file."""
    contents = document(table if kind == "tabledata" else binary(ENCODED * 2000))
    with (
        mock.patch.object(votable_parser, "MOST_CELL_BYTES", 20_000),
        mock.patch.object(votable_parser, "FEED_BYTES", 5000),
    ):
        assert len(contents) > 60_000 and len(read(path, contents)) == 4000


@pytest.mark.parametrize("share", np.linspace(0.01, 0.97, 23).tolist())
@pytest.mark.parametrize("table", [tabledata(ROWS * 40), binary(ENCODED * 40)])
def test_votable_that_was_cut_short_is_refused(path: Path, table: str, share: float) -> None:
    contents = document(table)
    last = contents.index("</TABLE>")
    assert "cannot be read" in refusal(path, contents[: int(share * last)])


@pytest.mark.parametrize(
    ("encoded", "problem"),
    [
        (ENCODED[:-4], "do not end with a row"),
        (ENCODED + "AAAA", "do not end with a row"),
        (ENCODED[:-1], "do not end with a row"),
        ("*" + ENCODED[1:], "base64"),
    ],
)
def test_binary_data_of_another_length_are_refused(path: Path, encoded: str, problem: str) -> None:
    assert problem in refusal(path, document(binary(encoded)))


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 10**8, 100])
def test_length_in_binary_data_that_cannot_be_is_refused(path: Path, length: int) -> None:
    fields = FIELDS + '<FIELD name="name" datatype="char" arraysize="*"/>'
    encoded = base64.b64encode(struct.pack(">qddI", 7, 10.5, -5, length) + b"x").decode()
    message = refusal(path, document(binary(encoded, fields)))
    assert "allowed" in message or "do not end with a row" in message


@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        ("<html><body>Not found</body></html>", "begins with 'html' and not with VOTABLE"),
        (document(), "VOTable with no table"),
        (document(tabledata("")), "1 tables, but none has rows"),
        (document(binary("")), "1 tables, but none has rows"),
        (document(tabledata(ROWS, "")), "without FIELD"),
        (document(tabledata(ROWS).replace("long", "longer")), "datatype of column 'id' is 'longer'"),
        (document(tabledata(ROWS).replace('"long"', '"long" arraysize="-3"')), "arraysize of column 'id'"),
        (document(binary(ENCODED).replace("base64", "gzip")), "encoding 'gzip', and not 'base64'"),
        (document(binary(ENCODED, FIELDS + MORE.format("2x*"))), "save it as TABLEDATA"),
        (document(binary(ENCODED, FIELDS + MORE.format("99999999"))), "at most 16777216"),
        (document(tabledata(ROWS.replace("</TR>", "", 1))), "mismatched tag|cells where"),
        (document(tabledata(ROWS)).replace("10.5", "\0"), "damaged"),
        (document(tabledata(ROWS)).replace("10.5", "&other;"), "damaged"),
    ],
)
def test_what_is_no_good_votable_is_refused(path: Path, contents: str, problem: str) -> None:
    message = refusal(path, contents)
    assert any(part in message for part in problem.split("|")), message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    table=st.sampled_from([tabledata(ROWS), binary(ENCODED), binary(ENCODED, kind="BINARY2")]),
    place=st.floats(0, 1, exclude_max=True),
    junk=st.sampled_from([b"<", b"&", b">", b"\0", b"\xff", b"]]>", b"<TR>", b"</TD>", b"=", b"'"]),
)
def test_damage_anywhere_is_a_refusal_or_another_catalog(
    path: Path, table: str, place: float, junk: bytes
) -> None:
    contents = document(table).encode()
    at = int(place * len(contents))
    try:
        read(path, contents[:at] + junk + contents[at + len(junk) :])
    except UserError:
        pass


CELLS = st.sampled_from(
    ["<TD>1</TD>", "<TD>2.5</TD>", "<TD/>", "<TD />", "<TD></TD>", "<TD>a&lt;b</TD>", "<TD x='1'>7</TD>", " "]
    + ["<TD>&#233;</TD>", "<TD>é</TD>", "<TD><![CDATA[</TD></TR><TR><TD>]]></TD>", "\n", "<TD>a\r\nb</TD>"]
    + ["<!-- </TR><TR><TD>8</TD></TR> -->", "<?p </TR> ?>", "<TD>x]]></TD>", "junk", "<TD>\x01</TD>", "<td/>"]
    + ["<!-- </TABLEDATA><TABLEDATA> -->", "<TD>1</TD><TD>2</TD><TD>3</TD><TD>n</TD>", "<TR><TD>3</TD></TR>"]
)
NAMED = FIELDS + '<FIELD name="name" datatype="char" arraysize="*"/>'


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(
    rows=st.lists(st.lists(CELLS, max_size=4), min_size=1, max_size=12),
    between=st.sampled_from(["", "\n", "<!-- <TABLEDATA> -->", "  "]),
    start=st.sampled_from(["<TABLEDATA>", "<TABLEDATA >", "<!--<TABLEDATA>--><TABLEDATA>"]),
    size=st.sampled_from([5, 30, 200, 10_000]),
)
def test_rows_that_are_taken_without_a_parser_are_those_of_the_parser(
    path: Path, rows: list[list[str]], between: str, start: str, size: int
) -> None:
    text = between.join(f"<TR>{''.join(cells)}</TR>" for cells in rows)
    contents = document(tabledata(text, NAMED)).replace("<TABLEDATA>", start, 1)
    answers: list[Any] = []
    for parser in (votable_parser.plain_rows, lambda text: None):
        with (
            mock.patch.object(votable_parser, "plain_rows", parser),
            mock.patch.object(votable_parser, "FEED_BYTES", size),
        ):
            try:
                answers.append(read(path, contents, carry=["name"]))
            except UserError:
                answers.append("refused")
    # Numbers of cells that are wrong; not a number is not equal to itself.
    assert str(answers[0]) == str(answers[1])


def test_plain_rows_are_taken_without_a_parser(path: Path) -> None:
    """Else it would be no faster."""
    with mock.patch.object(votable_parser._Parser, "_end_cell") as end_cell:
        assert len(read(path, document(tabledata(ROWS * 100)))) == 200
    assert not {"TD", "TR"} & {call.args[0] for call in end_cell.call_args_list}


# What is missing -------------------------------------------------------------

NULLS = """
<FIELD name="id" datatype="long"/>
<FIELD name="ra" datatype="double"/>
<FIELD name="dec" datatype="float"/>
<FIELD name="n" datatype="int"><VALUES null="-99"/></FIELD>
<FIELD name="flag" datatype="boolean"/>
<FIELD name="name" datatype="char" arraysize="*"/>
<FIELD name="wide" datatype="unicodeChar" arraysize="3"/>
"""
CARRY = ["n", "flag", "name", "wide"]


def carried(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[f"carried:{name}"] for name in CARRY) for row in rows]


def test_empty_cells_and_null_values_of_tabledata_are_missing(path: Path) -> None:
    rows = read(
        path,
        document(
            tabledata(
                "<TR><TD>1</TD><TD>2</TD><TD>3</TD><TD>-99</TD><TD/><TD></TD><TD> a</TD></TR>"
                "<TR><TD>2</TD><TD>NaN</TD><TD>3</TD><TD>0x1F</TD><TD>T</TD><TD>a &lt;b&#233;</TD><TD/></TR>"
                "<TR><TD/><TD> 2 </TD><TD>+Inf</TD><TD> +5</TD><TD>false</TD><TD><![CDATA[<&]]></TD>"
                "<TD/></TR>",
                NULLS,
            )
        ),
        carry=CARRY,
    )
    assert carried(rows) == [
        (None, None, None, " a"),
        (31, True, "a <bé", None),
        (5, False, "<&", None),
    ]
    assert [row["status"] for row in rows] == [None, "invalid_position", "invalid_id"]
    assert rows[1]["reason"] == "ra in row 1 is nan."


def test_mask_of_binary2_and_null_values_of_binary_are_missing(path: Path) -> None:
    def row(mask: bytes, n: int, flag: bytes, name: bytes, wide: str) -> bytes:
        text = struct.pack(">I", len(name)) + name + wide.encode("utf-16-be").ljust(6, b"\0")
        return mask + struct.pack(">qdfi", 1, 2.0, 3.0, n) + flag + text

    given = [(-99, b"T", b"", "ab"), (7, b"?", b"x\xc3\xa9 ", "é"), (8, b"0", b"name", "abc")]
    expected = [(None, True, None, "ab"), (7, None, "xé", "é"), (8, False, "name", "abc")]
    for kind, masks in (("BINARY", [b""] * 3), ("BINARY2", [b"\0"] * 3)):
        data = b"".join(row(mask, *values) for mask, values in zip(masks, given, strict=True))
        encoded = base64.encodebytes(data).decode()
        rows = read(path, document(binary(encoded, NULLS, kind)), carry=CARRY)
        assert carried(rows) == expected
    data = (
        row(b"\x10", 7, b"T", b"n", "w") + row(b"\x0e", 7, b"T", b"n", "w") + row(b"\x40", 7, b"T", b"n", "w")
    )
    rows = read(path, document(binary(base64.b64encode(data).decode(), NULLS, "BINARY2")), carry=CARRY)
    assert carried(rows) == [(None, True, "n", "w"), (7, None, None, None), (7, True, "n", "w")]
    assert [row["status"] for row in rows] == [None, None, "invalid_position"]


def test_cell_that_is_no_value_of_its_type_is_missing_and_counted(path: Path) -> None:
    rows = ROWS.replace("10.5", "ten").replace(">8<", ">8.5<")
    catalog = opened(path, document(tabledata(rows)))
    for _ in range(2):
        found = pa.Table.from_batches(catalog.batches()).to_pylist()
        assert [row["status"] for row in found] == ["invalid_position", "invalid_id"]
        assert [warning.partition(": ")[2] for warning in catalog.warnings] == [
            "column id has 1 values that are no long, as they should be; they are taken for missing.",
            "column ra has 1 values that are no double, as they should be; they are taken for missing.",
        ]


def test_row_with_another_number_of_cells_is_answered(path: Path) -> None:
    rows = read(path, document(tabledata("<TR><TD>1</TD></TR>" + ROWS + "<TR/>")))
    assert [row["status"] for row in rows] == ["invalid_position", None, None, "invalid_position"]
    assert rows[0]["reason"] == "Row 0 has 1 cells where the table has 3 columns."


def test_first_table_with_rows_is_read_and_said_so(path: Path) -> None:
    empty = f'<TABLE name="e">{FIELDS}<DATA><TABLEDATA/></DATA></TABLE>'
    other = tabledata("<TR><TD>1</TD></TR>", '<FIELD name="q" datatype="int"/>')
    for table in (tabledata(ROWS), binary(ENCODED)):
        catalog = opened(path, document(empty, f"<TABLE>{FIELDS}</TABLE>", table, other))
        assert places(pa.Table.from_batches(catalog.batches()).to_pylist()) == GOOD
        assert "the first 2 of its tables have no rows" in catalog.warnings[0]


def test_columns_that_are_arrays_are_passed_over(path: Path) -> None:
    fields = (
        '<FIELD name="a" datatype="float" arraysize="2"/><FIELD name="b" datatype="bit" arraysize="11"/>'
        '<FIELD name="c" datatype="short" arraysize="*"/><FIELD name="z" datatype="doubleComplex"/>' + FIELDS
    )
    data = b"".join(
        struct.pack(">ff2sI", 1, 2, b"\xff\xe0", n) + b"\0\1" * n + bytes(16) + struct.pack(">qdd", *place)
        for n, place in enumerate(GOOD)
    )
    contents = document(binary(base64.b64encode(data).decode(), fields))
    catalog = opened(path, contents, carry="all")
    assert places(pa.Table.from_batches(catalog.batches()).to_pylist()) == GOOD
    assert len(catalog.warnings) == 4
    table = astropy.io.votable.parse_single_table(path).array
    assert [tuple(row) for row in table[["id", "ra", "dec"]].tolist()] == GOOD


def test_pieces_of_any_size_give_the_same(path: Path) -> None:
    name = '<FIELD name="name" datatype="char" arraysize="*"/>'
    rng = np.random.default_rng(5)
    values = [(k, *rng.random(2).tolist(), "n" * k) for k in range(60)]
    rows = "".join(f"<TR>{''.join(f'<TD>{v}</TD>' for v in row)}</TR>" for row in values)
    packed = b"".join(b"\0" + struct.pack(">qddI", *row[:3], len(row[3])) + row[3].encode() for row in values)
    encoded = base64.encodebytes(packed).decode()
    for table in (tabledata(rows, FIELDS + name), binary(encoded, FIELDS + name, "BINARY2")):
        for size in (7, 100, 1000):
            with mock.patch.object(votable_parser, "FEED_BYTES", size):
                found = read(path, document(table), carry=["name"])
            assert [
                (*place, row["carried:name"] or "") for place, row in zip(places(found), found, strict=True)
            ] == values


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Let astropy say what it thinks of these files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
