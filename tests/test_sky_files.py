# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What Aladin and TOPCAT open: coverage map and VOTable."""

from __future__ import annotations

import io
from pathlib import Path
from unittest import mock

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse, validate
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from mocpy import MOC
from tiny_sky import SIZE, TRACT, tiny_table

from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL, finish
from lsst.dax.bulkcutout.formats.hdf5 import HDF5Writer
from lsst.dax.bulkcutout.formats.layout import PatchProvenance, ProductLayout
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.sky_files import coverage_map
from lsst.dax.bulkcutout.sky_files import product as sky_files
from lsst.dax.bulkcutout.sky_files.coverage_map import CoverageMap, coverage_order
from lsst.dax.bulkcutout.sky_files.cutout_corners import corners, read_corners
from lsst.dax.bulkcutout.sky_files.status_votable import write_status_votable
from lsst.dax.bulkcutout.tables import status_schema, with_unit
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.tests.products import PLANES, blank_columns
from lsst.dax.bulkcutout.top_up import top_up
from lsst.dax.bulkcutout.verify.product import verify_product

BOTH = {"coverage_map": True, "status_votable": True}


def wcs_at(ra: float, dec: float, *, turn_deg: float, mirrored: bool, crpix: tuple[float, float]) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = (ra, dec), crpix
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    wcs.wcs.cd = 0.2 / 3600 * np.array([[c, -s], [s, c]]) @ np.diag([1.0 if mirrored else -1.0, 1.0])
    return wcs


@given(
    ra=st.floats(0, 359.9),
    dec=st.floats(-89.99, 89.99),
    turn_deg=st.floats(-180, 180),
    mirrored=st.booleans(),
    size=st.integers(1, 600),
)
def test_corners_are_those_of_astropy_and_counter_clockwise(
    ra: float, dec: float, turn_deg: float, mirrored: bool, size: int
) -> None:
    wcs = wcs_at(ra, dec, turn_deg=turn_deg, mirrored=mirrored, crpix=(-371.25, 150.5))
    terms = (np.array([value]) for value in (wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cd))
    (found,) = corners(*terms, size=size)
    edges = [(0.5, 0.5), (size + 0.5, 0.5), (size + 0.5, size + 0.5), (0.5, size + 0.5)]
    expected = wcs.all_pix2world(edges, 1)[:: -1 if mirrored else 1]
    ours, theirs = SkyCoord(*found.T, unit="deg"), SkyCoord(*expected.T, unit="deg")
    assert ours.separation(theirs).max() < 1e-7 * u.arcsec
    assert (found[:, 0] >= 0).all() and (found[:, 0] < 360).all()
    # Seen from the origin; from without it is clockwise.
    x, y, z = ours.cartesian.xyz.value
    points = np.stack([x, y, z], axis=1)
    assert np.cross(points[1] - points[0], points[2] - points[1]) @ points[1] < 0


def test_corners_follow_the_images_own_projection(tmp_path: Path) -> None:
    """A distorted projection, whose linear terms in the product are wrong."""
    header = wcs_at(31.0, -42.0, turn_deg=20.0, mirrored=False, crpix=(700.0, -60.0)).to_header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
    for axis in (1, 2):
        header[f"PV{axis}_1"], header[f"PV{axis}_4"], header[f"PV{axis}_7"] = 1.001, 0.3, -2.0
    cards = "\n".join(card.image for card in header.cards)
    layout = ProductLayout(
        size=40,
        bands=("g", "r"),
        planes=("mask",),
        psf_shape=None,
        mask_planes=PLANES,
        id_type=pa.int64(),
        provenance=(PatchProvenance(3, 8, ("", "an image"), ("", ""), wcs=("", cards)),),
    )
    columns = blank_columns(layout, 2)
    columns["catalog/row"][:] = [4, 9]
    columns["catalog/tract"][:], columns["catalog/patch"][:] = 3, 8
    first = np.array([[-200, 650], [1200, 20]])
    for number, axis in enumerate("xy"):
        columns[f"catalog/{axis}"][:] = first[:, number] + 19.7
        columns[f"catalog/{axis}_cutout"][:] = 19.7
    columns["wcs/cd"][:] = np.array([[-1e-4, 0.0], [0.0, 1e-4]])
    with HDF5Writer(tmp_path / "some.hdf5", layout, 2) as writer:
        writer.write(0, columns)

    ((rows, found),) = read_corners(tmp_path / "some.hdf5")

    assert rows.tolist() == [4, 9]
    whole = WCS(header)
    for (x, y), corners_found in zip(first, found, strict=True):
        low, high = -0.5, 39.5
        pixels = np.array([[low, low], [high, low], [high, high], [low, high]]) + (x, y)
        np.testing.assert_allclose(corners_found, whole.all_pix2world(pixels, 0), rtol=0, atol=1e-9)


