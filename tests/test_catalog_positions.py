# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Positions of catalogs: every frame in every format, units, epochs.

Expected values are astropy's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import astropy.table
import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import (
    FK4,
    FK5,
    ICRS,
    BarycentricMeanEcliptic,
    FK4NoETerms,
    Galactic,
    SkyCoord,
    Supergalactic,
)
from astropy.io.votable import from_table
from astropy.io.votable.tree import CooSys
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.catalog import Catalog, open_catalog
from lsst.dax.bulkcutout.catalog.frames import Frame
from lsst.dax.bulkcutout.catalog.motion import move
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.frame_names import FRAMES
from lsst.dax.bulkcutout.request import CatalogSpec, check_request

MAS = 1 / 3_600_000

ASTROPY: dict[str, Any] = {
    "icrs": ICRS(),
    "fk5": FK5(),
    "fk5 J1975": FK5(equinox="J1975"),
    "fk4": FK4(),
    "fk4 B1900": FK4(equinox="B1900"),
    "fk4-no-e": FK4NoETerms(),
    "galactic": Galactic(),
    "supergalactic": Supergalactic(),
    "ecliptic": BarycentricMeanEcliptic(),
    "ecliptic J2050": BarycentricMeanEcliptic(equinox="J2050"),
}


def expected(frame: str, lon: Any, lat: Any) -> SkyCoord:
    return SkyCoord(lon * u.deg, lat * u.deg, frame=ASTROPY[frame]).icrs


def sky(n: int = 211) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(17)
    lon, lat = 360 * rng.random(n), np.degrees(np.arcsin(2 * rng.random(n) - 1))
    lon[:4], lat[:4] = (0, 0, 359.999, 123), (90, -90, 0, 89.9999)
    return lon, lat


def opened(path: Path, *, image_epoch: float | None = None, **spec: Any) -> Catalog:
    return open_catalog(CatalogSpec(uri=str(path), **spec), 64, image_epoch=image_epoch)


def read(catalog: Catalog, batch_rows: int = 50) -> pa.Table:
    return pa.Table.from_batches(catalog.batches(batch_rows))


