# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What one can ask for, asked for together.

Expected pixels are composed here of coadds as lsst.images reads them, with
positions from astropy.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import Counter
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.time import Time

from lsst.daf.butler import Butler, DatasetType
from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.estimate.forecast import estimate_request
from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL
from lsst.dax.bulkcutout.formats.cutout import Cutout
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.tests import SkyRepository, make_repo, tangent_layout, tangent_tract
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.top_up import top_up
from lsst.dax.bulkcutout.verify.product import verify_product
from lsst.images import cells as lic

BANDS = ("g", "r")
EAST, WEST = 6, 9
NO_IMAGES = (EAST, 8)
NO_R = (EAST, 5, "r")
HOLE = (EAST, 4, "g")
PERMUTED = ("CLIPPED", "NO_DATA", "SATURATED", "VIGNETTED", "INEXACT_PSF", "DETECTED")
ALL_PLANES = ["image", "variance", "mask", "psf", "noise", "mask_fraction"]
BINS = [16, 40, 130]
SCALE = 0.2


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> SkyRepository:
    """Nine patches of 60 x 70 px that overlap by 20 px, and two of another
    tract that reach over their edge.  Patch 8 has no images, 5 no r, 4 a
    hole; some have other mask bits or more noise.
    """
    shape: dict[str, Any] = {"inner": (40, 50), "border": (10, 10), "cell": (10, 10)}
    layout = tangent_layout(
        [
            tangent_tract(EAST, center=(211.3, -47.0), n_patches=(3, 3), rotation_deg=33.0, **shape),
            tangent_tract(
                WEST, center=(211.3 - 0.0137, -47.0), n_patches=(2, 1), origin=(-70, 4000), **shape
            ),
        ]
    )
    keys = [(tract, patch, band) for tract, patch in layout.images for band in BANDS]
    return make_repo(
        tmp_path_factory.mktemp("together") / "repo",
        layout=layout,
        bands=BANDS,
        pixels="coordinates",
        missing=[NO_R, *((*NO_IMAGES, band) for band in BANDS)],
        missing_cells={HOLE: [(0, 0), (2, 3)]},
        mask_planes={key: PERMUTED for key in keys if key[1] % 3 == 1},
        psf_shape=(5, 7),
        full=True,
        n_noise={key: 2 for key in keys if key[1] == 3},
    )


@functools.cache
def coadd(path: Path, background: str) -> lic.CellCoadd:
    read = lic.CellCoadd.read(str(path))
    if background != "stored":
        read.apply_background({"none": None}.get(background, background))
    return read


@functools.cache
def planes(path: Path, background: str) -> dict[str, np.ndarray]:
    """By name, a mask plane as bool."""
    read = coadd(path, background)
    found = {"image": read.image.array, "variance": read.variance.array}
    found |= {f"mask/{name}": read.mask.get(name) for name in read.mask.schema.names}
    found |= {f"noise/{n}": each.array for n, each in enumerate(read.noise_realizations)}
    return found | {f"mask_fraction/{name}": each.array for name, each in read.mask_fractions.items()}


