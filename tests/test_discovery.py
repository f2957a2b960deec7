# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Targets meet the registry: repositories of any size, without any files."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lsst.daf.butler import Butler
from lsst.daf.butler.time_utils import TimeConverter
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.campaign_butler import open_source
from lsst.dax.bulkcutout.catalog import open_catalog
from lsst.dax.bulkcutout.discovery import source_images
from lsst.dax.bulkcutout.discovery.discover import Discovery, discover
from lsst.dax.bulkcutout.discovery.neighbors import find_neighbors
from lsst.dax.bulkcutout.discovery.source_images import SourceImages
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.request import CutoutRequest, check_request
from lsst.dax.bulkcutout.skymap.rings import KNOWN_SKYMAPS
from lsst.dax.bulkcutout.target_table import TargetFile, read_targets
from lsst.dax.bulkcutout.tests import (
    Layout,
    SkyRepository,
    make_targets,
    rings_layout,
    tangent_layout,
    tangent_tract,
)
from lsst.dax.bulkcutout.tests.repository_writer import ImageKey, RepositoryWriter

DEMO = "bulkcutout_demo_v1"
MANY_TRACTS = range(9000, 9017)
MANY_BANDS = ("u", "g", "r", "i", "z", "y", "n1", "n2", "n3", "n4", "n5", "n6")


def registered_repo(
    root: Path, layout: Layout, bands: Sequence[str], missing: Collection[ImageKey] = ()
) -> SkyRepository:
    """A repository whose images are registered, and have no files."""
    keys = [(t, p, band) for t, p in layout.images for band in bands if (t, p, band) not in missing]
    with RepositoryWriter(root, layout, bands, []) as writer:
        data_ids = [{"skymap": layout.name, "tract": t, "patch": p, "band": band} for t, p, band in keys]
        with Butler.from_config(str(root), writeable=True) as butler:
            refs = butler.registry.insertDatasets("deep_coadd", data_ids, run=writer.run)
        return SkyRepository(
            root=root,
            collection="coadds",
            run=writer.run,
            dataset_type="deep_coadd",
            layout=layout,
            bands=tuple(bands),
            paths={},
            refs=dict(zip(keys, refs, strict=True)),
            missing_cells=dict.fromkeys(keys, frozenset()),
        )


def request_for(repo: SkyRepository, **fields: Any) -> CutoutRequest:
    return check_request(
        {
            "request_id": "test",
            "catalog": {"uri": "none.parquet"},
            "butler": str(repo.root),
            "collections": [repo.collection],
            "dataset_type": repo.dataset_type,
            "size": 24,
            "output": "out",
            **fields,
        }
    )


def discover_here(
    directory: Path,
    repo: SkyRepository,
    table: pa.Table,
    *,
    columns: dict[str, str] | None = None,
    **fields: Any,
) -> tuple[Discovery, dict[int, dict[str, Any]]]:
    """Discovery, and by row what was written of each row of the catalog."""
    path = directory / "catalog.parquet"
    pq.write_table(table, path)
    request = request_for(repo, **fields, catalog={"uri": str(path), **(columns or {})})
    campaign = Campaign(directory)
    with open_source(str(repo.root)) as butler:
        found = discover(
            request, open_catalog(request.catalog, request.size), SourceImages(butler, request), campaign
        )
    rows = pq.read_table(campaign.refused).to_pylist()
    for tract in found.tracts:
        for batch in read_targets(campaign.targets / tract.path):
            rows += [{**row, "status": None} for row in batch.to_pylist()]
    answers = {row["row"]: row for row in rows}
    assert len(answers) == len(rows) == len(table)
    assert Counter(row["status"] for row in rows if row["status"]) == found.refused
    return found, answers