def random_boxes(n: int, *, seed: int, center: tuple[float, float], size: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wcs = wcs_at(*center, turn_deg=33, mirrored=False, crpix=(0, 0))
    crpix = rng.uniform(-3000, 3000, (n, 2))
    return corners(
        np.broadcast_to(wcs.wcs.crval, (n, 2)), crpix, np.broadcast_to(wcs.wcs.cd, (n, 2, 2)), size=size
    )


@pytest.mark.parametrize(
    "center", [(150.0, 2.2), (0.001, -41.0), (45.0, 89.95), (12.0, -89.99), (90.0, 41.8103)]
)
@pytest.mark.parametrize(("order", "size"), [(13, 64), (12, 500), (15, 30)])
def test_coverage_is_the_union_of_the_boxes(
    tmp_path: Path, center: tuple[float, float], order: int, size: int
) -> None:
    """Compared with mocpy; at poles and where base pixels meet, too."""
    boxes = random_boxes(60, seed=order, center=center, size=size)
    coverage = CoverageMap(order)
    coverage.add(boxes[:20])
    coverage.add(boxes[20:])
    coverage.write(tmp_path / "x.fits")
    found = MOC.from_fits(tmp_path / "x.fits")
    assert found.max_order == order
    assert sorted(found.uniq_hpx.tolist()) == sorted(coverage.cells().tolist())
    expected = MOC.new_empty(order)
    for box in boxes:
        expected = expected.union(MOC.from_polygon_skycoord(SkyCoord(*box.T, unit="deg"), max_depth=order))
    assert expected.difference(found).empty()
    # Few cells that a box misses, and these by little.
    assert found.difference(expected).sky_fraction < 0.1 * expected.sky_fraction
    with fits.open(tmp_path / "x.fits") as hdus:
        header = hdus[1].header
        assert (header["ORDERING"], header["COORDSYS"], header["MOCVERS"]) == ("NUNIQ", "C", "2.0")
        assert (header["MOCORD_S"], header["MOCORDER"], header["TTYPE1"]) == (order, order, "UNIQ")


def test_coverage_has_few_cells_however_many_boxes_there_are(tmp_path: Path) -> None:
    boxes = random_boxes(300, seed=4, center=(150.0, 2.2), size=64)
    whole, coarse = CoverageMap(15), CoverageMap(15)
    whole.add(boxes)
    with mock.patch.object(coverage_map, "MAX_CELLS", 200):
        for start in range(0, 300, 50):
            coarse.add(boxes[start : start + 50])
    for name, each in (("whole", whole), ("coarse", coarse)):
        each.write(tmp_path / name)
    fine, rough = MOC.from_fits(tmp_path / "whole"), MOC.from_fits(tmp_path / "coarse")
    assert coarse.order < 15 and len(coarse.cells()) <= 200
    assert fine.difference(rough).empty()
    assert rough.difference(fine.degrade_to_order(coarse.order)).sky_fraction < 0.3 * rough.sky_fraction


def test_coverage_of_nothing_is_empty(tmp_path: Path) -> None:
    CoverageMap(0).write(tmp_path / "x.fits")
    assert MOC.from_fits(tmp_path / "x.fits").empty()


@pytest.mark.parametrize(("arcsec", "order"), [(12.8, 13), (6.4, 14), (400.0, 8), (1e-3, 18), (1e6, 0)])
def test_order_follows_from_the_size_of_the_cutouts(arcsec: float, order: int) -> None:
    assert coverage_order(arcsec) == order


CARRIED = (
    with_unit(pa.field("a_long", pa.int64()), unit="", description="Whole numbers."),
    with_unit(pa.field("a_short", pa.int16()), unit="mag", description="Small ones, with a < and an &."),
    with_unit(pa.field("a_byte", pa.uint8()), unit="furlong/fortnight", description="Bytes."),
    with_unit(pa.field("a_tiny", pa.int8()), unit="", description=""),
    with_unit(pa.field("unsigned", pa.uint32()), unit="", description=""),
    with_unit(pa.field("huge", pa.uint64()), unit="", description=""),
    with_unit(pa.field("a_float", pa.float32()), unit="nJy", description=""),
    with_unit(pa.field("a_flag", pa.bool_()), unit="", description=""),
    with_unit(pa.field('te"xt <&>', pa.string()), unit="", description=""),
)


def some_rows(n: int) -> tuple[pa.RecordBatch, np.ndarray]:
    """Rows with nulls in every column that may have some."""
    schema = status_schema(pa.string(), CARRIED)
    rng = np.random.default_rng(8)
    columns = []
    for number, field in enumerate(schema):
        gone = np.zeros(n, dtype=bool) if field.name in ("row", "status") else rng.integers(0, 4, n) == 0
        if field.name == "row":
            values = pa.array(np.arange(n))
        elif pa.types.is_string(field.type):
            texts = (
                ["", "delivered", "plain"]
                if field.name in ("status", "file", "bands")
                else ["ä", "€ 𝄞", "x<&"]
            )
            values = pa.array([texts[(row + number) % 3] for row in range(n)], mask=gone)
        elif pa.types.is_boolean(field.type):
            values = pa.array(rng.integers(0, 2, n).astype(bool), mask=gone)
        elif pa.types.is_floating(field.type):
            values = pa.array(rng.normal(size=n), mask=gone).cast(field.type)
        elif pa.types.is_uint64(field.type):
            values = pa.array([2**64 - 1 - row for row in range(n)], pa.uint64())
        else:
            values = pa.array(rng.integers(0, 100, n), mask=gone).cast(field.type)
        columns.append(values)
    boxes = np.round(rng.uniform(0, 90, (n, 4, 2)), 3)
    boxes[::5] = np.nan
    return pa.RecordBatch.from_arrays(columns, schema=schema), boxes


def test_votable_has_all_values_and_types(tmp_path: Path) -> None:
    """As astropy reads it, which takes offence at whatever is not standard."""
    batch, boxes = some_rows(1000)
    parts = [(batch.slice(start, 333), boxes[start : start + 333]) for start in range(0, 1000, 333)]
    path = tmp_path / "x.vot"
    write_status_votable(path, batch.schema, parts, n_rows=1000, infos={"request_id": 'a "b" <c>'})
    document = parse(path, verify="exception")
    table = document.get_first_table()
    assert document.version == "1.4" and table.nrows == len(table.array) == 1000
    (system,) = document.resources[0].coordinate_systems
    assert system.system == "ICRS"
    assert document.resources[0].infos[0].value == 'a "b" <c>'
    fields = {field.name: field for field in table.fields}
    assert fields["ra"].ref == fields["dec"].ref == fields["s_region"].ref == system.ID
    assert fields["ra"].ucd == "pos.eq.ra;meta.main" and str(fields["ra"].unit) == "deg"
    assert fields["s_region"].xtype == "adql:REGION" and fields["s_region"].ucd == "pos.outline;obs.field"
    assert fields["a_short"].description == "Small ones, with a < and an &."
    assert fields["a_byte"].description == "Bytes. (unit: furlong/fortnight)"
    array = table.array
    for field in batch.schema:
        expected = batch.column(field.name)
        found = array[fields[field.name].ID]
        is_text = pa.types.is_string(field.type) or pa.types.is_uint64(field.type)
        nulls = expected.is_null().to_numpy(zero_copy_only=False)
        if is_text:
            wanted = ["" if value is None else str(value) for value in expected.to_pylist()]
            assert [str(value) if value else "" for value in found.filled("").tolist()] == wanted, field.name
            continue
        assert np.array_equal(np.ma.getmaskarray(found), nulls), field.name
        wanted = expected.drop_null().to_numpy(zero_copy_only=False)
        assert np.array_equal(found.compressed(), wanted), field.name
    for box, region in zip(boxes, array["s_region"].filled("").tolist(), strict=True):
        if np.isnan(box).any():
            assert region == ""
        else:
            shape, frame, *numbers = region.split()
            assert (shape, frame) == ("POLYGON", "ICRS")
            assert np.allclose(np.array(numbers, dtype=float).reshape(4, 2), box, atol=1e-8)


def test_votable_passes_the_validator(tmp_path: Path) -> None:
    batch, boxes = some_rows(7)
    write_status_votable(tmp_path / "x.vot", batch.schema, [(batch, boxes)], n_rows=7)
    report = io.StringIO()
    assert validate(tmp_path / "x.vot", output=report, xmllint=False, filename=None), report.getvalue()


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 120), max_size=4))
def test_bytes_do_not_depend_on_the_batches(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    batch, boxes = some_rows(120)
    directory = tmp_path_factory.getbasetemp()
    write_status_votable(directory / "once.vot", batch.schema, [(batch, boxes)], n_rows=120)
    edges = [0, *sorted(cuts), 120]
    parts = [(batch.slice(a, b - a), boxes[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True) if a < b]
    write_status_votable(directory / "parts.vot", batch.schema, parts, n_rows=120)
    assert (directory / "once.vot").read_bytes() == (directory / "parts.vot").read_bytes()


def test_product_has_them_on_request(tmp_path: Path, tiny_repo: SkyRepository) -> None:
    """With rows that are refused, and a quantum that fails; then complete;
    then without them.
    """
    table = tiny_table(tiny_repo, 6).to_pydict()
    table["dec"][4], table["id"][7] = 60.0, None
    catalog = tmp_path / "catalog.parquet"
    pq.write_table(pa.table(table), catalog)
    fields = {"size": SIZE, "partition": {"max_rows_per_file": 5}}
    request = write_request(tmp_path, tiny_repo, catalog, **fields, **BOTH)
    out = tmp_path / "out"
    with mock.patch.object(sky_files, "GROUP_ROWS", 4):
        campaign, status = run_here(request, fail=[(TRACT, 1)])
        assert status == PARTIAL
        check_product(out)
        campaign, status = run_here(request)
        assert status == COMPLETE
        check_product(out)
    before = {name: (out / name).read_bytes() for name in ("status.vot", "coverage.moc.fits")}
    # Again, of other blocks, because one file is gone: the same bytes.
    (out / "status.vot").unlink()
    assert finish(campaign) == COMPLETE
    assert before == {name: (out / name).read_bytes() for name in before}
    write_request(tmp_path, tiny_repo, catalog, **fields)
    assert top_up(campaign, request) == 0 and finish(campaign) == COMPLETE
    assert not (out / "status.vot").exists() and not (out / "coverage.moc.fits").exists()
    assert verify_product(out, sample=0).ok


def check_product(out: Path) -> None:
    assert verify_product(out, sample=0).ok
    listed = {file.path for file in read_manifest(out).files}
    assert {"status.vot", "coverage.moc.fits"} <= listed
    assert "status.vot" in (out / "SHA256SUMS").read_text()
    answers = pq.read_table(out / "status.parquet").to_pylist()
    rows = parse(out / "status.vot", verify="exception").get_first_table().array
    coverage = MOC.from_fits(out / "coverage.moc.fits")
    assert len(rows) == len(answers)
    with open_cutouts(out) as cutouts:
        for row, answer in zip(rows, answers, strict=True):
            assert (row["row"], row["status"]) == (answer["row"], answer["status"])
            if answer["status"] != "delivered":
                assert not row["s_region"]
                continue
            assert (row["file"], row["index"]) == (answer["file"], answer["index"])
            polygon = np.array(row["s_region"].split()[2:], dtype=float).reshape(4, 2)
            wcs = cutouts.by_row(answer["row"]).wcs
            expected = wcs.calc_footprint(axes=(SIZE, SIZE), undistort=False, center=False)
            sky = SkyCoord(*expected.T, unit="deg")
            ours = SkyCoord(*polygon.T, unit="deg")
            # The same four corners, wherever they begin.
            assert ours[:, None].separation(sky[None, :]).min(axis=1).max() < 1e-4 * u.arcsec
            assert coverage.contains_skycoords(ours).all()
        area = len(cutouts) * (SIZE * 0.2 / 3600) ** 2
    assert coverage.sky_fraction * 41253 < 60 * area
