# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Background models, evaluated on boxes, are what lsst.images renders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import astropy.io.fits
import astropy.units as u
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lsst.images as li
from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.errors import CorruptInputError, UserError
from lsst.dax.bulkcutout.readers import BackgroundField, open_image
from lsst.dax.bulkcutout.readers.background import BackgroundModels
from lsst.dax.bulkcutout.tests import tangent_layout, tangent_tract
from lsst.dax.bulkcutout.tests.coadds import build_coadd, make_coadd, sky_planes, write_coadd
from lsst.dax.bulkcutout.tests.sky import Sky
from lsst.dax.bulkcutout.tests.tile_reading import TileByTile
from lsst.images import cells as lic
from lsst.images import fields as lif

REAL = Path(__file__).parents[2] / "shared" / "data" / "real" / "lsst_dp2_coadd" / "deep_coadd_5428_76_g.fits"
LAYOUT = tangent_layout(
    [tangent_tract(3, center=(150.0, 2.2), n_patches=(1, 1), inner=(50, 75), border=(25, 25), cell=(25, 25))]
)
OUTER = LAYOUT.patch(3, 0).outer
BOX = li.Box.factory[OUTER.y0 : OUTER.y1, OUTER.x0 : OUTER.x1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backgrounds")


def write(path: Path, **fields: lif.ChebyshevField | lif.SumField | Any) -> Path:
    """Write a coadd with models; the first one is subtracted."""
    coadd = make_coadd(LAYOUT, 3, 0, "r")
    coadd._backgrounds = li.BackgroundMap()
    for number, (name, field) in enumerate(fields.items()):
        coadd._backgrounds.add(name, field, is_subtracted=number == 0)
    path.unlink(missing_ok=True)
    write_coadd(coadd, path)
    return path


def chebyshevs(rng: np.random.Generator) -> Iterator[lif.ChebyshevField]:
    """Polynomials of all shapes, over all kinds of bounds."""
    part = li.Box.factory[OUTER.y0 - 7 : OUTER.y1 + 20, OUTER.x0 + 3 : OUTER.x1 - 1]
    grid = lic.CellGrid(bbox=BOX, cell_shape=li.YX(y=25, x=25))
    triangle = li.Polygon(
        y_vertices=OUTER.y0 + np.array([-3.2, 0.5, 140.7]), x_vertices=OUTER.x0 + np.array([10.5, 90.2, 33.0])
    )
    cells = lic.CellGridBounds(grid=grid, bbox=BOX, missing=frozenset())
    bounds = [BOX, part, cells, triangle, triangle.intersection(cells)]
    while True:
        for each in bounds:
            coefficients = rng.normal(0, 3, rng.integers(1, 6, 2))
            yield lif.ChebyshevField(each, coefficients, unit=u.nJy)


def splines(rng: np.random.Generator) -> Iterator[lif.SplineField]:
    """Grids of all sizes, inline and in an HDU, with holes."""
    while True:
        ny, nx = rng.integers(1, 11, 2)
        y, x = (
            np.sort(rng.choice(np.arange(-40, 240), n, replace=False) / 2) + first
            for n, first in ((ny, OUTER.y0), (nx, OUTER.x0))
        )
        values = rng.normal(2.0, 1.0, (ny, nx)).astype(rng.choice([np.float32, np.float64]))
        values[rng.random((ny, nx)) < rng.choice([0.0, 0.1, 0.7])] = np.nan
        values[rng.integers(ny), rng.integers(nx)] = 1.5
        yield lif.SplineField(BOX, values, y=y.astype(float), x=x.astype(float), unit=u.nJy)


def fields(seed: int) -> Iterator[Any]:
    rng = np.random.default_rng(seed)
    chebyshev, spline = chebyshevs(rng), splines(rng)
    while True:
        yield next(chebyshev)
        yield next(spline)
        yield lif.SumField([next(spline), next(spline) * 1000.0, next(chebyshev)])
        micro = lif.ChebyshevField(BOX, rng.normal(0, 1e-3, (2, 3)), unit=u.uJy)
        yield lif.SumField([micro, next(spline)])
        flat = lif.ChebyshevField(BOX, rng.normal(1, 0.2, (3, 1)))
        yield lif.ProductField([flat, lif.SumField([next(chebyshev), next(spline)])])


@given(data=st.data())
@settings(max_examples=25)
def test_any_model_on_any_box_is_what_lsst_images_renders(folder: Path, data: st.DataObject) -> None:
    generated = fields(data.draw(st.integers(0, 10**6)))
    models = {name: next(generated) for name in "abcdefghij"}
    path = write(folder / "any.fits", **models)
    oracle = lic.CellCoadd.read(str(path)).backgrounds
    with open_image(str(path)) as reader:
        assert list(reader.backgrounds) == list(models) and reader.background == "a"
        for name in models:
            try:
                whole = oracle[name].field.render(BOX, dtype=np.float32)
            except ValueError:
                # The values overflow, far from the grid.
                with pytest.raises(CorruptInputError, match="too far"):
                    reader.backgrounds[name]
                continue
            expected = whole.quantity.to_value(u.nJy)
            largest = np.nanmax(np.abs(expected))
            y0 = data.draw(st.integers(OUTER.y0, OUTER.y1 - 1))
            y1 = data.draw(st.integers(y0 + 1, OUTER.y1))
            x0 = data.draw(st.integers(OUTER.x0, OUTER.x1 - 1))
            x1 = data.draw(st.integers(x0 + 1, OUTER.x1))
            box = Box(y0=y0, y1=y1, x0=x0, x1=x1)
            found = reader.backgrounds[name].render(box)
            assert found.dtype == np.float32 and found.shape == box.shape
            np.testing.assert_allclose(
                found, expected[box.slices(OUTER)], rtol=2e-7, atol=2e-7 * float(largest)
            )


@pytest.mark.skipif(not REAL.exists(), reason="real data are not here")
def test_models_of_a_real_coadd() -> None:
    """The file's pixels are a part, put elsewhere; its models are whole."""
    oracle = lic.CellCoadd.read(str(REAL)).backgrounds
    with open_image(str(REAL)) as reader:
        assert set(reader.backgrounds) == {"pretty", "object"}
        assert reader.extra_planes == ("noise/0", "mask_fraction/rejected")
        trees = reader.backgrounds._trees
        for name, background in oracle.items():
            bounds = background.field.bounds.bbox
            part = li.Box.factory[
                bounds.y.start + 900 : bounds.y.start + 1300, bounds.x.start : bounds.x.stop
            ]
            box = Box(y0=part.y.start, y1=part.y.stop, x0=part.x.start, x1=part.x.stop)
            expected = background.field.render(part, dtype=np.float32).array
            found = BackgroundModels(reader._file, box, trees)[name].render(box)
            np.testing.assert_array_equal(found, expected)
            assert expected.std() > 0.1


@pytest.mark.parametrize("n_noise", [0, 1, 3])
def test_noise_and_mask_fractions_are_planes_by_name(tmp_path: Path, n_noise: int) -> None:
    planes = sky_planes(LAYOUT, 3, 0, "r", sky=Sky(), missing_cells=[(1, 2)])
    planes.mask["CLIPPED"] = np.arange(planes.image.size).reshape(planes.image.shape) % 3 == 0
    coadd = build_coadd(LAYOUT, 3, 0, "r", planes, full=True, n_noise=n_noise)
    write_coadd(coadd, tmp_path / "full.fits")
    names = [f"noise/{n}" for n in range(n_noise)]
    names += [f"mask_fraction/{name}" for name in ("rejected", "clipped")[:n_noise]]
    tiles = [(1, 2), (0, 0), (3, 4)]
    with (
        open_image(str(tmp_path / "full.fits")) as reader,
        astropy.io.fits.open(tmp_path / "full.fits") as hdus,
    ):
        assert reader.extra_planes == tuple(names)
        for name in names:
            kind, which = name.split("/")
            hdu = hdus[f"{'NOISE_REALIZATIONS' if kind == 'noise' else 'MASK_FRACTIONS'}/{which.upper()}"]
            found = list(TileByTile(reader, name, tiles))
            assert [box for box, _ in found] == [reader.tile_box(*tile) for tile in sorted(tiles)]
            for box, pixels in found:
                assert pixels.dtype == np.float32
                np.testing.assert_array_equal(pixels, hdu.data[box.slices(OUTER)])
        with pytest.raises(ValueError, match="No plane 'noise/9'"):
            TileByTile(reader, "noise/9", [(0, 0)])


def test_damage_in_the_header_of_a_noise_plane_is_no_concern_of_the_image(tmp_path: Path) -> None:
    path = tmp_path / "full.fits"
    write_coadd(make_coadd(LAYOUT, 3, 0, "r", full=True), path)
    content = path.read_bytes()
    card = content.index(b"EXTNAME = 'NOISE_REALIZATIONS/0'")
    path.write_bytes(content[:card] + content[card:].replace(b"NOISE_", b"NOSE__", 1))
    with open_image(str(path)) as reader:
        assert "noise/0" in reader.extra_planes
        assert len(list(TileByTile(reader, "image", [(0, 0)]))) == 1
        with pytest.raises(CorruptInputError, match="INDEX") as caught:
            TileByTile(reader, "noise/0", [(0, 0)])
        assert caught.value.box is None


def tampered(path: Path, change: Callable[[dict[str, Any]], None]) -> BackgroundField:
    with open_image(str(path)) as reader:
        trees = json.loads(json.dumps(reader.backgrounds._trees))
        change(trees["a"])
        return BackgroundModels(reader._file, reader.bbox, trees)["a"]


@pytest.fixture(scope="module")
def spline_file(folder: Path) -> Path:
    rng = np.random.default_rng(4)
    y, x = np.linspace(OUTER.y0, OUTER.y1, 9), np.linspace(OUTER.x0, OUTER.x1, 8)
    return write(folder / "spline.fits", a=lif.SplineField(BOX, rng.random((9, 8)), y=y, x=x, unit=u.nJy))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"field_type": "WAVELET"}, "kind 'WAVELET'.*CHEBYSHEV, SPLINE, SUM, PRODUCT"),
        ({"min_read_version": 2}, "version 2"),
        ({"unit": "mag"}, "'mag'.*can be converted to nJy"),
        ({"unit": None}, "'none'.*can be converted to nJy"),
        ({"unit": "florins"}, "'florins'"),
    ],
)
def test_models_that_are_not_known_are_named(spline_file: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"spline.fits: background model 'a' .*{said}"):
        tampered(spline_file, lambda tree: tree.update(change))


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"source": "fits:NOWHERE", "shape": [9, 8]}},
        {"data": {"source": "fits:BACKGROUND/FIELDS/A/DATA", "shape": [8, 9]}},
        {"data": {"source": "fits:BACKGROUND/FIELDS/A/DATA", "shape": [9]}},
        {"data": {"data": [[1.0, 2.0], [3.0]]}},
        {"data": {"data": [[None] * 8] * 9}},
        {"y": {"data": [1.0, 2.0]}},
        {"y": {"data": list(range(9, 0, -1))}},
        {"x": {"data": "here"}},
        {"x": None},
        {"field_type": "SUM", "operands": []},
        {"field_type": "SUM"},
        {"field_type": "CHEBYSHEV"},
        {"field_type": "CHEBYSHEV", "coefficients": {"data": [1.0]}},
        {"field_type": "CHEBYSHEV", "coefficients": {"data": [[1.0]]}, "bounds": {"shape": "round"}},
        {
            "field_type": "CHEBYSHEV",
            "coefficients": {"data": [[1.0]]},
            "bounds": {"y": {"start": 4, "stop": 4}, "x": {"start": 0, "stop": 9}},
        },
        {"field_type": "CHEBYSHEV", "coefficients": {"data": [[1.0]]}, "bounds": {"coordinates": [[]]}},
    ],
)
def test_models_that_contradict_themselves_are_damage(spline_file: Path, change: dict[str, Any]) -> None:
    with pytest.raises(CorruptInputError, match="spline.fits"):
        tampered(spline_file, lambda tree: tree.update(change))


def test_damage_in_a_model_is_no_concern_of_others(spline_file: Path, tmp_path: Path) -> None:
    path = write(
        tmp_path / "two.fits",
        a=lif.SplineField(
            BOX, np.ones((9, 8)), y=np.arange(9.0) + OUTER.y0, x=np.arange(8.0) + OUTER.x0, unit=u.nJy
        ),
        b=lif.ChebyshevField(BOX, np.array([[3.0]]), unit=u.nJy),
    )
    with open_image(str(path)) as reader:
        extension = reader._file.find("fits:BACKGROUND/FIELDS/A/DATA")
        address, size = extension.header.data_address, extension.header.data_size
    content = bytearray(path.read_bytes())
    content[address + size - 40 : address + size] = b"\xff" * 40
    path.write_bytes(content)
    with open_image(str(path)) as reader:
        with pytest.raises(CorruptInputError):
            reader.backgrounds["a"]
        assert (reader.backgrounds["b"].render(OUTER) == 3.0).all()
