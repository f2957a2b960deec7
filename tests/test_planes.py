# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Noise, mask fractions and backgrounds, from the images to the product.

What is expected comes from lsst.images.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_sky import tiny_positions

from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.extract.background_swap import BackgroundSwap
from lsst.dax.bulkcutout.extract.cut import cut
from lsst.dax.bulkcutout.finish import finish
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.quantum_graph_builder import build_graph
from lsst.dax.bulkcutout.readers import open_image
from lsst.dax.bulkcutout.tests import SkyRepository, make_repo, tangent_layout, tangent_tract
from lsst.dax.bulkcutout.tests.campaigns import prepare_here, run_here, write_request
from lsst.dax.bulkcutout.tests.products import seal
from lsst.dax.bulkcutout.top_up import top_up
from lsst.dax.bulkcutout.verify.product import verify_product
from lsst.images import cells as lic

TRACT, BANDS, SIZE = 3, ("g", "r"), 19
NO_MODELS = (TRACT, 2, "g")
NO_IMAGE = (TRACT, 2, "r")
N_NOISE = {(TRACT, 0, "g"): 1, (TRACT, 0, "r"): 0, (TRACT, 1, "g"): 3, (TRACT, 1, "r"): 2}
ALL_PLANES = ["image", "variance", "mask", "psf", "noise", "mask_fraction"]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> SkyRepository:
    """Three patches of 100 x 125 px in a row."""
    tract = tangent_tract(
        TRACT, center=(150.0, 2.2), n_patches=(1, 3), inner=(50, 75), border=(25, 25), cell=(25, 25)
    )
    return make_repo(
        tmp_path_factory.mktemp("planes") / "repo",
        layout=tangent_layout([tract]),
        bands=BANDS,
        missing=[NO_IMAGE],
        missing_cells={(TRACT, 1, "r"): [(1, 2)]},
        psf_shape=(5, 7),
        full=True,
        n_noise=N_NOISE,
        no_backgrounds=[NO_MODELS],
    )


