# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""afw Exposures, of a repository that has them as ExposureF, from the request
to a product that its inputs confirm.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import astropy.io.fits
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lsst.dax.bulkcutout import open_cutouts
from lsst.dax.bulkcutout.finish import COMPLETE
from lsst.dax.bulkcutout.tests import SkyRepository, tangent_layout, tangent_tract
from lsst.dax.bulkcutout.tests.afw_files import DP1_BITS, HSC_BITS, AfwFile
from lsst.dax.bulkcutout.tests.afw_repositories import make_afw_repo
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.tests.old_cell_coadds import OldCellCoadd
from lsst.dax.bulkcutout.tests.repository_writer import RepositoryWriter
from lsst.dax.bulkcutout.verify.product import verify_product

SIZE = 15
BANDS = ("g", "r")
PERMUTED = {name: len(DP1_BITS) - 1 - bit for name, bit in DP1_BITS.items()}


def catalog_of(repo: SkyRepository, path: Path, n: int = 12) -> Path:
    """Some targets in each patch, over its edges too."""
    rng = np.random.default_rng(5)
    ra, dec = [], []
    for tract in repo.layout.tracts.values():
        for patch in tract.patches.values():
            x = rng.uniform(patch.outer.x0 - 3, patch.outer.x1 + 3, n)
            y = rng.uniform(patch.outer.y0 - 3, patch.outer.y1 + 3, n)
            sky = tract.pixel_to_sky(x, y)
            ra += sky[0].tolist()
            dec += sky[1].tolist()
    pq.write_table(pa.table({"id": np.arange(len(ra)), "ra": ra, "dec": dec}), path)
    return path


def run(tmp_path: Path, **options: Any) -> tuple[SkyRepository, dict[Any, AfwFile], Path]:
    """Make a repository of two patches, and cut in it."""
    layout = tangent_layout([tangent_tract(8, center=(150.1, 2.2), n_patches=(2, 1), origin=(-70, 4000))])
    repo, files = make_afw_repo(tmp_path / "repo", layout, bands=BANDS, **options)
    catalog = catalog_of(repo, tmp_path / "catalog.parquet")
    request = write_request(tmp_path / "run", repo, catalog, size=SIZE)
    _, status = run_here(request)
    assert status == COMPLETE
    report = verify_product(tmp_path / "run" / "out")
    assert not report.problems, str(report)
    return repo, files, tmp_path / "run" / "out"


def test_permuted_mask_bits_in_one_product_come_out_by_name(tmp_path: Path) -> None:
    """Patches and bands number their planes differently, one has others."""
    bits = {(8, 0, "g"): DP1_BITS, (8, 0, "r"): PERMUTED, (8, 1, "g"): HSC_BITS, (8, 1, "r"): PERMUTED}
    repo, _, out = run(tmp_path, bits=bits)
    assert len({tuple(sorted(table.items())) for table in bits.values()}) == 3
    compared = dict.fromkeys(repo.paths, 0)
    (path,) = out.glob("size=*/*.hdf5")
    with open_cutouts(out) as cutouts, h5py.File(path) as file:
        for row, cutout in enumerate(cutouts):
            patch = int(file["catalog/patch"][row])
            for number, band in enumerate(BANDS):
                if file["images/stitched"][row, number]:
                    continue
                with astropy.io.fits.open(repo.paths[8, patch, band]) as hdus:
                    header, pixels = hdus["MASK"].header, hdus["MASK"].data
                    image = hdus["IMAGE"].data
                first_x, first_y = (
                    round(float(file[f"catalog/{c}"][row] - file[f"catalog/{c}_cutout"][row]) + header[ltv])
                    for c, ltv in (("x", "LTV1"), ("y", "LTV2"))
                )
                if first_x < 0 or first_y < 0:
                    continue
                there = np.s_[first_y : first_y + SIZE, first_x : first_x + SIZE]
                if image[there].shape != (SIZE, SIZE):
                    continue
                np.testing.assert_array_equal(cutout.image(band), image[there])
                for name in bits[8, patch, band]:
                    expected = (pixels[there] >> header[f"MP_{name}"]) & 1 != 0
                    np.testing.assert_array_equal(cutout.mask_plane(name, band), expected, err_msg=name)
                for name in set(HSC_BITS) - set(bits[8, patch, band]):
                    assert not cutout.mask_plane(name, band).any()
                compared[8, patch, band] += 1
    assert min(compared.values()) > 2