def check_cutout(cutout: Cutout, repo: SkyRepository, background: str) -> bool:
    """Whether it was completed from a neighbour."""
    tract = repo.layout.tracts[cutout.tract]
    x, y = (float(value) for value in tract.sky_to_pixel(cutout.ra, cutout.dec))
    size = cutout.size
    x0, y0 = (math.ceil(round(value, 6) - size / 2) for value in (x, y))
    assert cutout.target_xy == pytest.approx((x - x0, y - y0), abs=1e-6)
    world = cutout.wcs.all_pix2world([[0, 0], [size - 1, 3]], 0)
    np.testing.assert_allclose(world, np.transpose(tract.pixel_to_sky([x0, x0 + size - 1], [y0, y0 + 3])))
    home = repo.home(cutout.ra, cutout.dec)
    outer = repo.layout.patch(cutout.tract, cutout.patch).outer
    assert outer.x0 - 0.5 <= x < outer.x1 - 0.5 and outer.y0 - 0.5 <= y < outer.y1 - 0.5
    if home is not None:
        assert cutout.fallback == ((cutout.tract, cutout.patch) != home[:2]) == (home[:2] == NO_IMAGES)
    any_stitched = False
    for band in cutout.bands:
        path = repo.paths.get((cutout.tract, cutout.patch, band))
        if path is None:
            assert cutout.status[band] == "no_dataset" and np.isnan(cutout.image(band)).all()
            assert cutout.n_patches(band) == 0 and np.isnan(cutout.psf(band)).all()
            assert cutout.background(band) == "" and cutout.unit(band) == ""
            continue
        sources = [cutout.patch, *(p for p in sorted(tract.patches) if p != cutout.patch)]
        expected: dict[str, np.ndarray] = {}
        owner = np.full((size, size), -1)
        rows, columns = np.mgrid[y0 : y0 + size, x0 : x0 + size]
        for patch in sources:
            source = repo.paths.get((cutout.tract, patch, band))
            if source is None:
                continue
            box = repo.layout.patch(cutout.tract, patch).outer
            mine = (rows >= box.y0) & (rows < box.y1) & (columns >= box.x0) & (columns < box.x1)
            mine &= owner < 0
            owner[mine] = patch
            for name, values in planes(source, background).items():
                empty = (
                    np.zeros((size, size), bool)
                    if name.startswith("mask/")
                    else np.full((size, size), np.nan, "f4")
                )
                expected.setdefault(name, empty)[mine] = values[rows[mine] - box.y0, columns[mine] - box.x0]
        expected.setdefault("mask/NO_DATA", np.zeros((size, size), bool))[owner < 0] = True
        np.testing.assert_array_equal(cutout.image(band), expected["image"])
        np.testing.assert_array_equal(cutout.variance(band), expected["variance"])
        for plane in cutout.mask_planes:
            wanted = expected.get(f"mask/{plane.name}", np.zeros((size, size), bool))
            np.testing.assert_array_equal(cutout.mask_plane(plane.name, band), wanted)
        assert {name[5:] for name in expected if name.startswith("mask/")} <= {
            p.name for p in cutout.mask_planes
        }
        nothing = np.full((size, size), np.nan)
        for n, noise in enumerate(cutout.noise(band)):
            np.testing.assert_array_equal(noise, expected.get(f"noise/{n}", nothing))
        for name in cutout.mask_fraction_names:
            np.testing.assert_array_equal(
                cutout.mask_fraction(band, name), expected.get(f"mask_fraction/{name}", nothing)
            )
        patches = set(np.unique(owner)) - {-1}
        assert cutout.n_patches(band) == len(patches)
        assert cutout.stitched(band) == (len(patches) > 1)
        any_stitched |= cutout.stitched(band)
        assert cutout.background(band) == {"stored": "object"}.get(background, background)
        assert cutout.unit(band) == "nJy"
        psf = coadd(path, "stored").psf
        cell = psf.grid.index_of(x=math.floor(x + 0.5), y=math.floor(y + 0.5))
        if cell in psf.bounds.missing:
            assert np.isnan(cutout.psf(band)).all() and np.isnan(cutout.psf(band, at="target")).all()
        else:
            np.testing.assert_allclose(cutout.psf(band), psf[cell].array, rtol=1e-6)
            assert cutout.psf(band, at="target").sum() == pytest.approx(psf[cell].array.sum(), rel=1e-5)
    return any_stitched


def pixels_of(arcsec: float) -> int:
    wanted = math.ceil(round(arcsec / SCALE, 6))
    return next(size for size in BINS if size >= wanted)