def refusal(path: Path, **spec: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(opened(path, **spec))
    return str(caught.value)


def write_csv(path: Path, names: tuple[str, str], lon: Any, lat: Any, **columns: Any) -> None:
    astropy.table.Table({"id": np.arange(len(lon)), names[0]: lon, names[1]: lat} | columns).write(
        path, format="ascii.csv", overwrite=True
    )


def write_parquet(path: Path, names: tuple[str, str], lon: Any, lat: Any, **columns: Any) -> None:
    table = pa.table({"id": np.arange(len(lon)), names[0]: lon, names[1]: lat} | columns)
    pq.write_table(table, path)


def write_directory(path: Path, names: tuple[str, str], lon: Any, lat: Any) -> None:
    path.mkdir()
    write_parquet(path / "1.parquet", names, lon[:90], lat[:90])
    write_parquet(path / "2.parquet", names, lon[90:], lat[90:])


def write_hats(path: Path, names: tuple[str, str], lon: Any, lat: Any) -> None:
    place = path / "dataset" / "Norder=0" / "Dir=0"
    place.mkdir(parents=True)
    write_parquet(place / "Npix=1.parquet", names, lon, lat)
    text = f"dataproduct_type=object\nhats_col_ra={names[0]}\nhats_col_dec={names[1]}\n"
    (path / "hats.properties").write_text(text)


def write_fits(path: Path, names: tuple[str, str], lon: Any, lat: Any, **header: Any) -> None:
    table = astropy.table.Table({"id": np.arange(len(lon)), names[0]: lon * u.deg, names[1]: lat * u.deg})
    table.meta = header
    table.write(path, format="fits", overwrite=True)


def write_votable(
    path: Path,
    names: tuple[str, str],
    lon: Any,
    lat: Any,
    *,
    system: dict[str, str] | None = None,
    ref: bool = True,
    ucds: tuple[str, str] | None = None,
    kind: str = "tabledata",
) -> None:
    table = astropy.table.Table({"id": np.arange(len(lon)), names[0]: lon * u.deg, names[1]: lat * u.deg})
    file = from_table(table)
    if system is not None:
        file.resources[0].coordinate_systems.append(CooSys(ID="sys", **system))
    for name, ucd in zip(names, ucds or (None, None), strict=True):
        field = file.get_first_table().get_field_by_id_or_name(name)
        field.ucd = ucd
        field.ref = "sys" if system is not None and ref else None
    file.to_xml(str(path), tabledata_format=kind)


# Frames ----------------------------------------------------------------------


@pytest.mark.parametrize("frame", ASTROPY)
@pytest.mark.parametrize(
    "write", [write_csv, write_parquet, write_directory, write_hats, write_fits, write_votable]
)
def test_frame_of_the_request_is_converted_in_every_format(
    tmp_path: Path, frame: str, write: Callable[..., None]
) -> None:
    path = tmp_path / "catalog"
    lon, lat = sky()
    write(path, ("x", "y"), lon, lat)
    catalog = opened(path, ra_column="x", dec_column="y", frame=frame, carry=["x", "y"])
    rows = read(catalog)
    found = SkyCoord(rows["ra"].to_numpy() * u.deg, rows["dec"].to_numpy() * u.deg)
    # Up to what float64 can hold, in two ways of computing.
    assert found.separation(expected(frame, lon, lat)).max() < 1e-9 * u.arcsec
    assert 0 <= min(rows["ra"].to_numpy()) and max(rows["ra"].to_numpy()) < 360
    assert np.array_equal(rows["carried:x"], lon) and np.array_equal(rows["carried:y"], lat)
    said = [warning for warning in catalog.warnings if f"are {frame} (from the request)" in warning]
    assert len(said) == (frame != "icrs") == len(catalog.warnings)


def test_every_frame_that_may_be_named_is_tested() -> None:
    assert {name.split()[0] for name in ASTROPY} == set(FRAMES)


@given(
    frame=st.sampled_from(sorted(ASTROPY)),
    lon=st.floats(0, 360, exclude_max=True),
    lat=st.floats(-90, 90),
)
def test_any_position_in_any_frame_is_where_astropy_has_it(frame: str, lon: float, lat: float) -> None:
    name, _, equinox = frame.partition(" ")
    ra, dec = Frame(name, equinox).to_icrs(np.array([lon]), np.array([lat]))
    found = SkyCoord(ra * u.deg, dec * u.deg)
    assert found.separation(expected(frame, np.array([lon]), np.array([lat])))[0] < 1e-9 * u.arcsec


@pytest.mark.parametrize(
    ("header", "frame"),
    [
        ({"RADESYS": "ICRS"}, "icrs"),
        ({"RADESYS": "FK5"}, "fk5"),
        ({"RADESYS": "FK5", "EQUINOX": 1975.0}, "fk5 J1975"),
        ({"RADECSYS": "FK4", "EQUINOX": 1900.0}, "fk4 B1900"),
        ({"RADESYS": "FK4"}, "fk4"),
        ({"RADESYS": "FK4-NO-E"}, "fk4-no-e"),
        ({"EQUINOX": 1950.0}, "fk4"),
        ({"EQUINOX": 2000.0}, "fk5"),
    ],
)
def test_frame_of_a_fits_header_is_heeded(tmp_path: Path, header: dict[str, Any], frame: str) -> None:
    path = tmp_path / "c.fits"
    lon, lat = sky()
    write_fits(path, ("ra", "dec"), lon, lat, **header)
    check_frame(path, frame, lon, lat)


@pytest.mark.parametrize("ref", [True, False])
@pytest.mark.parametrize(
    ("system", "frame"),
    [
        ({"system": "ICRS"}, "icrs"),
        ({"system": "eq_FK5", "equinox": "J2000"}, "fk5"),
        ({"system": "eq_FK5", "equinox": "J1975.0"}, "fk5 J1975"),
        ({"system": "eq_FK4", "equinox": "B1900"}, "fk4 B1900"),
        ({"system": "eq_FK4", "equinox": "1950"}, "fk4"),
        ({"system": "galactic"}, "galactic"),
        ({"system": "supergalactic"}, "supergalactic"),
        ({"system": "ecl_FK5", "equinox": "J2000"}, "ecliptic"),
    ],
)
def test_coordinate_system_of_a_votable_is_heeded(
    tmp_path: Path, system: dict[str, str], frame: str, ref: bool
) -> None:
    path = tmp_path / "c.vot"
    lon, lat = sky()
    write_votable(path, ("x", "y"), lon, lat, system=system, ref=ref, kind="binary2")
    check_frame(path, frame, lon, lat, ra_column="x", dec_column="y")


@pytest.mark.parametrize(
    ("ucds", "frame"),
    [
        (("pos.eq.ra;meta.main", "pos.eq.dec;meta.main"), "icrs"),
        (("POS_EQ_RA_MAIN", "POS_EQ_DEC_MAIN"), "icrs"),
        (("pos.galactic.lon", "pos.galactic.lat"), "galactic"),
        (("pos.ecliptic.lon", "pos.ecliptic.lat"), "ecliptic"),
        (("pos.supergalactic.lon", "pos.supergalactic.lat"), "supergalactic"),
    ],
)
def test_ucd_tells_the_frame(tmp_path: Path, ucds: tuple[str, str], frame: str) -> None:
    path = tmp_path / "c.vot"
    lon, lat = sky()
    write_votable(path, ("x", "y"), lon, lat, ucds=ucds)
    named = {} if frame == "icrs" else {"ra_column": "x", "dec_column": "y"}
    check_frame(path, frame, lon, lat, **named)


@pytest.mark.parametrize(
    ("names", "frame"),
    [
        (("ra", "dec"), "icrs"),
        (("RAJ2000", "DEJ2000"), "icrs"),
        (("l", "b"), "galactic"),
        (("GLON", "GLAT"), "galactic"),
        (("galacticL", "galacticB"), "galactic"),
        (("elon", "elat"), "ecliptic"),
        (("eclipticLambda", "eclipticBeta"), "ecliptic"),
        (("SGL", "SGB"), "supergalactic"),
        (("RA1950", "DE1950"), "fk4 B1950"),
    ],
)
def test_names_of_columns_tell_the_frame(tmp_path: Path, names: tuple[str, str], frame: str) -> None:
    path = tmp_path / "c.parquet"
    lon, lat = sky()
    write_parquet(path, names, lon, lat)
    check_frame(path, frame, lon, lat)


def check_frame(path: Path, frame: str, lon: np.ndarray, lat: np.ndarray, **spec: Any) -> None:
    catalog = opened(path, **spec)
    rows = read(catalog)
    found = SkyCoord(rows["ra"].to_numpy() * u.deg, rows["dec"].to_numpy() * u.deg)
    wanted = SkyCoord(lon * u.deg, lat * u.deg, frame=ASTROPY.get(frame, FK4())).icrs
    assert found.separation(wanted).max() < 1e-9 * u.arcsec
    if frame == "icrs":
        assert catalog.warnings == []
    else:
        assert frame.split()[0] in catalog.warnings[0] and "converted to ICRS" in catalog.warnings[0]


def test_equatorial_columns_come_before_others(tmp_path: Path) -> None:
    """As in Gaia's tables, which have them all."""
    path = tmp_path / "c.parquet"
    write_parquet(path, ("ra", "dec"), [1.0], [2.0], l=[3.0], b=[4.0], ecl_lon=[5.0], ecl_lat=[6.0])
    assert read(opened(path))["ra"].to_pylist() == [1.0]
    rows = read(opened(path, frame="galactic"))
    assert rows["ra"][0].as_py() == pytest.approx(expected("galactic", 3.0, 4.0).ra.deg, abs=1e-11)
    rows = read(opened(path, ra_column="ecl_lon", dec_column="ecl_lat"))
    assert rows["dec"][0].as_py() == pytest.approx(expected("ecliptic", 5.0, 6.0).dec.deg, abs=1e-11)


def test_header_says_nothing_about_columns_that_are_not_equatorial(tmp_path: Path) -> None:
    path = tmp_path / "c.fits"
    lon, lat = sky()
    write_fits(path, ("GLON", "GLAT"), lon, lat, RADESYS="FK5", EQUINOX=2000.0)
    check_frame(path, "galactic", lon, lat)


def test_request_wins_against_the_file_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "c.fits"
    lon, lat = sky()
    write_fits(path, ("ra", "dec"), lon, lat, RADESYS="FK4", EQUINOX=1900.0)
    catalog = opened(path, frame="icrs")
    assert np.array_equal(read(catalog)["dec"], lat)
    (warning,) = catalog.warnings
    assert "catalog.frame is icrs, but the catalog says" in warning and "fk4 B1900" in warning
    write_fits(path, ("ra", "dec"), lon, lat, RADESYS="ICRS")
    assert opened(path, frame="icrs").warnings == []


@pytest.mark.parametrize(
    ("header", "said"), [({"RADESYS": "GAPPT"}, "'gappt'"), ({"RADESYS": "ALTAZ"}, "'altaz'")]
)
def test_frame_that_is_not_known_is_refused_with_those_that_are(
    tmp_path: Path, header: dict[str, str], said: str
) -> None:
    path = tmp_path / "c.fits"
    write_fits(path, ("ra", "dec"), *sky(), **header)
    message = refusal(path)
    assert f"states the frame {said}, which is not known" in message
    assert all(name in message for name in FRAMES) and "catalog.frame" in message
    assert len(read(opened(path, frame="fk5"))) == len(sky()[0])


@pytest.mark.parametrize(
    ("ucds", "system"),
    [
        (("pos.galactic.lon", "pos.ecliptic.lat"), None),
        (("pos.galactic.lon", "pos.galactic.lat"), {"system": "ICRS"}),
    ],
)
def test_file_that_contradicts_itself_is_asked_about(
    tmp_path: Path, ucds: tuple[str, str], system: dict[str, str] | None
) -> None:
    path = tmp_path / "c.vot"
    write_votable(path, ("x", "y"), *sky(), ucds=ucds, system=system)
    assert "catalog.frame" in refusal(path, ra_column="x", dec_column="y")
    opened(path, ra_column="x", dec_column="y", frame="galactic")


def test_bad_rows_in_another_frame_show_no_position(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    write_parquet(path, ("l", "b"), [10.0, 400.0, math.nan, 20.0], [0.0, 1.0, 2.0, 95.0])
    rows = read(opened(path)).to_pylist()
    assert [row["status"] for row in rows] == [None, *["invalid_position"] * 3]
    assert [row["ra"] is None and row["dec"] is None for row in rows] == [False, True, True, True]
    assert rows[3]["reason"] == "b in row 3 is 95.0: must be from -90 to 90 degrees."


# Units -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("deg", 1.0),
        ("rad", math.pi / 180),
        ("Radian", math.pi / 180),
        ("hourangle", 1 / 15),
        ("h", 1 / 15),
        ("arcmin", 60.0),
        ("arcsec", 3600.0),
        ("mas", 3_600_000.0),
        ("0.001 deg", 1000.0),
    ],
)
def test_unit_that_a_column_states_is_converted(tmp_path: Path, unit: str, scale: float) -> None:
    path = tmp_path / "c.parquet"
    ra, dec = sky()
    is_hours = unit.startswith("h")
    table = pa.table({"id": np.arange(len(ra)), "ra": ra * scale, "dec": dec * (1 if is_hours else scale)})
    fields = [table.schema.field(0)]
    fields += [table.schema.field(1).with_metadata({"unit": unit})]
    fields += [table.schema.field(2).with_metadata({"unit": "deg" if is_hours else unit})]
    # The poles may become a little more than poles.
    table = table.cast(pa.schema(fields)).slice(2)
    pq.write_table(table, path)
    catalog = opened(path)
    rows = read(catalog)
    assert np.allclose(rows["ra"], ra[2:], rtol=0, atol=1e-12)
    assert np.allclose(rows["dec"], dec[2:], rtol=0, atol=1e-12)
    assert len(catalog.warnings) == (0 if unit == "deg" else 1 if is_hours else 2)
    assert all("is converted to degrees" in warning for warning in catalog.warnings)