def test_counts_without_a_zero_point_are_kept_and_named(tmp_path: Path) -> None:
    """In one band; the other has one. Neither has a PSF that can be read."""

    def make(key: Any, file: AfwFile) -> AfwFile:
        return dataclasses.replace(file, image_unit="adu")

    def write(key: Any) -> dict[str, Any]:
        primary = {"FLUXMAG0": 63095734448.0194} if key[2] == "g" else {}
        return {"names": "EXTTYPE", "codec": "GZIP_2", "primary": {**primary, "AR_HDU": 5, "PSF_ID": 3}}

    _, _, out = run(tmp_path, make=make, write=write)
    (path,) = out.glob("size=*/*.hdf5")
    with h5py.File(path) as file:
        assert set(map(tuple, file["provenance/unit"][()].astype(str))) == {("nJy", "adu")}
        assert file["meta/flux_unit"][()].decode() == "adu,nJy"
        assert file["images/flux"].attrs["unit"] == "see provenance/unit"
        assert {note.decode() for note in file["provenance/psf_note"][()].ravel()} == {
            "the file's archive, which held the PSF, was cut off"
        }
        assert "images/psf" not in file
    with open_cutouts(out) as cutouts:
        assert {tuple(cutout.unit(band) for band in BANDS) for cutout in cutouts} == {("nJy", "adu")}
    card = (out / "README.md").read_text()
    assert "Units of the images: `adu`, `nJy`." in card
    assert "PSF: absent, because the file's archive, which held the PSF, was cut off (bands g, r)." in card


def test_images_alone_are_cut(tmp_path: Path) -> None:
    """Without mask and variance; a hole in the image is NO_DATA."""
    _, _, out = run(tmp_path, write=lambda _: {"order": ("IMAGE",)})
    holes = 0
    with open_cutouts(out) as cutouts:
        for cutout in cutouts:
            for band in BANDS:
                none = np.isnan(cutout.image(band))
                holes += int(none.sum())
                np.testing.assert_array_equal(cutout.mask_plane("NO_DATA", band), none)
                assert np.isnan(cutout.variance(band)).all()
    assert holes