@pytest.fixture(scope="module")
def catalog(repo: SkyRepository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight targets in each patch."""
    ra, dec = np.concatenate([tiny_positions(repo, patch, 8) for patch in range(3)], axis=1)
    path = tmp_path_factory.mktemp("catalog") / "catalog.parquet"
    pq.write_table(pa.table({"id": np.arange(len(ra)), "ra": ra, "dec": dec}), path)
    return path


@functools.cache
def oracle(path: Path, background: str) -> lic.CellCoadd:
    coadd = lic.CellCoadd.read(str(path))
    if background != "stored":
        coadd.apply_background({"none": None}.get(background, background))
    return coadd


def ask(directory: Path, repo: SkyRepository, catalog: Path, **fields: Any) -> Path:
    return write_request(directory, repo, catalog, **{"size": SIZE, **fields})


def padded(array: np.ndarray, bbox: Any, first_y: int, first_x: int, size: int = SIZE) -> np.ndarray:
    """A box out of an array of a coadd; NaN outside."""
    margin = size + 300
    wide = np.pad(array.astype("f4"), margin, constant_values=np.nan)
    y, x = first_y - bbox.y.start + margin, first_x - bbox.x.start + margin
    return wide[y : y + size, x : x + size]


def delivered(out: Path, repo: SkyRepository) -> Iterator[tuple[Any, str, Path, int, int]]:
    """Cutouts, bands that are there, image files, first pixels (y, x)."""
    with open_cutouts(out) as cutouts:
        for cutout in cutouts:
            x, y = repo.wcs[TRACT].all_world2pix(cutout.ra, cutout.dec, 0)
            first_y, first_x = (
                round(float(v) - d) for v, d in zip((y, x), cutout.target_xy[::-1], strict=True)
            )
            for band in BANDS:
                if cutout.status[band] == "ok":
                    yield cutout, band, repo.paths[TRACT, cutout.patch, band], first_y, first_x


def test_all_planes_are_those_of_the_images(repo: SkyRepository, catalog: Path, tmp_path: Path) -> None:
    campaign, status = run_here(ask(tmp_path, repo, catalog, planes=ALL_PLANES))
    assert status == 0
    compared: set[tuple[int, str]] = set()
    for cutout, band, path, y, x in delivered(tmp_path / "out", repo):
        coadd = oracle(path, "stored")
        compared.add((cutout.patch, band))
        assert cutout.mask_fraction_names == ("clipped", "rejected")
        noise, fractions = cutout.noise(band), cutout.mask_fraction(band)
        assert noise.shape == (3, SIZE, SIZE) and fractions.shape == (2, SIZE, SIZE)
        assert noise.dtype == fractions.dtype == np.float32
        for number, plane in enumerate(noise):
            if number < len(coadd.noise_realizations):
                expected = padded(coadd.noise_realizations[number].array, coadd.bbox, y, x)
                assert np.isfinite(expected).any()
                np.testing.assert_array_equal(plane, expected)
            else:
                assert np.isnan(plane).all()
        for name, plane in zip(cutout.mask_fraction_names, fractions, strict=True):
            np.testing.assert_array_equal(plane, cutout.mask_fraction(band, name.upper()))
            if name in coadd.mask_fractions:
                expected = padded(coadd.mask_fractions[name].array, coadd.bbox, y, x)
                np.testing.assert_array_equal(plane, expected)
            else:
                assert np.isnan(plane).all()
    report = verify_product(tmp_path / "out")
    assert report.ok, str(report)
    assert compared == {(0, "g"), (0, "r"), (1, "g"), (1, "r"), (2, "g")}
    (warning,) = read_manifest(tmp_path / "out").execution["warnings"][-1:]
    assert "'mask_fraction'" in warning and "in r have none" in warning
    card = (tmp_path / "out" / "README.md").read_text()
    said = "holds 3 noise realizations: pictures of noise alone, in the image's unit."
    assert f"{said} Some or all images in r" in card
    for path in (tmp_path / "out").glob("size=*/*.hdf5"):
        with h5py.File(path) as file:
            there = file["provenance/extra_planes"].asstr()[()].tolist()
        fractions = "mask_fraction/rejected"
        assert there[0] == [f"noise/0,{fractions}", ""]
        assert there[1][1] == f"noise/0,noise/1,{fractions},mask_fraction/clipped" and there[2][1] == ""
    with open_cutouts(tmp_path / "out") as cutouts:
        with pytest.raises(UserError, match=r"mask fraction 'rejectd' \(did you mean 'rejected'\?\)"):
            cutouts[0].mask_fraction("g", "rejectd")


@pytest.mark.parametrize("background", ["none", "pretty", "OBJECT"])
def test_background_is_that_of_apply_background(
    repo: SkyRepository, catalog: Path, tmp_path: Path, background: str
) -> None:
    """The third patch has no models: its rows say so, others are delivered."""
    request = ask(tmp_path, repo, catalog, background=background)
    assert run_here(request)[1] == 0
    state, differ = background.lower(), 0
    compared: set[tuple[int, str]] = set()
    for cutout, band, path, y, x in delivered(tmp_path / "out", repo):
        compared.add((cutout.patch, band))
        assert cutout.background(band) == state
        coadd = oracle(path, state)
        expected = padded(coadd.image.array, coadd.bbox, y, x)
        np.testing.assert_array_equal(cutout.image(band), expected)
        stored = oracle(path, "stored")
        change = padded(stored.image.array, stored.bbox, y, x) - expected
        differ += int((np.abs(change) > 0).sum())
        # Where the data are does not depend on the background.
        valid = np.isfinite(expected) & ~cutout.mask_plane("NO_DATA", band)
        assert cutout.valid_fraction(band) == pytest.approx(valid.mean())
    report = verify_product(tmp_path / "out")
    assert report.ok, str(report)
    assert compared == {(0, "g"), (0, "r"), (1, "g"), (1, "r")}
    assert (differ == 0) == (background == "OBJECT")
    status = pq.read_table(tmp_path / "out" / "status.parquet").to_pylist()
    assert [row["status"] for row in status] == ["delivered"] * 16 + ["read_failed"] * 8
    assert "Band g: Request field 'background'" in status[-1]["reason"]
    assert "no background models" in status[-1]["reason"]
    for path in (tmp_path / "out").glob("size=*/*.hdf5"):
        with h5py.File(path) as file:
            assert file["provenance/background"].asstr()[()].tolist() == [[state, state]] * 2
            assert file["meta/background"].asstr()[()] == state
            assert file["meta/background_requested"].asstr()[()] == background.replace("None", "none")


def test_verify_finds_a_wrong_background(repo: SkyRepository, catalog: Path, tmp_path: Path) -> None:
    """Also one that is off by the last digits of the models alone."""
    part = tmp_path / "part.parquet"
    pq.write_table(pq.read_table(catalog).slice(0, 16), part)
    assert run_here(ask(tmp_path, repo, part, background="pretty"))[1] == 0
    out = tmp_path / "out"
    manifest = read_manifest(out)
    seal(out, manifest.model_copy(update={"request": {**manifest.request, "background": "none"}}))
    datasets = {problem.dataset.partition(" ")[0] for problem in verify_product(out).problems}
    assert datasets == {"images/flux", "provenance/background"}
    seal(out, manifest)
    (path,) = out.glob("size=*/*.hdf5")
    with h5py.File(path, "r+") as file:
        file["images/flux"][3, 1] *= np.float32(1 + 3e-6)
    seal(out, manifest)
    (problem,) = verify_product(out).problems
    assert problem.dataset == "images/flux in r"


def test_stored_background_is_stated_and_nothing_is_changed(
    repo: SkyRepository, catalog: Path, tmp_path: Path
) -> None:
    """Also where there are no models."""
    assert run_here(ask(tmp_path, repo, catalog))[1] == 0
    n = 0
    for cutout, band, path, y, x in delivered(tmp_path / "out", repo):
        coadd = oracle(path, "stored")
        assert cutout.background(band) == ("object" if cutout.patch < 2 else "")
        np.testing.assert_array_equal(cutout.image(band), padded(coadd.image.array, coadd.bbox, y, x))
        n += 1
    assert n == 8 * 5
    (path,) = (tmp_path / "out").glob("size=*/*.hdf5")
    with h5py.File(path) as file:
        states = file["provenance/background"].asstr()[()].tolist()
    assert states == [["object", "object"], ["object", "object"], ["", ""]]


def test_stitched_cutouts_have_each_patch_s_own_background_and_noise(
    repo: SkyRepository, catalog: Path, tmp_path: Path
) -> None:
    """Those that need the image without models are lost in that band."""
    size = 110
    fields = {"size": size, "background": "pretty", "planes": ["image", "noise"]}
    assert run_here(ask(tmp_path, repo, catalog, **fields))[1] == 0
    stitched, lost = 0, 0
    with open_cutouts(tmp_path / "out") as cutouts:
        for cutout in cutouts:
            x, y = repo.wcs[TRACT].all_world2pix(cutout.ra, cutout.dec, 0)
            first = [round(float(v) - d) for v, d in zip((y, x), cutout.target_xy[::-1], strict=True)]
            for band in BANDS:
                patches = sorted(range(3), key=lambda patch: (patch != cutout.patch, patch))
                coadds = [
                    (patch, oracle(repo.paths[TRACT, patch, band], "pretty" if patch < 2 else "stored"))
                    for patch in patches
                    if (TRACT, patch, band) in repo.paths
                ]
                image = np.full((size, size), np.nan, dtype="f4")
                noise = np.full((3, size, size), np.nan, dtype="f4")
                free = np.ones((size, size), dtype=bool)
                used = []
                for patch, coadd in coadds:
                    has = np.isfinite(padded(np.zeros(coadd.bbox.shape), coadd.bbox, *first, size))
                    if (mine := has & free).any():
                        used.append(patch)
                    image[mine] = padded(coadd.image.array, coadd.bbox, *first, size)[mine]
                    for number, plane in enumerate(coadd.noise_realizations):
                        noise[number][mine] = padded(plane.array, coadd.bbox, *first, size)[mine]
                    free &= ~has
                if band == "g" and 2 in used:
                    assert cutout.status[band] == "read_failed" and np.isnan(cutout.image(band)).all()
                    assert np.isnan(cutout.noise(band)).all()
                    lost += 1
                    continue
                np.testing.assert_array_equal(cutout.image(band), image)
                np.testing.assert_array_equal(cutout.noise(band), noise)
                stitched += len(used) > 1
    assert stitched >= 8 and lost >= 2
    report = verify_product(tmp_path / "out")
    assert report.ok, str(report)


@given(data=st.data())
def test_any_boxes_have_the_background_that_is_asked_for(repo: SkyRepository, data: st.DataObject) -> None:
    path = repo.paths[TRACT, 1, "r"]
    background = data.draw(st.sampled_from(["stored", "none", "pretty", "object"]))
    coadd = oracle(path, background)
    box, size = coadd.bbox, data.draw(st.integers(1, 140))
    places = st.tuples(
        st.integers(box.y.start - size - 2, box.y.stop + 2),
        st.integers(box.x.start - size - 2, box.x.stop + 2),
    )
    first = np.array(data.draw(st.lists(places, min_size=1, max_size=5)))
    with open_image(str(path)) as image:
        swap = BackgroundSwap(image, background)
        assert swap.subtracted == {"stored": "object"}.get(background, background)
        for block in cut(
            image,
            first_y=first[:, 0],
            first_x=first[:, 1],
            size=size,
            fill={"image": np.float32(np.nan)},
            memory_bytes=10**6,
            block_bytes=4 * size * size * 2,
        ):
            pixels = block.pixels["image"]
            swap.apply(pixels, first[block.index, 0], first[block.index, 1])
            for number, found in zip(block.index, pixels, strict=True):
                np.testing.assert_array_equal(found, padded(coadd.image.array, box, *first[number], size))


def refusal(request: Path) -> str:
    campaign = prepare_here(request)
    with pytest.raises(UserError) as caught:
        build_graph(campaign, request.parent / "graph.qg", output_run="u/test/refused", request_file=request)
    assert not campaign.plan.exists()
    return str(caught.value)


def test_background_that_the_images_lack_is_refused_before_anything_is_cut(
    repo: SkyRepository, catalog: Path, tmp_path: Path
) -> None:
    said = refusal(ask(tmp_path, repo, catalog, background="prety"))
    assert "Band g" in said and "'background'" in said
    assert "no background model 'prety' (did you mean 'pretty'?); it has pretty, object" in said


@pytest.mark.parametrize("background", ["none", "object"])
def test_images_without_models_are_refused(
    repo: SkyRepository, catalog: Path, tmp_path: Path, background: str
) -> None:
    part = tmp_path / "part.parquet"
    pq.write_table(pq.read_table(catalog).slice(16), part)
    said = refusal(ask(tmp_path, repo, part, background=background))
    assert f"{background!r} is asked for, but the image has no background models; 'stored' gives" in said


def test_planes_that_no_image_has_are_left_out_with_a_warning(
    repo: SkyRepository, catalog: Path, tmp_path: Path
) -> None:
    part = tmp_path / "part.parquet"
    pq.write_table(pq.read_table(catalog).slice(0, 8), part)
    request = ask(tmp_path, repo, part, bands=["r"], planes=["image", "noise"])
    assert run_here(request)[1] == 0
    warning = "Plane 'noise' is asked for, but the images have none"
    assert warning in " ".join(read_manifest(tmp_path / "out").execution["warnings"])
    with open_cutouts(tmp_path / "out") as cutouts:
        assert np.isfinite(cutouts[0].image("r")).any()
        assert "`noise` was asked for, but none" in (tmp_path / "out" / "README.md").read_text()
        with pytest.raises(UserError, match="no noise: .* or its images have none"):
            cutouts[0].noise("r")


def test_damage_in_the_noise_costs_the_rows_on_that_tile_alone(
    repo: SkyRepository, catalog: Path, tmp_path: Path
) -> None:
    copy = dataclasses.replace(repo, root=Path(shutil.copytree(repo.root, tmp_path / "repo")))
    key = (TRACT, 1, "g")
    path = copy.root / repo.paths[key].relative_to(repo.root)
    with open_image(str(path)) as image:
        table = image._plane("noise/1")[0]._codec._table
        start = table._heap_address + int(table.rows["COMPRESSED_DATA"][7][1])
        tile = image.tile_box(*divmod(7, image.n_tiles[1]))
    content = bytearray(path.read_bytes())
    content[start : start + 30] = b"\xff" * 30
    path.write_bytes(content)
    lost = {}
    for planes in (["image", "noise"], ["image"]):
        request = ask(tmp_path / planes[-1], copy, catalog, planes=planes)
        assert run_here(request)[1] == 0
        lost[planes[-1]] = set()
        with open_cutouts(request.parent / "out") as cutouts:
            for cutout in cutouts:
                x, y = repo.wcs[TRACT].all_world2pix(cutout.ra, cutout.dec, 0)
                first = [round(float(v) - d) for v, d in zip((y, x), cutout.target_xy[::-1], strict=True)]
                box = Box(y0=first[0], y1=first[0] + SIZE, x0=first[1], x1=first[1] + SIZE)
                touches = cutout.patch == 1 and box.intersection(tile) is not None
                if touches:
                    lost[planes[-1]].add(cutout.row)
                failed = touches and planes[-1] == "noise"
                assert (cutout.status["g"] == "read_failed") == failed
                assert np.isnan(cutout.image("g")).all() == failed
    assert lost["noise"] and lost["noise"] == lost["image"]


def test_another_background_is_cut_anew(repo: SkyRepository, catalog: Path, tmp_path: Path) -> None:
    campaign, _ = run_here(ask(tmp_path, repo, catalog))
    assert isinstance(campaign, Campaign)
    assert top_up(campaign, ask(tmp_path, repo, catalog)) == 0
    assert top_up(campaign, ask(tmp_path, repo, catalog, background="pretty")) == 3


def test_fewer_planes_need_no_cutting_and_give_what_one_run_gives(
    repo: SkyRepository, catalog: Path, tmp_path: Path
) -> None:
    """Nor does the provenance tell of planes that are not delivered."""
    campaign, _ = run_here(ask(tmp_path / "more", repo, catalog, planes=ALL_PLANES))
    assert top_up(campaign, ask(tmp_path / "more", repo, catalog, planes=["image", "noise"])) == 0
    assert finish(campaign) == 0
    assert run_here(ask(tmp_path / "less", repo, catalog, planes=["image", "noise"]))[1] == 0
    paths = [sorted((tmp_path / which / "out").rglob("*.hdf5")) for which in ("more", "less")]
    assert paths[0]
    for more, less in zip(*paths, strict=True):
        with h5py.File(more) as file:
            told = set(",".join(file["provenance/extra_planes"].asstr()[...].ravel()).split(","))
        assert told - {""} == {"noise/0", "noise/1", "noise/2"}
        assert more.read_bytes() == less.read_bytes()