def check_product(request: Path, table: pa.Table, repo: SkyRepository, background: str) -> Counter[str]:
    """The product, the estimate of the same request, and what verify says."""
    out = request.parent / "out"
    estimate = estimate_request(request)
    seen: Counter[str] = Counter()
    with open_cutouts(out) as cutouts:
        for cutout in cutouts:
            row = cutout.row
            assert cutout.object_id == table["objectId"][row].as_py()
            assert cutout.size == pixels_of(table["side"][row].as_py())
            seen["rows"] += 1
            seen["stitched"] += (stitched := check_cutout(cutout, repo, background))
            seen["fallback"] += cutout.fallback
            seen["stitched fallback"] += stitched and cutout.fallback
    answers = pq.read_table(out / "status.parquet").to_pylist()
    counts = Counter(answer["status"] for answer in answers)
    assert estimate.targets == counts.pop("delivered") + counts.pop("no_data", 0)
    assert estimate.refused == counts
    assert estimate.stitched == seen["stitched"]
    assert estimate.fallback == seen["fallback"] == read_manifest(out).fallback
    report = verify_product(out, sample=1000)
    assert report.ok, str(report)
    return seen


def targets(repo: SkyRepository, n: int = 50) -> pa.Table:
    """All over both tracts, and a few pixels beyond; with edges of the patch
    that has no images.
    """
    rng = np.random.default_rng(4)
    ra, dec = [], []
    for tract in (EAST, WEST):
        box = repo.layout.tracts[tract].bbox
        x, y = rng.uniform(box.x0 - 9, box.x1 + 8, n // 2), rng.uniform(box.y0 - 9, box.y1 + 8, n // 2)
        for values, more in zip((ra, dec), repo.layout.tracts[tract].pixel_to_sky(x, y), strict=True):
            values += more.tolist()
    inner = repo.layout.patch(*NO_IMAGES).inner
    x, y = inner.x0 + np.array([2.5, 30.25, 8.0, 45.0]), inner.y0 + np.array([35.0, 4.25, 9.0, 39.0])
    for values, more in zip((ra, dec), repo.layout.tracts[EAST].pixel_to_sky(x, y), strict=True):
        values += more.tolist()
    n = len(ra)
    side = np.resize([2.31, 5.0, 8.0, 25.9], n)
    order = rng.permutation(n)
    return pa.table(
        {
            "objectId": pa.array(10**15 + 7 * order),
            "ra": np.array(ra)[order],
            "dec": np.array(dec)[order],
            "side": side[order],
        }
    )


def ask(directory: Path, repo: SkyRepository, catalog: Path, /, **fields: Any) -> Path:
    return write_request(
        directory,
        repo,
        catalog,
        **{
            "catalog": {"uri": str(catalog), "carry": ["side"]},
            "size": {"column": "side", "unit": "arcsec"},
            "size_bins": BINS,
            "planes": ALL_PLANES,
            "coverage_map": True,
            "status_votable": True,
            **fields,
        },
    )


def digests(out: Path) -> dict[str, str]:
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*.hdf5")
    }


def test_top_ups_of_many_kinds_give_what_one_run_gives(repo: SkyRepository, tmp_path: Path) -> None:
    """A quantum fails; then there are larger rows, which need neighbours that
    those before did not, and another fails; then the partition changes.
    """
    table = targets(repo)
    catalog = tmp_path / "catalog.parquet"
    pq.write_table(table.filter(pc.less(table["side"], 3.0)), catalog)
    request = ask(tmp_path, repo, catalog, background="none")
    campaign, status = run_here(request, fail=[(EAST, 4)])
    assert status == PARTIAL
    pq.write_table(table, catalog)
    assert top_up(campaign, request) == len(repo.layout.images) - 1
    assert run_here(request, fail=[(EAST, 7)])[1] == PARTIAL
    wanted = {"background": "none", "partition": {"by": "healpix", "order": 13}}
    ask(tmp_path, repo, catalog, **wanted)
    assert top_up(campaign, request) == 1
    assert run_here(request)[1] == COMPLETE
    seen = check_product(request, table, repo, "none")
    assert min(seen[kind] for kind in ("stitched", "fallback", "stitched fallback")) > 0
    assert run_here(ask(tmp_path / "at-once", repo, catalog, **wanted))[1] == COMPLETE
    assert digests(tmp_path / "out") == digests(tmp_path / "at-once" / "out")