@pytest.mark.parametrize(
    ("ra_unit", "dec_unit", "column"),
    [("pixel", "deg", "ra"), ("deg", "h", "dec"), ("furlong", "deg", "ra"), ("h:m:s", "deg", "ra")],
)
def test_unit_that_is_not_known_is_refused_with_the_column(
    tmp_path: Path, ra_unit: str, dec_unit: str, column: str
) -> None:
    path = tmp_path / "c.parquet"
    schema = pa.schema(
        [
            ("id", pa.int64()),
            pa.field("ra", pa.float64(), metadata={"unit": ra_unit}),
            pa.field("dec", pa.float64(), metadata={"unit": dec_unit}),
        ]
    )
    pq.write_table(pa.table({"id": [1], "ra": [1.0], "dec": [2.0]}, schema=schema), path)
    message = refusal(path)
    assert f"column {column} states the unit" in message and "known units are deg, rad" in message


SEXAGESIMAL = [
    ("12:34:56.789", "+01:02:03.4"),
    ("00:00:00", "-00:00:01"),
    ("1 2 3", "-89 59 59.999"),
    ("23h59m59.99s", "-12d34m56s"),
    ("5 : 4 : 3.", "45°6'7\""),
]


def test_sexagesimal_text_is_read_as_astropy_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    ra, dec = zip(*SEXAGESIMAL, ("350.5", "-5"), strict=True)
    write_parquet(path, ("ra", "dec"), list(ra), list(dec))
    catalog = opened(path)
    rows = read(catalog)
    wanted = SkyCoord([r.replace(" : ", ":") for r in ra[:-1]], list(dec[:-1]), unit=(u.hourangle, u.deg))
    assert np.allclose(rows["ra"], [*wanted.ra.deg, 350.5], rtol=0, atol=1e-12)
    assert np.allclose(rows["dec"], [*wanted.dec.deg, -5], rtol=0, atol=1e-12)
    (warning,) = catalog.warnings
    assert "10 angles in columns ra and dec are sexagesimal; ra is taken for hours" in warning