def catalog_of(ra: Any, dec: Any, **columns: Any) -> pa.Table:
    return pa.table({"id": np.arange(len(ra)), "ra": ra, "dec": dec, **columns})


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> SkyRepository:
    """All patches of 17 tracts of the observatory's map, in twelve bands:
    20,400 datasets.
    """
    with pytest.MonkeyPatch.context() as patch:
        # Half of the time would go into the ingest date of each dataset.
        patch.setattr(TimeConverter, "astropy_to_nsec", lambda self, time: 1_700_000_000_000_000_000)
        layout = rings_layout("lsst_cells_v2", {tract: range(100) for tract in MANY_TRACTS})
        return registered_repo(tmp_path_factory.mktemp("many") / "repo", layout, MANY_BANDS)


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The queries for datasets, as they were asked."""
    asked: list[dict[str, Any]] = []
    original = Butler.query_datasets

    def query_datasets(self: Butler, *args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Butler, "query_datasets", query_datasets)
    yield asked


def test_more_datasets_than_a_query_gives_by_default(
    many: SkyRepository, tmp_path: Path, queries: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """The Butler itself would give 20,000 of 20,400, and a warning."""
    assert len(many.refs) == 20_400
    with open_source(str(many.root)) as butler:
        with caplog.at_level(logging.WARNING, "lsst.daf.butler"):
            assert len(butler.query_datasets("deep_coadd", "coadds")) == 20_000
        assert "More datasets are available" in caplog.text
        caplog.clear()
        found = SourceImages(butler, request_for(many)).datasets(list(MANY_TRACTS))
    assert {(*place, band): ref.id for place, refs in found.items() for band, ref in refs.items()} == {
        key: ref.id for key, ref in many.refs.items()
    }
    assert not caplog.records
    assert queries[-1]["limit"] is None


def test_datasets_are_asked_for_by_chunks_of_tracts(
    many: SkyRepository, tmp_path: Path, queries: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven tracts with targets, three at a time, of 17 with images;
    `coverage`, which a second attempt uses, finds the same as the first.
    """
    monkeypatch.setattr(source_images, "TRACTS_PER_QUERY", 3)
    tracts = list(MANY_TRACTS)[1:15:2]
    sky = [many.layout.tracts[tract].crval for tract in tracts]
    found, _ = discover_here(tmp_path, many, catalog_of(*np.array(sky).T))
    assert [each.tract for each in found.coverage] == tracts
    wanted = [re.search(r"tract IN \((.*?)\)", asked["where"]) for asked in queries]
    chunks = [list(map(int, match[1].split(", "))) for match in wanted if match]
    assert chunks == [tracts[:3], tracts[3:6], tracts[6:]]
    with open_source(str(many.root)) as butler:
        files = [tmp_path / "targets" / tract.path for tract in found.tracts]
        assert SourceImages(butler, request_for(many)).coverage(files) == found.coverage


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> SkyRepository:
    """Five patches of two neighbours on the small rings map, some without
    some bands; the registry knows one more tract, and y, without images.
    """
    layout = rings_layout(DEMO, {500_000: (27, 28, 35), 500_001: (27,), 500_002: ()})
    missing = [(500_000, 28, "i"), (500_000, 28, "u"), (500_001, 27, "u"), (500_000, 35, "u")]
    bands = ("y", "i", "u")
    missing += [(tract, patch, "y") for tract, patch in layout.images]
    return registered_repo(tmp_path_factory.mktemp("rings") / "repo", layout, bands, missing)


@pytest.fixture(scope="module")
def tangent(tmp_path_factory: pytest.TempPathFactory) -> SkyRepository:
    """Two rotated tracts far from each other, of 2 x 3 patches."""
    layout = tangent_layout(
        [
            tangent_tract(3, center=(359.99, -31.0), n_patches=(2, 3), rotation_deg=25.0),
            tangent_tract(8, center=(0.09, -31.0), n_patches=(2, 3), origin=(-70, 4000)),
        ],
        images={3: range(5), 8: range(6)},
    )
    missing = [(8, 2, "g"), (8, 2, "r"), (3, 1, "r")]
    return registered_repo(tmp_path_factory.mktemp("tangent") / "repo", layout, ("r", "g"), missing)


def deepest_images(repo: SkyRepository, ra: float, dec: float) -> list[tuple[int, int]]:
    """Patches with an image in which a position lies deepest, by astropy's
    projection; several if they differ by less than can be told apart.
    """
    depths: dict[tuple[int, int], float] = {}
    for number, patch in {(number, patch) for number, patch, _ in repo.refs}:
        tract = repo.layout.tracts[number]
        x, y = (float(value) for value in tract.sky_to_pixel(ra, dec))
        box = tract.patches[patch].outer
        depth = min(x - box.x0 + 0.5, box.x1 - 0.5 - x, y - box.y0 + 0.5, box.y1 - 0.5 - y)
        if np.isfinite(depth) and depth >= -1e-6:
            depths[number, patch] = depth
    return [place for place, depth in depths.items() if depth > max(depths.values()) - 0.01]