def test_rows_by_identifier_by_patch_with_another_background(repo: SkyRepository, tmp_path: Path) -> None:
    """The objects of the release name their patch, for which no other one
    stands in.
    """
    table = targets(repo, 30)
    places = zip(table["ra"].to_pylist(), table["dec"].to_pylist(), strict=True)
    homes = [repo.home(*place) for place in places]
    known = [k for k, home in enumerate(homes) if home is not None]
    with Butler.from_config(str(repo.root), writeable=True, run=repo.run) as butler:
        dimensions = butler.dimensions.conform(["skymap", "tract"])
        butler.registry.registerDatasetType(DatasetType("object", dimensions, "ArrowAstropy"))
        for tract in repo.layout.tracts:
            mine = [k for k in known if homes[k][:1] == (tract,)]
            columns = {name: table[name].to_numpy()[mine] for name in ("objectId", "ra", "dec")}
            objects = Table({"objectId": columns["objectId"], "patch": [homes[k][1] for k in mine]})
            objects["coord_ra"], objects["coord_dec"] = columns["ra"] * u.deg, columns["dec"] * u.deg
            butler.put(objects, "object", skymap=repo.skymap, tract=tract)
    catalog = tmp_path / "catalog.parquet"
    pq.write_table(table.select(["objectId", "side"]), catalog)
    request = ask(tmp_path, repo, catalog, background="pretty", partition={"by": "patch"})
    assert run_here(request)[1] == COMPLETE
    seen = check_product(request, table, repo, "pretty")
    assert seen["stitched"] > 3 and not seen["fallback"]
    for answer, home in zip(
        pq.read_table(tmp_path / "out" / "status.parquet").to_pylist(), homes, strict=True
    ):
        expected = "no_dataset" if home is not None and home[:2] == NO_IMAGES else "delivered"
        assert answer["status"] == (expected if home is not None else "invalid_position")


def test_rows_that_have_moved_are_cut_where_they_are(repo: SkyRepository, tmp_path: Path) -> None:
    """From a VOTable with proper motions that lead to other patches, and with
    sizes in its own unit.
    """
    table = targets(repo, 30)
    now = SkyCoord(table["ra"].to_numpy(), table["dec"].to_numpy(), unit="deg")
    rng = np.random.default_rng(8)
    there = SkyCoord(
        now.ra,
        now.dec,
        distance=10 * u.pc,
        pm_ra_cosdec=rng.normal(0, 300, len(now)) * u.mas / u.yr,
        pm_dec=rng.normal(0, 300, len(now)) * u.mas / u.yr,
        obstime=Time(2025.0, format="jyear"),
    )
    then = there.apply_space_motion(new_obstime=Time(2000.0, format="jyear"))
    columns = {"objectId": table["objectId"].to_numpy(), "ra": then.ra, "dec": then.dec}
    columns |= {"pmra": then.pm_ra_cosdec, "pmdec": then.pm_dec}
    catalog = tmp_path / "catalog.vot"
    Table({**columns, "side": table["side"].to_numpy() * u.arcsec}).write(catalog, format="votable")
    request = ask(
        tmp_path,
        repo,
        catalog,
        catalog={"uri": str(catalog), "epoch": 2000.0, "carry": "all"},
        image_epoch=2025.0,
        size={"column": "side"},
        partition={"by": "healpix", "order": 11},
    )
    assert run_here(request)[1] == COMPLETE
    seen = check_product(request, table, repo, "stored")
    assert seen["stitched"] > 3 and seen["fallback"] > 1
    with open_cutouts(tmp_path / "out") as cutouts:
        rows = np.array([cutout.row for cutout in cutouts])
        found = SkyCoord([c.ra for c in cutouts], [c.dec for c in cutouts], unit="deg")
    # A hundredth of a pixel, on ways of 7 arcsec.
    assert found.separation(now[rows]).arcsec.max() < 2e-3
    assert then[rows].separation(now[rows]).arcsec.max() > 5
