# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Catalogs of identifiers alone: looked up in the release's object tables."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any
from unittest import mock

import astropy.table
import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from lsst.daf.butler import Butler, DatasetType
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.campaign_butler import open_source
from lsst.dax.bulkcutout.catalog import lookup, open_catalog
from lsst.dax.bulkcutout.catalog.object_ids import SortedIds, whole_numbers
from lsst.dax.bulkcutout.discovery.source_images import SourceImages
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.planning import plan_campaign
from lsst.dax.bulkcutout.request import CatalogSpec, CutoutRequest, check_request
from lsst.dax.bulkcutout.target_table import read_targets
from lsst.dax.bulkcutout.tests import SkyRepository, make_repo, rings_layout

TRACTS = (500_000, 500_001)


@pytest.fixture(scope="module")
def objects() -> dict[int, astropy.table.Table]:
    """Objects by tract, somewhere in inner regions of patches."""
    rng = np.random.default_rng(11)
    layout = rings_layout("bulkcutout_demo_v1", {TRACTS[0]: (27, 28), TRACTS[1]: (44,)})
    found: dict[int, astropy.table.Table] = {}
    for tract, patch in layout.images:
        inner = layout.patch(tract, patch).inner
        n = 40
        x = rng.uniform(inner.x0, inner.x1 - 1, n)
        y = rng.uniform(inner.y0, inner.y1 - 1, n)
        ra, dec = layout.tracts[tract].wcs.wcs_pix2world(x, y, 0)
        table = astropy.table.Table(
            {
                "objectId": (tract * 2**40 + patch * 2**20 + np.arange(n)).astype(np.int64),
                "parentObjectId": np.zeros(n, np.int64),
                "coord_ra": ra * u.deg,
                "coord_dec": dec * u.deg,
                "tract": np.full(n, tract),
                "patch": np.full(n, patch),
                "g_psfFlux": rng.random(n).astype(np.float32),
            }
        )
        found[tract] = astropy.table.vstack([found[tract], table]) if tract in found else table
    return {tract: table[rng.permutation(len(table))] for tract, table in found.items()}


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory, objects: dict[int, astropy.table.Table]) -> SkyRepository:
    layout = rings_layout("bulkcutout_demo_v1", {TRACTS[0]: (27, 28), TRACTS[1]: (44,)})
    repo = make_repo(tmp_path_factory.mktemp("lookup") / "repo", layout=layout, bands=("g",))
    put_tables(repo, "object", objects)
    return repo


def put_tables(repo: SkyRepository, name: str, tables: dict[int, astropy.table.Table]) -> None:
    with Butler.from_config(str(repo.root), writeable=True, run=repo.run) as butler:
        dimensions = butler.dimensions.conform(["skymap", "tract"])
        butler.registry.registerDatasetType(DatasetType(name, dimensions, "ArrowAstropy"))
        for tract, table in tables.items():
            butler.put(table, name, skymap=repo.skymap, tract=tract)


def request_for(
    repo: SkyRepository, path: Path, image_epoch: float | None = None, **catalog: Any
) -> CutoutRequest:
    return check_request(
        {
            "request_id": "ids",
            "catalog": {"uri": str(path), **catalog},
            "image_epoch": image_epoch,
            "butler": str(repo.root),
            "collections": [repo.collection],
            "dataset_type": repo.dataset_type,
            "size": 24,
            "output": str(path.parent / "out"),
        }
    )


def read(repo: SkyRepository, path: Path, **catalog: Any) -> tuple[list[dict[str, Any]], list[str]]:
    request = request_for(repo, path, **catalog)
    with open_source(request.butler) as butler:
        images = SourceImages(butler, request)
        opened = open_catalog(request.catalog, request.size, find_objects=images.object_tables)
        rows = pa.Table.from_batches(opened.batches(7)).to_pylist()
        assert opened.n_rows == len(rows)
        return rows, opened.warnings


def truth(objects: dict[int, astropy.table.Table]) -> dict[int, tuple[float, float, int, int]]:
    return {
        int(row["objectId"]): (row["coord_ra"], row["coord_dec"], int(row["tract"]), int(row["patch"]))
        for table in objects.values()
        for row in table
    }


def write(path: Path, ids: Any, **columns: Any) -> Path:
    table = pa.table({"objectId": ids, **columns})
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".vot":
        astropy.table.Table({name: table[name].to_numpy() for name in table.column_names}).write(
            path, format="votable"
        )
    else:
        pq.write_table(table, path)
    return path


