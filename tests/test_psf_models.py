# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""PSF models that are tables, against profiles that are known everywhere."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import astropy.io.fits
import numpy as np
import pytest

from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.errors import CorruptInputError, UserError
from lsst.dax.bulkcutout.readers import Companions, open_image
from lsst.dax.bulkcutout.readers.psf_file import read_psf_file
from lsst.dax.bulkcutout.readers.psf_models import PsfexPsf
from lsst.dax.bulkcutout.tests.afw_files import AfwFile

SHAPE = (40, 60)
X0, Y0 = 1300, -77
BOX = Box(y0=Y0, y1=Y0 + SHAPE[0], x0=X0, x1=X0 + SHAPE[1])
ZERO, SCALE = (31.0, 18.0), (30.0, 20.0)


def components(y: Any, x: Any) -> list[np.ndarray]:
    """Smooth functions of the place in the kernel, image pixels: one for
    each of 1, u, u^2, v, u v, v^2.
    """
    core = np.exp(-0.5 * ((x / 1.9) ** 2 + (y / 1.6) ** 2 + 0.2 * x * y))
    wide = np.exp(-0.5 * (x**2 + y**2) / 2.6**2)
    return [core, 0.2 * x * core, 0.1 * wide, -0.15 * y * core, 0.05 * x * wide, 0.08 * wide * y]