@pytest.mark.parametrize(
    "text", ["24:00:01", "12:60:00", "12:00:60", "12:00", "1:2:3:4", "x:1:2", "12-30-00"]
)
def test_sexagesimal_text_that_cannot_be_is_refused_row_by_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.csv"
    write_parquet(path, ("ra", "dec"), ["1:2:3", text], ["1", "2"])
    rows = read(opened(path)).to_pylist()
    assert [row["status"] for row in rows] == [None, "invalid_position"]
    assert f"ra in row 1 is '{text}'" in rows[1]["reason"]


def test_degrees_stay_degrees_in_columns_that_say_so(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    for unit, ra, status in (("d:m:s", 12.5, None), ("deg", None, "invalid_position"), ("", 187.5, None)):
        schema = pa.schema(
            [("id", pa.int64()), pa.field("ra", pa.string(), metadata={"unit": unit}), ("dec", pa.float64())]
        )
        pq.write_table(pa.table({"id": [1], "ra": ["12:30:00"], "dec": [2.0]}, schema=schema), path)
        (row,) = read(opened(path)).to_pylist()
        assert (row["ra"], row["status"]) == (ra, status)
    write_parquet(path, ("l", "b"), ["12:30:00"], ["+1:30:00"])
    (row,) = read(opened(path)).to_pylist()
    assert row["dec"] == pytest.approx(expected("galactic", 12.5, 1.5).dec.deg, abs=1e-12)


# Epochs ----------------------------------------------------------------------


def moved(lon: Any, lat: Any, pm_lon: Any, pm_lat: Any, start: Any, end: float) -> SkyCoord:
    """Let astropy move stars; proper motions in mas a year."""
    with warnings.catch_warnings():
        # Without a distance it takes one that is far enough.
        warnings.simplefilter("ignore")
        return SkyCoord(
            lon * u.deg,
            lat * u.deg,
            pm_ra_cosdec=pm_lon * u.mas / u.yr,
            pm_dec=pm_lat * u.mas / u.yr,
            obstime=Time(start, format="jyear"),
        ).apply_space_motion(new_obstime=Time(end, format="jyear"))


angles = {"lon": st.floats(0, 360, exclude_max=True), "lat": st.floats(-89.999, 89.999)}
motions = st.floats(-15_000, 15_000)


@given(**angles, pm_lon=motions, pm_lat=motions, years=st.floats(-100, 100))
def test_stars_move_as_astropy_moves_them(
    lon: float, lat: float, pm_lon: float, pm_lat: float, years: float
) -> None:
    found = move(*(np.array([v]) for v in (lon, lat, pm_lon / 1000, pm_lat / 1000, years)))
    wanted = moved(*(np.array([v]) for v in (lon, lat, pm_lon, pm_lat)), 2000.0, 2000.0 + years)
    at = SkyCoord(*found, unit="deg")
    # Astropy's years and light times differ by 1e-6 of the way or less.
    assert (
        at.separation(wanted)[0] < (1e-6 + 3e-6 * math.hypot(pm_lon, pm_lat) / 1000 * abs(years)) * u.arcsec
    )


@pytest.mark.parametrize("lat", [89.9999, -89.9999, 89.999999])
def test_star_near_a_pole_moves_across_it(lat: float) -> None:
    """Where the cosine of the latitude is nothing."""
    found = move(*(np.array([v]) for v in (30.0, lat, 0.0, math.copysign(10.0, lat), 100.0)))
    wanted = moved(*(np.array([v]) for v in (30.0, lat, 0.0, math.copysign(10_000.0, lat))), 2000.0, 2100.0)
    assert SkyCoord(*found, unit="deg").separation(wanted)[0] < 0.003 * u.arcsec
    assert found[0][0] == pytest.approx(210.0, abs=1e-6)


def gaia(path: Path, **changes: Any) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(23)
    ra, dec = sky(60)
    pm_ra, pm_dec = rng.normal(0, 100, (2, 60))
    epoch = np.where(np.arange(60) % 2, 2016.0, 2010.5)
    columns = {"pmra": pm_ra, "pmdec": pm_dec, "ref_epoch": epoch} | changes
    write_parquet(path, ("ra", "dec"), ra, dec, **{k: v for k, v in columns.items() if v is not None})
    return ra, dec, pm_ra, pm_dec, epoch


@pytest.mark.parametrize("epoch", [2016.0, {"column": "ref_epoch"}])
def test_positions_are_moved_to_the_epoch_of_the_images(tmp_path: Path, epoch: Any) -> None:
    path = tmp_path / "c.parquet"
    ra, dec, pm_ra, pm_dec, column = gaia(path)
    start = np.full(60, 2016.0) if epoch == 2016.0 else column
    spec = request_of(path, image_epoch=2024.9, epoch=epoch).catalog
    catalog = open_catalog(spec, 64, image_epoch=2024.9)
    rows = read(catalog)
    found = SkyCoord(rows["ra"].to_numpy() * u.deg, rows["dec"].to_numpy() * u.deg)
    # Of the rows on the poles themselves astropy knows no direction.
    wanted = moved(ra[2:], dec[2:], pm_ra[2:], pm_dec[2:], start[2:], 2024.9)
    assert found[2:].separation(wanted).max() < 1e-4 * u.arcsec
    at_start = SkyCoord(ra * u.deg, dec * u.deg)
    n_far = int(np.count_nonzero(np.hypot(pm_ra, pm_dec) * np.abs(2024.9 - start) > 200))
    assert n_far and found.separation(at_start).max() > 1 * u.arcsec
    said = "column ref_epoch" if isinstance(epoch, dict) else "J2016"
    (warning,) = catalog.warnings
    assert f"moved from {said} to J2024.9" in warning and f"{n_far} of 60 by more than 0.2" in warning


def request_of(path: Path, *, image_epoch: float | None = None, **catalog: Any) -> Any:
    contents: dict[str, Any] = {
        "request_id": "epochs",
        "catalog": {"uri": str(path), **catalog},
        "butler": "/repo/dp2",
        "collections": ["c"],
        "dataset_type": "deep_coadd",
        "size": 64,
        "output": "out",
    }
    return check_request(contents | ({} if image_epoch is None else {"image_epoch": image_epoch}))


def test_rows_without_proper_motion_or_epoch_stay_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pm = np.full(60, 500.0)
    pm[3], epoch = np.nan, np.full(60, 2016.0)
    epoch[5], epoch[7] = np.nan, 57388.0
    ra, dec, *_ = gaia(path, pmra=pm, pmdec=np.full(60, 10.0), ref_epoch=epoch)
    catalog = opened(path, epoch={"column": "ref_epoch"}, image_epoch=2026.0)
    for _ in range(2):
        rows = read(catalog)
        stays = (rows["ra"].to_numpy() == ra) & (rows["dec"].to_numpy() == dec)
        assert np.flatnonzero(stays).tolist() == [3, 5, 7]
        assert "3 rows have no proper motion or no epoch; they stay" in catalog.warnings[1]


@pytest.mark.parametrize(
    ("unit", "scale"), [("mas/yr", 1.0), ("arcsec / yr", 1e-3), ("mas.yr**-1", 1.0), ("arcsec yr-1", 1e-3)]
)
def test_unit_of_proper_motions_is_heeded(tmp_path: Path, unit: str, scale: float) -> None:
    path = tmp_path / "c.parquet"
    schema = pa.schema(
        [("id", pa.int64()), ("ra", pa.float64()), ("dec", pa.float64())]
        + [pa.field(name, pa.float64(), metadata={"unit": unit}) for name in ("pmRA", "pmDE")]
    )
    table = {"id": [1], "ra": [10.0], "dec": [60.0], "pmRA": [3000.0 * scale], "pmDE": [-1000.0 * scale]}
    pq.write_table(pa.table(table, schema=schema), path)
    (row,) = read(opened(path, epoch=2000.0, image_epoch=2025.0)).to_pylist()
    wanted = moved(10.0, 60.0, 3000.0, -1000.0, 2000.0, 2025.0)
    assert SkyCoord(row["ra"], row["dec"], unit="deg").separation(wanted) < 0.001 * u.arcsec


def test_unknown_unit_of_proper_motions_is_refused_where_it_matters(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    schema = pa.schema(
        [("id", pa.int64()), ("ra", pa.float64()), ("dec", pa.float64())]
        + [pa.field(name, pa.float64(), metadata={"unit": "s/yr"}) for name in ("pmra", "pmdec")]
    )
    table = {"id": [1], "ra": [10.0], "dec": [60.0], "pmra": [3.0], "pmdec": [-1.0]}
    pq.write_table(pa.table(table, schema=schema), path)
    assert "column pmra states the unit 's/yr'" in refusal(path, epoch=2000.0, image_epoch=2025.0)
    assert len(read(opened(path))) == 1


def test_epoch_needs_proper_motions_and_the_epoch_of_the_images(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    gaia(path, pmra=None)
    assert "catalog.pm_ra_column" in refusal(path, epoch=2016.0, image_epoch=2025.0)
    with pytest.raises(
        UserError, match="image_epoch is None: must tell, with catalog.epoch, when the images"
    ):
        request_of(path, epoch=2016.0)
    for wrong in (57388.0, "2016", True, {"col": "x"}):
        with pytest.raises(UserError, match=r"catalog\.epoch.* must be a Julian year"):
            request_of(path, epoch=wrong, image_epoch=2025.0)
    with pytest.raises(UserError, match="image_epoch is 60000: must be a Julian year, as in 2024.9"):
        request_of(path, image_epoch=60000)
    with pytest.raises(UserError, match="pm_ra_column and pm_dec_column belong together"):
        request_of(path, pm_ra_column="pmra")


@pytest.mark.parametrize(
    ("frame", "problem"), [("fk4", "does not go together with fk4"), ("galactic", "is not guessed")]
)
def test_epoch_in_a_frame_where_motions_are_not_clear_is_refused(
    tmp_path: Path, frame: str, problem: str
) -> None:
    path = tmp_path / "c.parquet"
    gaia(path)
    spec = {"frame": frame, "ra_column": "ra", "dec_column": "dec"}
    assert problem in refusal(path, epoch=2016.0, image_epoch=2025.0, **spec)
    assert len(read(opened(path, **spec))) == 60


@pytest.mark.parametrize("frame", ["fk5 J1975", "galactic", "ecliptic"])
def test_motions_belong_to_the_frame_of_the_positions(tmp_path: Path, frame: str) -> None:
    path = tmp_path / "c.parquet"
    lon, lat, pm_lon, pm_lat, _ = gaia(path)
    catalog = opened(
        path,
        frame=frame,
        ra_column="ra",
        dec_column="dec",
        pm_ra_column="pmra",
        pm_dec_column="pmdec",
        epoch=2016.0,
        image_epoch=2026.0,
    )
    rows = read(catalog)
    # Rotations do not change how things move: so moved as if it were ICRS.
    at = moved(lon[2:], lat[2:], pm_lon[2:], pm_lat[2:], 2016.0, 2026.0)
    wanted = expected(frame, at.ra.deg, at.dec.deg)
    found = SkyCoord(rows["ra"].to_numpy()[2:] * u.deg, rows["dec"].to_numpy()[2:] * u.deg)
    assert found.separation(wanted).max() < 1e-4 * u.arcsec


@pytest.mark.parametrize(
    ("changes", "image_epoch", "since", "start", "until"),
    [
        ({}, 2024.9, "from column ref_epoch to J2024.9.", None, 2024.9),
        ({}, None, "from column ref_epoch to J2025 (assumed: the request has no image_epoch).", None, 2025),
        ({"ref_epoch": None}, 2024.9, "from J2016 (assumed: the catalog states no epoch) to", 2016.0, 2024.9),
    ],
)
def test_rows_that_would_move_are_counted_where_no_epoch_is_given(
    tmp_path: Path,
    changes: dict[str, Any],
    image_epoch: float | None,
    since: str,
    start: float | None,
    until: float,
) -> None:
    path = tmp_path / "c.parquet"
    ra, dec, pm_ra, pm_dec, epoch = gaia(path, **changes)
    catalog = opened(path, image_epoch=image_epoch)
    rows = read(catalog)
    assert np.array_equal(rows["dec"], dec)
    epoch = epoch if start is None else start
    n_far = int(np.count_nonzero(np.hypot(pm_ra, pm_dec) * np.abs(until - epoch) > 200))
    (warning,) = catalog.warnings
    assert 0 < n_far < 60 and f"{n_far} rows move by columns pmra and pmdec" in warning
    assert since in warning and "catalog.epoch" in warning


def test_slow_rows_need_no_warning(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    gaia(path, pmra=np.full(60, 1.0), pmdec=np.full(60, -1.0))
    catalog = opened(path)
    read(catalog)
    assert catalog.warnings == []


def test_motions_that_no_star_has_are_called_so(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    gaia(path, pmra=np.full(60, 16_000.0))
    catalog = opened(path, epoch=2016.0, image_epoch=2025.0)
    read(catalog)
    assert "60 rows move by more than 15 arcsec a year" in catalog.warnings[1]


# Names of Rubin's tables -----------------------------------------------------

RUBIN = {
    "Object": (("objectId", "parentObjectId", "coord_ra", "coord_dec", "tract", "patch"), "objectId"),
    "Source": (("sourceId", "coord_ra", "coord_dec", "parentSourceId", "visit", "detector"), "sourceId"),
    "ForcedSource": (("forcedSourceId", "objectId", "coord_ra", "coord_dec", "visit"), "forcedSourceId"),
    "ForcedSource of DP2": (("objectId", "coord_ra", "coord_dec", "visit", "detector"), "objectId"),
    "DiaObject": (("diaObjectId", "ra", "dec", "nDiaSources"), "diaObjectId"),
    "DiaSource": (("diaSourceId", "diaObjectId", "ssObjectId", "ra", "dec", "x", "y"), "diaSourceId"),
    "ForcedSourceOnDiaObject": (
        ("forcedSourceOnDiaObjectId", "diaObjectId", "coord_ra", "coord_dec"),
        "forcedSourceOnDiaObjectId",
    ),
    "SSSource": (
        ("ssObjectId", "diaSourceId", "eclipticLambda", "eclipticBeta", "residualRa"),
        "diaSourceId",
    ),
}


@pytest.mark.parametrize("name", RUBIN)
def test_columns_of_rubins_tables_are_known(tmp_path: Path, name: str) -> None:
    path = tmp_path / "c.parquet"
    columns, identifier = RUBIN[name]
    table = {column: [10 + n, 20 + n] for n, column in enumerate(columns)}
    pq.write_table(pa.table(table), path)
    rows = read(opened(path))
    assert rows["target_id"].to_pylist() == table[identifier]
    lon, lat = (
        ("eclipticLambda", "eclipticBeta")
        if "eclipticBeta" in table
        else next(pair for pair in (("coord_ra", "coord_dec"), ("ra", "dec")) if pair[0] in table)
    )
    frame = "ecliptic" if "ecliptic" in lon else "icrs"
    wanted = expected(frame, np.array(table[lon]), np.array(table[lat]))
    assert np.allclose(rows["dec"], wanted.dec.deg, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "columns", [("objectId", "diaObjectId", "ra", "dec"), ("objectId", "ra", "dec", "coord_ra", "coord_dec")]
)
def test_columns_that_may_both_be_meant_are_asked_about(tmp_path: Path, columns: tuple[str, ...]) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({column: [1, 2] for column in columns}), path)
    assert "2 columns that may be" in refusal(path)


def test_main_position_of_a_votable_is_taken_where_names_do_not_tell(tmp_path: Path) -> None:
    path = tmp_path / "c.vot"
    table = astropy.table.Table(
        {"id": [1], "ra": [1.0], "dec": [2.0], "RAJ2000": [3.0], "DEJ2000": [4.0], "x": [5.0], "y": [6.0]}
    )
    file = from_table(table)
    fields = {field.name: field for field in file.get_first_table().fields}
    assert "2 columns that may be" in write_and_refuse(file, path)
    fields["RAJ2000"].ucd, fields["DEJ2000"].ucd = "pos.eq.ra;meta.main", "pos.eq.dec;meta.main"
    file.to_xml(str(path))
    (row,) = read(opened(path)).to_pylist()
    assert (row["ra"], row["dec"]) == (3.0, 4.0)


def write_and_refuse(file: Any, path: Path) -> str:
    file.to_xml(str(path))
    return refusal(path)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Let astropy write what VOTables of its own version do not allow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