@pytest.mark.parametrize("kind", ["rings", "tangent"])
@pytest.mark.parametrize("with_patches", [False, True])
def test_every_target_gets_its_patch_or_its_reason(
    kind: str, with_patches: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Against answers worked out with astropy's projection and the sky map's
    definitions; with and without tract and patch in the catalog.
    """
    repo: SkyRepository = request.getfixturevalue(kind)
    targets = make_targets(repo, n_sources=0, n_random=60, with_patches=with_patches)
    columns = {"tract_column": "tract", "patch_column": "patch"} if with_patches else {}
    found, answers = discover_here(tmp_path, repo, targets.table, columns=columns)
    seen = Counter()
    for expected in targets.expected.to_pylist():
        answer = answers[expected["row"]]
        if expected["status"] is None and with_patches and expected["tract"] is not None:
            # The catalog has chosen its own patch, which has no image.
            assert answer["status"] == "no_dataset"
            continue
        if expected["status"] is None:
            # No image of its own patch, or beyond the inner regions of all.
            assert answer["status"] is None, answer
            assert (answer["tract"], answer["patch"]) in deepest_images(repo, answer["ra"], answer["dec"])
            seen["another patch"] += 1
            seen["fallback"] += answer["fallback"]
            if expected["tract"] is not None:
                assert answer["fallback"]
            continue
        if expected["tract"] is None and kind == "tangent" and answer["status"] == "no_dataset":
            # In the border of an image that is not there, beyond the tract.
            seen["border"] += 1
            continue
        assert not answer.get("fallback")
        seen[expected["status"]] += 1
        if expected["status"] in ("delivered", "no_data"):
            assert answer["status"] is None, answer
            assert (answer["tract"], answer["patch"]) == (expected["tract"], expected["patch"])
            if kind == "rings":
                assert answer["x"] == pytest.approx(expected["x"], abs=1e-6)
                assert answer["y"] == pytest.approx(expected["y"], abs=1e-6)
        else:
            assert answer["status"] == expected["status"], (answer, expected)
    assert seen["delivered"] > 60 and seen["outside_footprint"] >= 6
    assert seen["invalid_position"] == 7 and seen["invalid_id"] == 1
    if kind == "tangent":
        assert seen["no_dataset"] > 0
    assert with_patches or seen["fallback"] > 4
    assert sum(tract.fallback for tract in found.tracts) == seen["fallback"]
    places = [(each.tract, each.patch) for each in found.coverage]
    assert places == sorted(places) and set(places) <= set(repo.layout.images)
    for each in found.coverage:
        bands = {band for band in repo.bands if (each.tract, each.patch, band) in repo.refs}
        assert set(each.datasets) == bands
        assert all(ref.id == repo.refs[each.tract, each.patch, b].id for b, ref in each.datasets.items())


def inside(repo: SkyRepository, tract: int, patch: int, n: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Positions well inside a patch."""
    box = repo.layout.patch(tract, patch).inner
    x = np.linspace(box.x0 + 60, box.x1 - 60, n)
    ra, dec = repo.layout.tracts[tract].pixel_to_sky(x, np.full(n, (box.y0 + box.y1) / 2))
    return ra % 360.0, dec


def test_patch_without_images_is_not_the_same_as_a_tract_without(
    rings: SkyRepository, tmp_path: Path
) -> None:
    """And both are not the same as bands that are missing, which costs no
    row.
    """
    places = [(500_000, 28), (500_000, 29), (500_002, 27), (500_001, 27)]
    ra, dec = np.concatenate([inside(rings, *place) for place in places], axis=1)
    found, answers = discover_here(tmp_path, rings, catalog_of(ra, dec), bands=["i", "u"])
    other = "nor has another patch that covers the position."
    reasons = [(answers[row]["status"], answers[row].get("reason")) for row in range(4)]
    assert reasons == [
        ("no_dataset", f"Patch 28 of tract 500000 has no deep_coadd in band u, i, {other}"),
        ("no_dataset", f"Patch 29 of tract 500000 has no deep_coadd in band u, i, {other}"),
        (
            "outside_footprint",
            "The position is in a tract without such images, and no other tract's images reach it.",
        ),
        (None, None),
    ]
    assert found.bands == ("u", "i")
    assert [set(each.datasets) for each in found.coverage] == [{"i"}]
    (warning,) = found.warnings
    assert warning == "No target has an image in band u: these bands will be empty in the product."


def test_another_patch_stands_in_where_that_of_the_rule_has_no_image(
    rings: SkyRepository, tmp_path: Path, queries: list[dict[str, Any]]
) -> None:
    """Patch 28 has no image; 27 and 35 reach over its borders, and 500_001
    over a tract without any.  Rows of several patches that have none go to
    one that has its own too, all in the order of the catalog; a patch that
    the catalog names is not given up for another.
    """
    tract = rings.layout.tracts[500_000]
    own, other = tract.patches[27].inner, tract.patches[35].inner
    x = [own.x1 + 9.5, own.x0 + 99.0, own.x1 + 19.25, own.x1 + 99.0, own.x1 + 20.0, other.x0 + 120.0]
    y = [own.y0 + 99.0, own.y0 + 88.0, own.y0 + 9.5, own.y0 + 99.0, own.y0 + 120.0, other.y0 - 3.0]
    ra, dec = tract.pixel_to_sky(x, y)
    table = catalog_of(ra % 360.0, dec, region=[None] * 4 + [500_000, None], part=[None] * 4 + [28, None])
    table = table.cast(
        table.schema.set(3, pa.field("region", pa.int64())).set(4, pa.field("part", pa.int64()))
    )
    columns = {"tract_column": "region", "patch_column": "part"}
    found, answers = discover_here(tmp_path, rings, table, columns=columns)
    given = [
        (answers[row]["patch"], answers[row].get("fallback"), answers[row]["status"]) for row in range(6)
    ]
    assert given == [
        (27, True, None),
        (27, False, None),
        (27, True, None),
        (28, None, "no_dataset"),
        (28, None, "no_dataset"),
        # In the inner region of 27, whose image it is.
        (27, False, None),
    ]
    assert answers[4]["reason"] == "Patch 28 of tract 500000 has no deep_coadd in any band."
    np.testing.assert_allclose([answers[row]["x"] for row in (0, 1, 2)], x[:3], atol=1e-6)
    (only,) = found.tracts
    rows = [
        row for batch in read_targets(tmp_path / "targets" / only.path) for row in batch["row"].to_pylist()
    ]
    assert rows == [0, 1, 2, 5] and only.fallback == 2 and only.patches == 1
    # One query for the tract's images, own ones and others.
    assert len([asked for asked in queries if "tract IN" in asked["where"]]) == 1


def test_registry_is_asked_once_for_a_tract(
    rings: SkyRepository, queries: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often and in whatever company; and again where more datasets
    were found than are kept.
    """
    with open_source(str(rings.root)) as butler:
        images = SourceImages(butler, request_for(rings))
        assert set(images.datasets([500_000])) == {(500_000, 27), (500_000, 35)}
        both = images.datasets([500_000, 500_001])
        assert {(*place, band) for place, refs in both.items() for band in refs} == set(rings.refs)
        some = images.found([(500_001, 27), (500_000, 35), (500_002, 1)])
        assert some == {place: both[place] for place in [(500_000, 35), (500_001, 27)]}
        assert [asked["where"].split(" AND ")[1] for asked in queries] == [
            "tract IN (500000)",
            "tract IN (500001)",
            "tract IN (500002)",
        ]
        monkeypatch.setattr(source_images, "MOST_HELD", 1)
        images = SourceImages(butler, request_for(rings))
        assert images.datasets([500_000, 500_001]) == images.datasets([500_000, 500_001])
    assert len(queries) == 5


@pytest.mark.parametrize(("size", "read"), [(24, []), (200, [35]), (700, [27, 35])])
def test_rows_are_read_for_neighbors_only_where_a_cutout_may_leave_its_image(
    size: int, read: list[int], rings: SkyRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target in the middle of a patch of 500 pixels, and one 110 pixels from
    the edge of another's image.
    """
    tract = rings.layout.tracts[500_000]
    middle, other = tract.patches[27].outer, tract.patches[35].outer
    x = np.array([(middle.x0 + middle.x1) / 2, other.x0 + 89.0])
    y = np.array([(middle.y0 + middle.y1) / 2, (other.y0 + other.y1) / 2])
    ra, dec = tract.pixel_to_sky(x, y)
    table = catalog_of(ra % 360.0, dec)
    asked: list[int] = []
    original = TargetFile.read

    def note(self: TargetFile, patch: Any = None, **kwargs: Any) -> Iterator[pa.RecordBatch]:
        asked.extend(patch)
        yield from original(self, patch, **kwargs)

    found, _ = discover_here(tmp_path, rings, table, size=size)
    plan: Any = SimpleNamespace(tracts=found.tracts)
    with open_source(str(rings.root)) as butler:
        images = SourceImages(butler, request_for(rings, size=size))
        monkeypatch.setattr(TargetFile, "read", note)
        coverage = find_neighbors(images, Campaign(tmp_path), plan, found.coverage)
    assert asked == read
    assert {each.patch for each in coverage if each.neighbors} <= set(read)


def test_tract_without_images_is_covered_by_its_neighbours(tmp_path: Path) -> None:
    """Where the overlap of a tract reaches over the border; the position is
    in the other tract by the formula.
    """
    demo = KNOWN_SKYMAPS[DEMO]
    layout = rings_layout(DEMO, {500_000: range(64), 500_001: ()})
    repo = registered_repo(tmp_path / "repo", layout, ["r"])
    tract, beside = layout.tracts[500_000], layout.tracts[500_001]
    middle = (tract.crval[0] + beside.crval[0]) / 2
    steps = np.array([-40.0, 40.0, 1000.0]) * 0.2 / 3600 / np.cos(np.radians(tract.crval[1]))
    ra, dec = middle + steps, np.full(3, tract.crval[1] + 0.011)
    assert demo.find_tract(ra, dec).tolist() == [500_000, 500_001, 500_001]
    found, answers = discover_here(tmp_path, repo, catalog_of(ra, dec))
    assert [answers[row].get("fallback") for row in range(3)] == [False, True, None]
    assert (answers[2]["status"], answers[2]["patch"]) == ("outside_footprint", None)
    for row in (0, 1):
        assert (answers[row]["tract"], answers[row]["patch"]) in deepest_images(repo, ra[row], dec[row])
        expected = tract.sky_to_pixel(ra[row], dec[row])
        np.testing.assert_allclose([answers[row]["x"], answers[row]["y"]], expected, atol=1e-6)
    assert [(each.tract, each.fallback) for each in found.tracts] == [(500_000, 1)]


def test_all_bands_are_those_of_any_target_in_order_of_wavelength(
    rings: SkyRepository, tangent: SkyRepository, tmp_path: Path
) -> None:
    """The registry has them in another order, and y without any image."""
    for number, (repo, places, bands) in enumerate(
        [
            (rings, [(500_000, 27)], ("u", "i")),
            (rings, [(500_000, 35), (500_001, 27)], ("i",)),
            (tangent, [(3, 1)], ("g",)),
            (tangent, [(3, 1), (8, 4)], ("g", "r")),
        ]
    ):
        directory = tmp_path / str(number)
        directory.mkdir()
        ra, dec = np.concatenate([inside(repo, *place) for place in places], axis=1)
        found, _ = discover_here(directory, repo, catalog_of(ra, dec))
        assert found.bands == bands and not found.warnings


@pytest.mark.parametrize("kind", ["rings", "tangent"])
def test_tract_and_patch_of_the_catalog_are_believed_only_where_they_are_right(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Right, a wrong patch, a wrong tract, one without images or that does
    not exist, none; and the neighbour whose image has the position, too.
    """
    repo: SkyRepository = request.getfixturevalue(kind)
    tract, patch, other = {"rings": (500_000, 27, 35), "tangent": (8, 0, 3)}[kind]
    box = repo.layout.patch(tract, patch).inner
    ra, dec = inside(repo, tract, patch, 6)
    overlap = repo.layout.tracts[tract].pixel_to_sky((box.x0 + box.x1) / 2, box.y1 - 10.0)
    ra[5], dec[5] = overlap[0] % 360.0, overlap[1]
    wrong_tract = {500_000: 500_001, 8: 3}[tract]
    table = catalog_of(
        ra,
        dec,
        region=pa.array([tract, tract, wrong_tract, 123, None, tract], pa.int32()),
        part=pa.array([patch, 99_999, patch, patch, None, other], pa.int64()),
    )
    columns = {"tract_column": "region", "patch_column": "part"}
    found, answers = discover_here(tmp_path, repo, table, columns=columns)
    wrong = ("invalid_position", "The catalog's tract and patch do not hold this position.")
    given = [(answers[row]["status"], answers[row].get("reason")) for row in range(6)]
    ok = (None, None)
    assert given == [ok, wrong, wrong, wrong, ok, ok]
    assert [answers[row]["patch"] for row in (0, 4, 5)] == [patch, patch, other]
    assert any("1 rows have no tract number in column region" in warning for warning in found.warnings)


def test_sky_map_is_named_if_there_are_several(tmp_path: Path) -> None:
    """Two maps in one repository: one must be named, a wrong name is
    answered with the nearest, and images on the other map are not taken.
    """
    one = tangent_layout([tangent_tract(3)], name="one_map")
    repo = registered_repo(tmp_path / "repo", one, ["g"])
    two = {"name": "two_map", "hash": b"2" * 20, "tract_max": 9, "patch_nx_max": 2, "patch_ny_max": 1}
    with Butler.from_config(str(repo.root), writeable=True) as butler:
        butler.registry.insertDimensionData("skymap", two)
    with open_source(str(repo.root)) as butler:
        with pytest.raises(UserError, match=r"'skymap': .* 2 sky maps \(one_map, two_map\); name the one"):
            SourceImages(butler, request_for(repo))
        with pytest.raises(UserError, match=r"'skymap': .* no 'on_map' \(did you mean 'one_map'.*two_map\."):
            SourceImages(butler, request_for(repo, skymap="on_map"))
        with pytest.raises(
            UserError, match=r"'collections': no deep_coadd in any .* 'two_map' is in coadds\."
        ):
            SourceImages(butler, request_for(repo, skymap="two_map")).locator()
    ra, dec = inside(repo, 3, 1)
    found, _ = discover_here(tmp_path, repo, catalog_of(ra, dec), skymap="one_map")
    assert found.skymap == "one_map" and [each.patch for each in found.coverage] == [1]


def test_first_collection_wins(tangent: SkyRepository, tmp_path: Path) -> None:
    """The same image in two collections, as after a reprocessing."""
    root = tmp_path / "repo"
    repo = registered_repo(root, tangent.layout, ["g"])
    data_id = {"skymap": repo.skymap, "tract": 3, "patch": 0, "band": "g"}
    with Butler.from_config(str(root), writeable=True) as butler:
        butler.collections.register("newer")
        (newer,) = butler.registry.insertDatasets("deep_coadd", [data_id], run="newer")
    with open_source(str(repo.root)) as butler:
        for collections, wanted in (
            (["newer", "coadds"], newer.id),
            (["coadds", "newer"], repo.refs[3, 0, "g"].id),
        ):
            found = SourceImages(butler, request_for(repo, collections=collections)).datasets([3])
            assert found[3, 0]["g"].id == wanted
            assert found[3, 1]["g"].id == repo.refs[3, 1, "g"].id


def test_plan_of_what_was_found_is_json_that_reads_back(rings: SkyRepository, tmp_path: Path) -> None:
    """Counts by size and patch are those of the target files."""
    ra, dec = np.concatenate([inside(rings, 500_000, 27, 5), inside(rings, 500_001, 27, 3)], axis=1)
    found, answers = discover_here(
        tmp_path, rings, catalog_of(ra, dec, box=[8, 9, 8, 0, 8, 9, 9, 9]), size={"column": "box"}
    )
    assert found.refused == {"invalid_size": 1} and "box in row 3 is 0" in answers[3]["reason"]
    assert [(t.tract, t.patches, t.rows_by_size) for t in found.tracts] == [
        (500_000, 1, {8: 3, 9: 1}),
        (500_001, 1, {9: 3}),
    ]
    assert all(json.loads(tract.model_dump_json())["path"] == tract.path for tract in found.tracts)