@pytest.mark.parametrize("suffix", ["parquet", "csv", "vot"])
@pytest.mark.parametrize("window", [9, 100_000])
def test_positions_tracts_and_patches_are_those_of_the_object_table(
    repo: SkyRepository, objects: dict[int, Any], tmp_path: Path, suffix: str, window: int
) -> None:
    known = truth(objects)
    rng = np.random.default_rng(2)
    ids = rng.choice(list(known), 60)
    path = write(tmp_path / f"c.{suffix}", ids, mag=np.arange(60.0))
    with mock.patch.object(lookup, "WINDOW_ROWS", window):
        rows, warnings = read(repo, path, carry="all")
    assert len(set(ids.tolist())) < 60
    assert [row["target_id"] for row in rows] == ids.tolist()
    for row in rows:
        place = (row["ra"], row["dec"], row["tract"], row["patch"])
        assert place == known[row["target_id"]] and row["status"] is None
    assert [row["carried:mag"] for row in rows] == list(range(60))
    assert "object.coord_ra" not in str(rows[0])
    assert len(warnings) == 1 and "those of coord_ra and coord_dec in the tables 'object'" in warnings[0]


def test_identifiers_that_are_not_in_the_table_are_answered(
    repo: SkyRepository, objects: dict[int, Any], tmp_path: Path
) -> None:
    known = truth(objects)
    good = next(iter(known))
    path = write(tmp_path / "c.parquet", pa.array([good, 5, None, good + 2**50, good], pa.int64()))
    rows, _ = read(repo, path)
    statuses = [None, "invalid_position", "invalid_id", "invalid_position", None]
    assert [row["status"] for row in rows] == statuses
    assert rows[1]["reason"] == "objectId in row 1 is 5: the tables 'object' have no such objectId."
    assert rows[2]["reason"] == "objectId in row 2 is missing."
    assert rows[1]["target_id"] == 5 and rows[1]["ra"] is None


def test_identifiers_may_be_text_and_have_another_name(
    repo: SkyRepository, objects: dict[int, Any], tmp_path: Path
) -> None:
    known = truth(objects)
    good = next(iter(known))
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"mine": [str(good), "x17", ""]}), path)
    rows, _ = read(repo, path, id_column="mine")
    assert [row["status"] for row in rows] == [None, "invalid_position", "invalid_position"]
    assert rows[0]["patch"] == known[good][3]


def test_object_in_two_tracts_is_taken_from_the_lower_one_and_said_so(
    repo: SkyRepository, objects: dict[int, Any], tmp_path: Path
) -> None:
    """Some ten objects a tract are listed more than once."""
    first = objects[TRACTS[0]][:5]
    other = objects[TRACTS[1]].copy()
    other["objectId"][:5] = first["objectId"]
    # Twice in one table as well.
    again = astropy.table.vstack([objects[TRACTS[0]], first[:1]])
    put_tables(repo, "object_twice", {TRACTS[0]: again, TRACTS[1]: other})
    path = write(tmp_path / "c.parquet", np.asarray(first["objectId"]))
    rows, warnings = read(repo, path, lookup="object_twice")
    assert [row["tract"] for row in rows] == [TRACTS[0]] * 5
    assert [row["ra"] for row in rows] == first["coord_ra"].tolist()
    assert "5 of its identifiers occur more than once in the tables 'object_twice'" in warnings[1]


def test_campaign_is_planned_from_identifiers_alone(
    repo: SkyRepository, objects: dict[int, Any], tmp_path: Path
) -> None:
    known = truth(objects)
    ids = [*list(known)[::3], 17]
    request = request_for(repo, write(tmp_path / "c.parquet", ids))
    campaign = Campaign(tmp_path / "campaign")
    campaign.root.mkdir()
    with open_source(request.butler) as butler:
        plan, coverage = plan_campaign(campaign, request, SourceImages(butler, request))
    assert plan.targets == len(ids) - 1 and plan.refused == {"invalid_position": 1}
    assert {(c.tract, c.patch) for c in coverage} == {known[i][2:] for i in ids[:-1]}
    for tract in plan.tracts:
        for batch in read_targets(campaign.targets / tract.path):
            for row in batch.to_pylist():
                assert (row["ra"], row["dec"], row["tract"], row["patch"]) == known[row["target_id"]]
    assert any("it has no positions" in warning for warning in plan.warnings)


def test_positions_of_the_catalog_come_first_unless_lookup_is_named(
    repo: SkyRepository, objects: dict[int, Any], tmp_path: Path
) -> None:
    known = truth(objects)
    good = next(iter(known))
    path = write(tmp_path / "c.parquet", [good], ra=[1.0], dec=[2.0])
    assert read(repo, path)[0][0]["ra"] == 1.0
    assert read(repo, path, lookup="object")[0][0]["ra"] == known[good][0]