def test_psf_that_varies_from_pixel_to_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each target has the kernel of its own pixel, also where memory is for
    few kernels at a time.
    """
    y, x = np.mgrid[-8:9, -8:9]
    core = np.exp(-(x**2 + y**2) / 8.0)
    masks = np.stack([core, 0.3 * x * core, 0.2 * y * core]).astype("f4")
    # Only the tables of the model: afw's index of them, and two of one row.
    one = {"ndim": 2, "ngroup": 1, "ncoeff": 3}
    one |= {"_size_size": 3, "_comp_size": masks.size, "_context_size": 2}
    first = [astropy.io.fits.Column(name, "J", array=[value]) for name, value in one.items()] + [
        astropy.io.fits.Column("_pixstep", "E", array=[1.0])
    ]
    second = [
        astropy.io.fits.Column(name, form, array=[value])
        for name, form, value in (
            ("degree", "J", 1),
            ("_size", "3J", [17, 17, 3]),
            ("_comp", f"{masks.size}E", masks.ravel()),
            ("_context_first", "2D", [0.0, 4000.0]),
            ("_context_second", "2D", [200.0, 150.0]),
        )
    ]

    def write(_: Any) -> dict[str, Any]:
        names = ["id", "cat.archive", "cat.persistable", "row0", "nrows", "name"]
        rows = [(7, 1, 0, 0, 1, "PsfexPsf"), (7, 2, 1, 0, 1, "PsfexPsf")]
        index = np.rec.fromrecords(rows, names=names, formats=["i4"] * 5 + ["S64"])
        tables = [astropy.io.fits.BinTableHDU(index)]
        tables += [astropy.io.fits.BinTableHDU.from_columns(columns) for columns in (first, second)]
        for number, table in enumerate(tables):
            table.header["EXTTYPE"] = "ARCHIVE_DATA" if number else "ARCHIVE_INDEX"
            table.header["AR_CATN"] = number
        return {"primary": {"PSF_ID": 7}, "tables": tables}

    # Five kernels at a time.
    monkeypatch.setattr("lsst.dax.bulkcutout.extract.patch_cut.BLOCK_BYTES", 5 * 17 * 17 * 4)
    _, _, out = run(tmp_path, write=write)
    (path,) = out.glob("size=*/*.hdf5")
    with h5py.File(path) as file:
        assert (file["images/n_cells"][()] == 1).all() and "PSF: absent" not in (
            out / "README.md"
        ).read_text()
        valid = file["images/psf_valid"][:, 1]
        assert valid.sum() > 10
        for row in np.flatnonzero(valid).tolist():
            column, line = (np.floor(file[f"catalog/{name}"][row] + 0.5) for name in ("x", "y"))
            expected = np.tensordot([1.0, column / 200.0, (line - 4000.0) / 150.0], masks, axes=1)
            kernel = file["images/psf"][row, 1]
            np.testing.assert_allclose(kernel, expected / expected.sum(), rtol=0, atol=1e-6)


def test_older_cell_coadds_go_all_the_way(tmp_path: Path) -> None:
    """With a storage class whose Python type is not here."""
    layout = tangent_layout([tangent_tract(8, center=(150.1, 2.2), n_patches=(2, 1), origin=(-70, 4000))])
    keys = [(tract, patch, band) for tract, patch in layout.images for band in BANDS]
    root = tmp_path / "repo"
    where = layout.tracts[8]
    wcs: dict[str, Any] = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "RADESYS": "ICRS"}
    for i in (1, 2):
        wcs |= {f"CRVAL{i}": where.crval[i - 1], f"CRPIX{i}": where.crpix[i - 1] + 1.0}
        wcs |= {f"CD{i}_{j}": where.cd[i - 1][j - 1] for j in (1, 2)}
    files, coadds = {}, {}
    with RepositoryWriter(root, layout, BANDS, keys, storage_class="MultipleCellCoadd") as target:
        for number, key in enumerate(keys):
            box = layout.patch(*key[:2]).outer
            cell = tuple((side - 10) // 5 for side in box.shape)
            coadds[key] = OldCellCoadd.coded(
                origin=(box.y0 + 5, box.x0 + 5), cell=(cell[0], cell[1]), n_cells=(5, 5), code=number + 1
            )
            files[key] = coadds[key].write(root / "{}_{}_{}.fits".format(*key), wcs, FILTER=key[2])
        paths = target.ingest(files, formatter="lsst.images.formatters.GenericFormatter")
    missing = {key: frozenset(coadds[key].missing) for key in keys}
    repo = SkyRepository(root, "coadds", target.run, "deep_coadd", layout, BANDS, paths, target.refs, missing)
    catalog = catalog_of(repo, tmp_path / "catalog.parquet", n=20)
    _, status = run_here(write_request(tmp_path / "run", repo, catalog, size=SIZE))
    assert status == COMPLETE
    report = verify_product(tmp_path / "run" / "out")
    assert not report.problems, str(report)
    (product,) = (tmp_path / "run" / "out").glob("size=*/*.hdf5")
    with h5py.File(product) as file:
        for row, (iy, ix) in enumerate(file["images/psf_cell"][:, 0].tolist()):
            kernel = file["images/psf"][row, 0]
            patch = int(file["catalog/patch"][row])
            if iy < 0:
                assert np.isnan(kernel).all()
            else:
                np.testing.assert_array_equal(kernel, coadds[8, patch, "g"].psf[iy, ix].astype("f4"))


@pytest.mark.parametrize("damage", ["truncated", "tile"])
def test_bad_file_does_not_end_the_others(tmp_path: Path, damage: str) -> None:
    layout = tangent_layout([tangent_tract(8, center=(150.1, 2.2), n_patches=(2, 1), origin=(-70, 4000))])
    repo, _ = make_afw_repo(
        tmp_path / "repo", layout, bands=BANDS, write=lambda _: {"codec": "GZIP_2", "tile": (20, 30)}
    )
    path = repo.paths[8, 1, "r"]
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    else:
        with astropy.io.fits.open(path, disable_image_compression=True) as hdus:
            start = hdus["IMAGE"].fileinfo()["datLoc"]
            header = hdus["IMAGE"].header
        place, half = start + header["NAXIS1"] * header["NAXIS2"], header["PCOUNT"] // 2
        content[place : place + half] = bytes(half)
    path.write_bytes(content)
    catalog = catalog_of(repo, tmp_path / "catalog.parquet")
    _, status = run_here(write_request(tmp_path / "run", repo, catalog, size=SIZE))
    assert status == COMPLETE
    (product,) = (tmp_path / "run" / "out").glob("size=*/*.hdf5")
    with h5py.File(product) as file:
        lost = file["images/band_status"][()] == 3
        of_patch = file["catalog/patch"][()] == 1
        assert lost[of_patch, 1].any() and not lost[~of_patch].any() and not lost[:, 0].any()
        assert lost[of_patch, 1].all() == (damage == "truncated")