def masks_of(step: float, shape: tuple[int, int]) -> np.ndarray:
    """Sample them as PSFEx does."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.stack(components((y - shape[0] // 2) * step, (x - shape[1] // 2) * step))


def expected(shape: tuple[int, int], u: float, v: float) -> np.ndarray:
    """Evaluate the profile at the image's pixels."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    terms = [1.0, u, u * u, v, u * v, v * v]
    each = components(y - shape[0] // 2, x - shape[1] // 2)
    kernel = np.tensordot(terms, each, axes=1)
    return np.asarray(kernel / kernel.sum())


def write_psf(path: Path, step: float, shape: tuple[int, int], **cards: Any) -> Path:
    """Write a file as PSFEx does."""
    masks = masks_of(step, shape).astype(">f4")
    column = astropy.io.fits.Column(
        "PSF_MASK", f"{masks.size}E", dim=str(masks.shape[::-1]), array=masks[np.newaxis]
    )
    table = astropy.io.fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    said: dict[str, Any] = {"POLNAXIS": 2, "POLNGRP": 1, "POLDEG1": 2, "PSF_SAMP": step, "PSFNAXIS": 3}
    for axis, name in ((1, "X_IMAGE"), (2, "Y_IMAGE")):
        said |= {f"POLGRP{axis}": 1, f"POLNAME{axis}": name}
        said |= {f"POLZERO{axis}": ZERO[axis - 1], f"POLSCAL{axis}": SCALE[axis - 1]}
    said |= {f"PSFAXIS{axis}": n for axis, n in enumerate(masks.shape[::-1], start=1)}
    table.header.update(said | cards)
    table.writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize(("step", "tolerance"), [(0.5, 1e-6), (1.0, 1e-6), (0.7, 3e-3), (0.55, 3e-3)])
def test_psfex_file_gives_the_profile_at_any_pixel(tmp_path: Path, step: float, tolerance: float) -> None:
    """Exactly, where the image's pixels are among the mask's; else to the
    error of the interpolation. PSFEx counts the image's pixels from one.
    """
    path = write_psf(tmp_path / "image.psf", step, (51, 45))
    cells = read_psf_file(str(path), BOX)
    assert cells.cell_shape == (1, 1) and cells.n_cells == SHAPE
    ky, kx = cells.psf_shape
    assert ky % 2 == kx % 2 == 1 and abs(ky - 51 * step) <= 1 and abs(kx - 45 * step) <= 1
    y, x = np.array([Y0, Y0 + 39, Y0 + 7.3]), np.array([X0, X0 + 59, X0 + 33.4])
    indices = cells.cell_of(y, x)
    assert indices.tolist() == [[0, 0], [39, 59], [7, 33]]
    kernels = cells.psf_kernels(indices)
    assert kernels.dtype == np.float32
    for kernel, (row, column) in zip(kernels, indices.tolist(), strict=True):
        u, v = (column + 1 - ZERO[0]) / SCALE[0], (row + 1 - ZERO[1]) / SCALE[1]
        wanted = expected((ky, kx), u, v)
        assert np.abs(kernel - wanted).max() < tolerance * wanted.max()
    assert np.abs(kernels[0] - kernels[1]).max() > 0.05 * kernels[0].max()
    assert np.isnan(cells.psf_kernels([(-1, -1)])).all()


def archive(step: float, shape: tuple[int, int], name: str = "PsfexPsf", side: int = 0) -> list[Any]:
    """Tables of afw's PsfexPsf, and their index."""
    masks = masks_of(step, shape).astype("f4")
    n = len(masks)
    one = [
        ("ndim", "J", 2), ("ngroup", "J", 1), ("ncoeff", "J", n), ("_size_size", "J", 3),
        ("_comp_size", "J", masks.size), ("_context_size", "J", 2), ("averagePosition_x", "D", 5.0),
        ("averagePosition_y", "D", 6.0), ("_pixstep", "E", step),
    ]  # fmt: skip
    two = [
        ("group", "2J", [0, 0]), ("degree", "J", 2), ("basis", f"{n}D", np.zeros(n)),
        ("coeff", f"{n}D", np.zeros(n)), ("_size", "3J", [side or shape[1], shape[0], n]),
        ("_comp", f"{masks.size}E", masks.ravel()),
        ("_context_first", "2D", [X0 + ZERO[0], Y0 + ZERO[1]]), ("_context_second", "2D", SCALE),
    ]  # fmt: skip
    index = astropy.io.fits.BinTableHDU(
        np.rec.fromrecords(
            [(9, 1, 0, 0, 1, name, "m"), (9, 2, 1, 0, 1, name, "m"), (4, 3, 0, 0, 1, "Other", "")],
            names=["id", "cat.archive", "cat.persistable", "row0", "nrows", "name", "module"],
            formats=["i4"] * 5 + ["S64"] * 2,
        )
    )
    index.header["EXTTYPE"] = "ARCHIVE_INDEX"
    tables = [index]
    for number, fields in enumerate((one, two), start=1):
        columns = [astropy.io.fits.Column(key, form, array=[value]) for key, form, value in fields]
        table = astropy.io.fits.BinTableHDU.from_columns(columns, name=name)
        table.header["EXTTYPE"], table.header["AR_CATN"] = "ARCHIVE_DATA", number
        tables.append(table)
    return tables


def exposure(path: Path, tables: list[Any]) -> Path:
    """Write an Exposure with a PSF in its archive."""
    return AfwFile.coded(SHAPE, x0=X0, y0=Y0).write(path, primary={"PSF_ID": 9}, tables=tables)


def test_psfex_in_an_afw_archive(tmp_path: Path) -> None:
    """Positions are absolute pixels there."""
    path = exposure(tmp_path / "a.fits", archive(0.5, (41, 37)))
    with open_image(str(path)) as reader:
        assert reader.has_psf and reader.psf_note == "" and "psf" in reader.planes
        assert reader.psf_shape == (21, 19)
        cells = reader.cell_of(np.array([Y0 + 31.0]), np.array([X0 + 4.0]))
        (kernel,) = reader.psf_kernels(cells)
        wanted = expected((21, 19), (4 - ZERO[0]) / SCALE[0], (31 - ZERO[1]) / SCALE[1])
        assert np.abs(kernel - wanted).max() < 1e-6 * wanted.max()


def test_pickled_psf_is_left_alone(tmp_path: Path) -> None:
    """A Piff model is a Python pickle, that is, a program."""
    path = exposure(tmp_path / "a.fits", archive(0.5, (41, 37), name="PiffPsf"))
    with open_image(str(path)) as reader:
        assert not reader.has_psf and "psf" not in reader.planes
        assert "PiffPsf" in reader.psf_note and "lsst.afw" in reader.psf_note
        assert np.isnan(reader.psf_kernels([(0, 0)])).all()


def test_archive_that_contradicts_itself_is_corrupt(tmp_path: Path) -> None:
    path = exposure(tmp_path / "a.fits", archive(0.5, (41, 37), side=38))
    with pytest.raises(CorruptInputError, match="PsfexPsf has 9102 values"):
        open_image(str(path))


@pytest.mark.parametrize(("dimensions", "shape"), [({}, (21, 21)), ({"x": 9, "y": 7}, (7, 9))])
def test_table_of_a_gaussian(tmp_path: Path, dimensions: dict[str, int], shape: tuple[int, int]) -> None:
    columns = [astropy.io.fits.Column("sigma", "D", array=[1.9])]
    columns += [astropy.io.fits.Column(f"dimensions_{c}", "J", array=[n]) for c, n in dimensions.items()]
    astropy.io.fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "psf.fits")
    cells = read_psf_file(str(tmp_path / "psf.fits"), BOX)
    assert (cells.cell_shape, cells.n_cells, cells.psf_shape) == (SHAPE, (1, 1), shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    wanted = np.exp(-((x - shape[1] // 2) ** 2 + (y - shape[0] // 2) ** 2) / (2 * 1.9**2))
    (kernel,) = cells.psf_kernels(cells.cell_of([Y0 + 3], [X0 + 50]))
    np.testing.assert_allclose(kernel, wanted / wanted.sum(), rtol=1e-5)


def test_psf_beside_a_plain_image(tmp_path: Path) -> None:
    """As a companion of an image that has none of its own."""
    header = astropy.io.fits.Header()
    header.update(
        {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 5.0, "CRPIX1": 20.0,
            "CRPIX2": 10.0, "CD1_1": -1e-4, "CD2_2": 1e-4, "RADESYS": "ICRS", "BUNIT": "nJy",
        }
    )  # fmt: skip
    astropy.io.fits.PrimaryHDU(np.ones(SHAPE, "f4"), header).writeto(tmp_path / "i.fits")
    psf = write_psf(tmp_path / "i.psf", 0.5, (41, 37))
    with open_image(str(tmp_path / "i.fits"), companions=Companions({"psf": str(psf)})) as reader:
        assert reader.has_psf and "psf" in reader.planes
        y, x = np.array([reader.bbox.y0 + 11.0]), np.array([reader.bbox.x0 + 50.0])
        (kernel,) = reader.psf_kernels(reader.cell_of(y, x))
        wanted = expected((21, 19), (51 - ZERO[0]) / SCALE[0], (12 - ZERO[1]) / SCALE[1])
        assert np.abs(kernel - wanted).max() < 1e-6 * wanted.max()


def test_what_is_no_psf_is_refused(tmp_path: Path) -> None:
    astropy.io.fits.PrimaryHDU(np.ones((5, 5))).writeto(tmp_path / "no.fits")
    with pytest.raises(UserError, match="no PSF that can be read: allowed are the files of PSFEx"):
        read_psf_file(str(tmp_path / "no.fits"), BOX)
    colors = write_psf(tmp_path / "color.psf", 0.5, (41, 37), POLNAME2="COLOR")
    with pytest.raises(UserError, match="depends on X_IMAGE, COLOR in 1 groups"):
        read_psf_file(str(colors), BOX)
    wrong: list[tuple[dict[str, Any], str]]
    wrong = [({"POLDEG1": 3}, "6 terms"), ({"PSFAXIS1": 36}, "values"), ({"PSF_SAMP": 0.0}, "step")]
    for cards, said in wrong:
        path = write_psf(tmp_path / "bad.psf", 0.5, (41, 37), **cards)
        with pytest.raises(CorruptInputError, match=said):
            read_psf_file(str(path), BOX)


def test_kernels_add_up_to_one() -> None:
    model = PsfexPsf(masks_of(0.6, (39, 41)), degree=2, zero=ZERO, scale=SCALE, step=0.6)
    kernels = model.kernels(np.linspace(-20, 50, 30), np.linspace(0, 60, 30))
    np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1.0, rtol=1e-5)


class FakeKernelImage:
    """What afw's ImageD has of itself: an array, and its first pixel."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def getX0(self) -> int:  # noqa: N802
        return -(self.array.shape[1] // 2)

    def getY0(self) -> int:  # noqa: N802
        return -(self.array.shape[0] // 2)


class FakePsf:
    """A CoaddPsf whose kernels grow to the right, and end somewhere."""

    def computeBBox(self, point: tuple[float, float]) -> Any:  # noqa: N802
        return types.SimpleNamespace(getHeight=lambda: 7, getWidth=lambda: 9)

    def computeKernelImage(self, point: tuple[float, float]) -> FakeKernelImage:  # noqa: N802
        x, y = point
        if x > X0 + 50:
            raise RuntimeError("Cannot compute CoaddPsf at point")
        shape = (5, 11) if x > X0 + 20 else (7, 9)
        kernel = np.zeros(shape)
        kernel[shape[0] // 2, shape[1] // 2] = x
        kernel[shape[0] // 2 + 1, shape[1] // 2 - 2] = y
        return FakeKernelImage(kernel)


def test_other_psfs_are_read_through_afw_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lsst.afw is not on PyPI: a small fake of its interface stands in."""
    path = exposure(tmp_path / "a.fits", archive(0.5, (41, 37), name="CoaddPsf"))
    fake = types.ModuleType("lsst.afw.image")
    fake.ExposureFitsReader = lambda _: types.SimpleNamespace(readPsf=FakePsf)  # type: ignore[attr-defined]
    geometry = types.ModuleType("lsst.geom")
    geometry.Point2D = lambda x, y: (x, y)  # type: ignore[attr-defined]
    for name, module in (("lsst.afw", types.ModuleType("lsst.afw")), ("lsst.afw.image", fake)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "lsst.geom", geometry)
    with open_image(str(path)) as reader:
        assert reader.has_psf and reader.psf_note == "" and reader.psf_shape == (7, 9)
        y, x = np.array([Y0 + 3.0, Y0 + 4.0, Y0 + 5.0]), np.array([X0 + 5.0, X0 + 30.0, X0 + 55.0])
        kernels = reader.psf_kernels(reader.cell_of(y, x))
        for kernel, row, column in zip(kernels[:2], y, x, strict=False):
            assert kernel[3, 4] == column and kernel[4, 2] == row
            assert np.count_nonzero(kernel) == 2
        assert np.isnan(kernels[2]).all()