def test_a_magnitude_is_no_galactic_latitude(
    repo: SkyRepository, objects: dict[int, Any], tmp_path: Path
) -> None:
    known = truth(objects)
    good = next(iter(known))
    rows, _ = read(repo, write(tmp_path / "c.parquet", [good], b=[21.5], v=[20.9]))
    assert (rows[0]["ra"], rows[0]["dec"]) == known[good][:2]


@pytest.mark.parametrize(
    "catalog", [{"frame": "galactic"}, {"epoch": 2016.0}, {"ra_column": "ra", "dec_column": "dec"}]
)
def test_what_is_said_about_positions_that_are_looked_up_is_refused(
    repo: SkyRepository, objects: dict[int, Any], tmp_path: Path, catalog: dict[str, Any]
) -> None:
    path = write(tmp_path / "c.parquet", [1], ra=[1.0], dec=[2.0])
    with open_source(str(repo.root)) as butler:
        find = SourceImages(butler, request_for(repo, path)).object_tables
        spec = CatalogSpec(uri=str(path), lookup="object", **catalog)
        with pytest.raises(
            UserError, match=f"'catalog.{next(iter(catalog))}' says something about positions"
        ):
            open_catalog(spec, 24, image_epoch=2025.0, find_objects=find)


def test_campaign_is_planned_for_the_epoch_of_the_images(
    repo: SkyRepository, objects: dict[int, Any], tmp_path: Path
) -> None:
    """From galactic positions of 2016 in a VOTable, through the request."""
    table = objects[TRACTS[0]]
    pm_lon, pm_lat = np.full(len(table), 300.0), np.full(len(table), -400.0)
    then = SkyCoord(table["coord_ra"], table["coord_dec"]).galactic
    catalog = astropy.table.Table({"id": np.arange(len(table)), "glon": then.l, "glat": then.b})
    catalog["mu_l"], catalog["mu_b"] = pm_lon * u.mas / u.yr, pm_lat * u.mas / u.yr
    path = tmp_path / "c.vot"
    catalog.write(path, format="votable", tabledata_format="binary2")
    path.write_bytes(gzip.compress(path.read_bytes()))
    request = request_for(repo, path, 2026.0, epoch=2016.0, pm_ra_column="mu_l", pm_dec_column="mu_b")
    campaign = Campaign(tmp_path / "campaign")
    campaign.root.mkdir()
    with open_source(request.butler) as butler:
        plan, _ = plan_campaign(campaign, request, SourceImages(butler, request))
    now = SkyCoord(
        frame="galactic",
        l=then.l,
        b=then.b,
        pm_l_cosb=catalog["mu_l"].quantity,
        pm_b=catalog["mu_b"].quantity,
        distance=np.full(len(table), 0.1) * u.kpc,
        obstime=Time(2016.0, format="jyear"),
    ).apply_space_motion(new_obstime=Time(2026.0, format="jyear"))
    assert plan.targets == len(table) and len(plan.tracts) == 1
    found = pa.Table.from_batches(read_targets(campaign.targets / plan.tracts[0].path)).sort_by("row")
    at = SkyCoord(found["ra"].to_numpy() * u.deg, found["dec"].to_numpy() * u.deg)
    assert at.separation(now.icrs).max() < 1e-4 * u.arcsec
    assert at.separation(then.icrs).min() > 4.9 * u.arcsec
    said = " ".join(plan.warnings)
    assert "are galactic" in said and "moved from J2016 to J2026" in said


def test_tables_that_are_not_there_are_named(repo: SkyRepository, tmp_path: Path) -> None:
    path = write(tmp_path / "c.parquet", [1])
    with pytest.raises(UserError, match="'catalog.lookup': the collections have no tables 'dia_object'"):
        read(repo, path, lookup="dia_object")
    with pytest.raises(UserError, match="no tables 'deep_coadd' with the dimensions skymap and tract"):
        read(repo, path, lookup="deep_coadd")
    request = request_for(repo, path)
    with pytest.raises(UserError, match=r"may be looked up|could be looked up, but the collections have no"):
        open_catalog(request.catalog, 24, find_objects=lambda name: None)
    with pytest.raises(UserError, match=r"no column that looks like the right ascension.*Its columns are"):
        open_catalog(request.catalog, 24)


def test_tables_that_cannot_tell_positions_are_refused(
    repo: SkyRepository, objects: dict[int, Any], tmp_path: Path
) -> None:
    table = objects[TRACTS[0]].copy()
    table.rename_columns(["coord_ra", "coord_dec"], ["x", "y"])
    put_tables(repo, "object_nowhere", {TRACTS[0]: table})
    path = write(tmp_path / "c.parquet", [1])
    with pytest.raises(UserError, match="the tables 'object_nowhere' cannot tell them"):
        read(repo, path, lookup="object_nowhere")


def test_radians_and_damage_in_the_tables_are_noticed(
    repo: SkyRepository, objects: dict[int, Any], tmp_path: Path
) -> None:
    table = objects[TRACTS[0]].copy()
    for name in ("coord_ra", "coord_dec"):
        table[name] = np.radians(table[name].data)
        table[name].unit = u.rad
    put_tables(repo, "object_radians", {TRACTS[0]: table})
    path = write(tmp_path / "c.parquet", [int(table["objectId"][0])])
    rows, _ = read(repo, path, lookup="object_radians")
    assert rows[0]["ra"] == pytest.approx(objects[TRACTS[0]]["coord_ra"][0], abs=1e-12)
    with Butler.from_config(str(repo.root), collections=repo.collection) as butler:
        (ref,) = butler.query_datasets("object_radians", limit=None)
        file = Path(butler.getURI(ref).ospath)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be looked up, because .* cannot be read"):
        read(repo, path, lookup="object_radians")


def test_row_groups_without_wanted_identifiers_are_not_read(tmp_path: Path) -> None:
    from lsst.resources import ResourcePath

    table = pa.table({"objectId": np.arange(1000), "ra": np.arange(1000) / 10, "dec": np.zeros(1000)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=100)
    tables = lookup.ObjectTables("object", {7: ResourcePath(str(tmp_path / "t.parquet"))})
    path = write(tmp_path / "c.parquet", [250, 255, 999])
    read_groups: list[list[int]] = []
    original = pq.ParquetFile.iter_batches

    def spy(self: Any, *args: Any, **keywords: Any) -> Any:
        if "row_groups" in keywords:
            read_groups.append(keywords["row_groups"])
        return original(self, *args, **keywords)

    request = check_request(
        {"request_id": "r", "catalog": {"uri": str(path)}, "butler": "b", "collections": ["c"]}
        | {"dataset_type": "d", "size": 8, "output": "o"}
    )
    with mock.patch.object(pq.ParquetFile, "iter_batches", spy):
        catalog = open_catalog(request.catalog, 24, find_objects=lambda name: tables)
        rows = pa.Table.from_batches(catalog.batches()).to_pylist()
    assert [(row["ra"], row["tract"], row["patch"]) for row in rows] == [
        (25.0, 7, None),
        (25.5, 7, None),
        (99.9, 7, None),
    ]
    assert read_groups == [[2, 9]]


@given(
    rows=st.lists(st.integers(-5, 5) | st.none() | st.sampled_from([2**63 - 1, -(2**63)]), max_size=30),
    table=st.lists(st.integers(-5, 5) | st.none() | st.just(2**63 - 1), max_size=30),
)
def test_sorted_identifiers_find_what_a_dictionary_finds(rows: list[Any], table: list[Any]) -> None:
    wanted = SortedIds(pa.array(rows, pa.int64()))
    assert wanted.values.tolist() == sorted({row for row in rows if row is not None})
    known = {value: index for index, value in enumerate(wanted.values.tolist())}
    assert wanted.places(pa.array(table, pa.int64())).tolist() == [known.get(value, -1) for value in table]
    out = np.zeros(len(rows), [("tract", "i4"), ("value", "i8")])
    answers = np.zeros(len(known), out.dtype)
    answers["value"] = wanted.values
    wanted.spread(answers, out)
    assert [(-1 if row is None else 0, row or 0) for row in rows] == out.tolist()


@pytest.mark.parametrize(
    ("given_ids", "numbers"),
    [
        (pa.array(["12", " 7 ", "007", "x", "", None, "1.0"]), [12, 7, 7, None, None, None, 1]),
        (pa.array(["9223372036854775807", "9223372036854775808"]), [2**63 - 1, None]),
        (pa.array([1.0, 2.5, np.nan, np.inf, 2.0**60]), [1, None, None, None, None]),
        (pa.array([1, 2**63], pa.uint64()), [1, None]),
        (pa.array(["5", "6"]).dictionary_encode(), [5, 6]),
    ],
)
def test_identifiers_become_whole_numbers_or_nothing(given_ids: pa.Array, numbers: list[Any]) -> None:
    assert whole_numbers(given_ids).to_pylist() == numbers
