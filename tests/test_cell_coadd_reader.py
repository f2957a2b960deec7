# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The reader of cell coadds gives what astropy and lsst.images give."""

from __future__ import annotations

import dataclasses
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import astropy.io.fits
import astropy.units as u
import astropy.wcs
import fitsio
import numpy as np
import pytest
from astropy.io.fits.hdu.compressed import _compression
from hypothesis import given
from hypothesis import strategies as st

import lsst.images as li
from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.errors import CorruptInputError, UserError
from lsst.dax.bulkcutout.kernels.rice import MARGIN, unrice
from lsst.dax.bulkcutout.readers import ImageReader, open_image
from lsst.dax.bulkcutout.tests.tile_reading import TileByTile
from lsst.images import cells as lic
from lsst.images import fields as lif
from lsst.images import fits as lifits

Codec = lifits.FitsCompressionAlgorithm
Dither = lifits.FitsDitherAlgorithm
LOSSY = lifits.FitsCompressionOptions.LOSSY


def quantized(dither: lifits.FitsDitherAlgorithm) -> lifits.FitsCompressionOptions:
    """Make options like those of DP2, but for the dither."""
    return lifits.FitsCompressionOptions(
        algorithm=Codec.RICE_1, quantization=lifits.FitsQuantizationOptions(dither=dither, level=16.0)
    )


COMPRESSIONS = {
    "gzip": {},
    "rice": {"image": LOSSY, "variance": LOSSY},
    "rice_dither_1": {"image": quantized(Dither.SUBTRACTIVE_DITHER_1)},
    "rice_no_dither": {"image": quantized(Dither.NO_DITHER)},
    "uncompressed": {"image": None, "variance": None, "mask": None, "psf": None},
    "gzip_1": {
        name: lifits.FitsCompressionOptions(algorithm=Codec.GZIP_1)
        for name in ("image", "mask", "variance", "psf")
    },
    # Quantized, but not by Rice; and the mask by Rice.
    "other": {
        "image": LOSSY.model_copy(update={"algorithm": Codec.GZIP_2}),
        "mask": lifits.FitsCompressionOptions(algorithm=Codec.RICE_1),
        "variance": lifits.FitsCompressionOptions(tile_shape=(7, 120)),
        "psf": lifits.FitsCompressionOptions(tile_shape=(1, 1, 21, 17)),
    },
}

CELL = (20, 24)
N_CELLS = (4, 5)
MISSING = ((0, 0), (0, 1), (3, 4))
NAN_TILE = (2, 3)
Y0, X0 = -40, 2952


def make_coadd(
    *,
    cell: tuple[int, int] = CELL,
    n_cells: tuple[int, int] = N_CELLS,
    missing: tuple[tuple[int, int], ...] = MISSING,
    n_planes: int = 9,
    kernel: tuple[int, int] = (21, 17),
    unit: u.UnitBase = u.nJy,
    dtype: type[np.floating] = np.float32,
    subtracted: str | None = "object",
) -> lic.CellCoadd:
    """Make a coadd that is not square and does not begin at the origin."""
    rng = np.random.default_rng(42)
    shape = (cell[0] * n_cells[0], cell[1] * n_cells[1])
    bbox = li.Box.factory[Y0 : Y0 + shape[0], X0 : X0 + shape[1]]
    wcs = astropy.wcs.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [37.34439834, 6.694214876]
    wcs.wcs.crpix = [15000.0, 15000.0]
    # Turned and not square, which would show an axis in the wrong place.
    wcs.wcs.cd = np.array([[-0.2, 0.03], [0.02, 0.21]]) / 3600
    frame = li.TractFrame(skymap="lsst_cells_v1", tract=10463, bbox=li.Box.factory[0:30000, 0:30000])
    sky = li.SkyProjection.from_fits_wcs(wcs, frame, pixel_bounds=frame.bbox)
    image = rng.normal(5.0, 20.0, shape).astype(dtype)
    variance = rng.uniform(300.0, 500.0, shape).astype(dtype)
    kernels = rng.random((*n_cells, *kernel))
    kernels /= kernels.sum(axis=(2, 3), keepdims=True)
    planes = [li.MaskPlane("NO_DATA", "No data."), li.MaskPlane("DETECTED", "It's part of a source.")]
    planes += [
        li.MaskPlane(f"PLANE{n}", f"Description {n}, which is too long for a card; " * 3 + "end")
        for n in range(2, n_planes)
    ]
    mask = li.Mask(0, bbox=bbox, schema=li.MaskSchema(planes))
    for plane in planes[1:]:
        mask.set(plane.name, rng.random(shape) < 0.1)
    empty = np.zeros(shape, dtype=bool)
    for y, x in (*missing, NAN_TILE):
        empty[y * cell[0] : (y + 1) * cell[0], x * cell[1] : (x + 1) * cell[1]] = True
    for y, x in missing:
        kernels[y, x] = np.nan
    # Some without data, in a tile that has data otherwise.
    empty[cell[0] + 3 : cell[0] + 7, 5:50] = True
    image[empty] = variance[empty] = np.nan
    # Zeros stay zeros in one of the dithers.
    image[2 * cell[0] + 2 : 2 * cell[0] + 4, 40:45] = 0.0
    mask.set("NO_DATA", empty)
    # A tile without noise cannot be quantized.
    image[-cell[0] :, : cell[1]] = 1.5
    grid = lic.CellGrid(bbox=bbox, cell_shape=li.YX(*cell))
    gone = frozenset(lic.CellIJ(i=y, j=x) for y, x in missing)
    psf = lic.CellPointSpreadFunction(kernels, lic.CellGridBounds(grid=grid, bbox=bbox, missing=gone))
    field = lif.ChebyshevField(bbox, np.array([[3.0]]), unit=u.nJy)
    return lic.CellCoadd(
        li.Image(image, bbox=bbox, unit=unit, sky_projection=sky),
        mask=mask,
        variance=li.Image(variance, bbox=bbox, unit=unit**2),
        band="r",
        psf=psf,
        patch=lic.PatchDefinition(id=30, index=li.YX(y=3, x=0), inner_bbox=bbox, cells=grid),
        backgrounds=li.BackgroundMap([li.Background("object", field)], subtracted=subtracted),
    )


def write(coadd: lic.CellCoadd, path: Path, compression: str = "gzip") -> Path:
    """Write as the Butler's formatter does."""
    lifits.write(coadd, str(path), compression_options=COMPRESSIONS[compression], compression_seed=7)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same coadd in all compressions."""
    folder = tmp_path_factory.mktemp("coadds")
    return {name: write(make_coadd(), folder / f"{name}.fits", name) for name in COMPRESSIONS}


def whole(reader: ImageReader, plane: str) -> np.ndarray:
    """Put all tiles of a plane together."""
    tiles = [(iy, ix) for iy in range(reader.n_tiles[0]) for ix in range(reader.n_tiles[1])]
    out = None
    for box, pixels in TileByTile(reader, plane, tiles):
        if out is None:
            out = np.full(reader.bbox.shape, -99, dtype=pixels.dtype)
        assert pixels.shape == box.shape
        out[box.slices(reader.bbox)] = pixels
    assert out is not None
    return out


def check_against_astropy(path: Path, reader: ImageReader) -> None:
    """All pixels, bit by bit."""
    with astropy.io.fits.open(path) as hdus:
        for plane, dtype in (("image", np.float32), ("variance", np.float32), ("mask", np.int32)):
            pixels = whole(reader, plane)
            assert pixels.dtype == dtype and pixels.dtype.isnative
            np.testing.assert_array_equal(pixels, hdus[plane.upper()].data, err_msg=plane)


def check_against_lsst_images(path: Path, reader: ImageReader, n_positions: int = 200) -> None:
    """Planes, masks by name, WCS, kernels, missing cells, identity."""
    oracle = lic.CellCoadd.read(str(path))
    assert (reader.bbox.y0, reader.bbox.y1) == (oracle.bbox.y.start, oracle.bbox.y.stop)
    assert (reader.bbox.x0, reader.bbox.x1) == (oracle.bbox.x.start, oracle.bbox.x.stop)
    assert (reader.skymap, reader.tract, reader.band) == (oracle.skymap, oracle.tract, oracle.band)
    assert reader.patch == oracle.patch.id
    assert reader.patch_index == (oracle.patch.index.y, oracle.patch.index.x)
    subtracted = oracle.backgrounds.subtracted
    assert reader.background == (subtracted.name if subtracted else None)
    assert u.Unit(reader.unit) == oracle.unit
    np.testing.assert_array_equal(whole(reader, "image"), oracle.image.array)
    np.testing.assert_array_equal(whole(reader, "variance"), oracle.variance.array)
    mask = whole(reader, "mask")
    planes = [plane for plane in oracle.mask.schema if plane is not None]
    assert [(p.name, p.description) for p in reader.mask_planes] == [(p.name, p.description) for p in planes]
    for plane in reader.mask_planes:
        np.testing.assert_array_equal((mask & (1 << plane.bit)) != 0, oracle.mask.get(plane.name))

    rng = np.random.default_rng(3)
    box = reader.bbox
    x, y = rng.uniform(box.x0, box.x1, n_positions), rng.uniform(box.y0, box.y1, n_positions)
    sky = oracle.sky_projection.pixel_to_sky(x=x, y=y)
    found_x, found_y = reader.wcs.sky_to_pixel(sky.ra.deg, sky.dec.deg)
    assert np.hypot(found_x - x, found_y - y).max() < 1e-6
    ra, dec = reader.wcs.pixel_to_sky(x, y)
    back = oracle.sky_projection.sky_to_pixel(astropy.coordinates.SkyCoord(ra, dec, unit="deg"))
    assert np.hypot(back.x - x, back.y - y).max() < 1e-6

    assert {(c.i, c.j) for c in oracle.bounds.missing} == reader.missing_cells
    x, y = rng.integers(box.x0, box.x1, n_positions), rng.integers(box.y0, box.y1, n_positions)
    kernels = reader.psf_kernels(reader.cell_of(y, x))
    assert kernels.dtype == np.float32 and kernels.shape[1:] == reader.psf_shape
    n_missing = 0
    for kernel, one_x, one_y in zip(kernels, x.tolist(), y.tolist(), strict=True):
        try:
            expected = oracle.psf.compute_kernel_image(x=one_x, y=one_y).array
        except li.BoundsError:
            assert np.isnan(kernel).all()
            n_missing += 1
        else:
            np.testing.assert_array_equal(kernel, expected.astype(np.float32))
    assert n_missing < n_positions


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_small_coadd_is_what_the_oracles_say(files: dict[str, Path], compression: str) -> None:
    with open_image(str(files[compression])) as reader:
        assert reader.planes == {"image", "variance", "mask", "psf"} and reader.has_psf
        assert reader.tile_shape == reader.cell_shape == CELL
        assert reader.n_cells == reader.n_tiles == N_CELLS
        check_against_astropy(files[compression], reader)
        check_against_lsst_images(files[compression], reader)


@pytest.mark.parametrize("compression", ["gzip", "rice", "rice_dither_1", "rice_no_dither", "gzip_1"])
def test_pixels_are_those_of_cfitsio(files: dict[str, Path], compression: str) -> None:
    """Reader and astropy share a Rice decoder; CFITSIO has its own copy, and
    its own dequantization.
    """
    with open_image(str(files[compression])) as reader, fitsio.FITS(files[compression]) as fits:
        for number, plane in enumerate(("image", "mask", "variance"), start=1):
            np.testing.assert_array_equal(whole(reader, plane), fits[number].read(), err_msg=plane)


@pytest.mark.parametrize("compression", ["gzip", "rice", "uncompressed"])
def test_double_precision_is_rounded(tmp_path: Path, compression: str) -> None:
    path = write(make_coadd(dtype=np.float64), tmp_path / "double.fits", compression)
    with open_image(str(path)) as reader, astropy.io.fits.open(path) as hdus:
        for plane in ("image", "variance"):
            assert hdus[plane].data.dtype.itemsize == 8
            pixels = whole(reader, plane)
            assert pixels.dtype == np.float32
            np.testing.assert_array_equal(pixels, hdus[plane].data.astype(np.float32))


def test_lossless_file_holds_what_was_written(files: dict[str, Path]) -> None:
    """Not only do all readers agree: the pixels are the original ones."""
    coadd = make_coadd()
    with open_image(str(files["gzip"])) as reader:
        image = whole(reader, "image")
        np.testing.assert_array_equal(image, coadd.image.array)
        tile = reader.tile_box(*NAN_TILE)
        assert np.isnan(image[tile.slices(reader.bbox)]).all()
        assert 0 < np.isnan(image[reader.tile_box(1, 0).slices(reader.bbox)]).sum() < np.prod(CELL)
        assert reader.mask_planes[1].description == "It's part of a source."
        assert len(reader.mask_planes[2].description) > 90


def test_no_pixels_survive_quantization_as_nan(files: dict[str, Path]) -> None:
    """Rice knows no NaN: null values must not come out as numbers."""
    with open_image(str(files["rice"])) as reader, open_image(str(files["gzip"])) as lossless:
        lossy, exact = whole(reader, "image"), whole(lossless, "image")
        np.testing.assert_array_equal(np.isnan(lossy), np.isnan(exact))
        assert 0 < np.nanmax(np.abs(lossy - exact)) < 5


def test_part_of_a_patch_keeps_the_cells_of_the_patch(tmp_path: Path) -> None:
    """A coadd cut out of another one: tiles no longer lie on cells, and the
    PSF array holds a part of the grid.
    """
    part = li.Box.factory[Y0 + 33 : Y0 + 70, X0 + 30 : X0 + 101]
    path = write(make_coadd()[part], tmp_path / "part.fits")
    with open_image(str(path)) as reader:
        assert reader.n_cells == N_CELLS
        assert reader.bbox == Box(y0=Y0 + 33, y1=Y0 + 70, x0=X0 + 30, x1=X0 + 101)
        assert reader.tile_box(1, 2) == Box(y0=Y0 + 53, y1=Y0 + 70, x0=X0 + 78, x1=X0 + 101)
        check_against_astropy(path, reader)
        check_against_lsst_images(path, reader)
        # In the grid of the patch, but not in this file.
        assert np.isnan(reader.psf_kernels([(0, 3)])).all()


@pytest.mark.parametrize("n_planes", [31, 32, 40])
def test_many_mask_planes_are_combined(tmp_path: Path, n_planes: int) -> None:
    """Above 31 planes there are two mask HDUs, and an int64 has them all."""
    coadd = make_coadd(n_planes=n_planes)
    path = write(coadd, tmp_path / "planes.fits")
    with open_image(str(path)) as reader:
        mask = whole(reader, "mask")
        assert mask.dtype == (np.int32 if n_planes <= 31 else np.int64)
        assert [plane.bit for plane in reader.mask_planes] == list(range(n_planes))
        for plane in reader.mask_planes:
            np.testing.assert_array_equal((mask >> plane.bit) & 1, coadd.mask.get(plane.name))


@pytest.mark.parametrize("subtracted", ["object", None])
def test_background_state_is_read(tmp_path: Path, subtracted: str | None) -> None:
    path = write(make_coadd(subtracted=subtracted), tmp_path / "background.fits")
    with open_image(str(path)) as reader:
        assert reader.background == subtracted


def test_cells_of_positions(files: dict[str, Path]) -> None:
    """A position belongs to the cell of its pixel; borders are half-way
    between pixel centres.
    """
    with open_image(str(files["gzip"])) as reader:
        y = [Y0, Y0 + 19.4, Y0 + 19.6, Y0 - 0.6, Y0 + 79.4, Y0 + 5, np.float64(Y0) + 79.6]
        x = [X0 - 0.4, X0 + 23.4, X0 + 23.6, X0, X0 + 119.4, X0 - 9999.0, X0]
        expected = [(0, 0), (0, 0), (1, 1), (-1, -1), (3, 4), (-1, -1), (-1, -1)]
        assert [tuple(cell) for cell in reader.cell_of(np.array(y), np.array(x))] == expected
        kernels = reader.psf_kernels(expected)
        assert kernels.shape == (7, 21, 17)
        assert np.isnan(kernels[[0, 1, 3, 4, 5, 6]]).all()
        assert kernels[2].sum() == pytest.approx(1.0, abs=1e-5)
        assert reader.psf_kernels(np.empty((0, 2), dtype=int)).shape == (0, 21, 17)


@given(data=st.data())
def test_any_tiles_come_once_and_in_order(files: dict[str, Path], data: st.DataObject) -> None:
    compression = data.draw(st.sampled_from(sorted(COMPRESSIONS)))
    plane = data.draw(st.sampled_from(["image", "mask", "variance"]))
    tiles = data.draw(st.lists(st.tuples(st.integers(0, N_CELLS[0] - 1), st.integers(0, N_CELLS[1] - 1))))
    expected = astropy_planes(files[compression])[plane]
    with open_image(str(files[compression])) as reader:
        found = list(TileByTile(reader, plane, tiles))
        assert [box for box, _ in found] == [reader.tile_box(*tile) for tile in sorted(set(tiles))]
        for box, pixels in found:
            np.testing.assert_array_equal(pixels, expected[box.slices(reader.bbox)])


_PLANES: dict[Path, dict[str, np.ndarray]] = {}


def astropy_planes(path: Path) -> dict[str, np.ndarray]:
    """Read all planes with astropy, once for each file."""
    if path not in _PLANES:
        with astropy.io.fits.open(path) as hdus:
            _PLANES[path] = {
                name: np.array(hdus[name.upper()].data) for name in ("image", "mask", "variance")
            }
    return _PLANES[path]


@given(
    y0=st.integers(Y0 - 30, Y0 + 100),
    x0=st.integers(X0 - 30, X0 + 150),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
)
def test_tiles_touching_a_box_cover_it(
    files: dict[str, Path], y0: int, x0: int, height: int, width: int
) -> None:
    box = Box(y0=y0, y1=y0 + height, x0=x0, x1=x0 + width)
    with open_image(str(files["gzip"])) as reader:
        every = [(iy, ix) for iy in range(N_CELLS[0]) for ix in range(N_CELLS[1])]
        touching = [tile for tile in every if reader.tile_box(*tile).intersection(box) is not None]
        assert reader.tiles_touching(box) == touching


def test_unknown_plane_or_tile_is_a_programming_error(files: dict[str, Path]) -> None:
    with open_image(str(files["gzip"])) as reader:
        with pytest.raises(ValueError, match=r"No plane 'psf'.*'image', 'mask', 'variance'"):
            TileByTile(reader, "psf", [(0, 0)])
        with pytest.raises(ValueError, match=r"No tile \(4, 0\)"):
            next(TileByTile(reader, "image", [(4, 0)]))
        reader.close()
        reader.close()


def test_reader_needs_neither_lsst_images_nor_astropy(files: dict[str, Path]) -> None:
    """Jobs start by the thousand: what they import counts."""
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from lsst.dax.bulkcutout.readers import open_image\n"
        "with open_image(sys.argv[1]) as reader:\n"
        "    box = reader.tile_box(0, 0)\n"
        "    canvas = np.empty(box.shape, dtype=np.float32)\n"
        "    assert reader.load_tiles('image', [(0, 0)], canvas, box) == []\n"
        "    reader.psf_kernels([(1, 1)])\n"
        "print([name for name in ('lsst.images', 'lsst.daf.butler', 'astropy') if name in sys.modules])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(files["rice"])], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


# What is not read, and how that is said.


def edited(path: Path, to: Path, old: bytes, new: bytes, *, count: int = 1) -> Path:
    """Copy a file with some bytes replaced, as many as there were."""
    content = path.read_bytes()
    assert content.count(old) >= 1 and len(old) == len(new)
    to.write_bytes(content.replace(old, new, count))
    return to


def card(text: str) -> bytes:
    """A header card."""
    return text.ljust(80).encode()


def test_unknown_layout_names_file_and_known_layouts(tmp_path: Path) -> None:
    path = tmp_path / "plain.fits"
    astropy.io.fits.PrimaryHDU(np.zeros((3, 4))).writeto(path)
    with pytest.raises(UserError, match=r"plain\.fits: no image with a position on the sky"):
        open_image(str(path))
    path = edited(
        path,
        tmp_path / "visit.fits",
        card("EXTEND  =                    T"),
        card("EXTEND  =                    T"),
    )
    with astropy.io.fits.open(path, mode="update") as hdus:
        hdus[0].header["DATAMODL"] = "https://images.lsst.io/schemas/visit_image-1.0.0"
    with pytest.raises(UserError, match=r"visit\.fits.*visit_image-1\.0\.0.*lsst\.images cell coadd"):
        open_image(str(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            b"cell_coadd-1.0.0' ",
            b"cell_coadd-2.0.0' ",
            r"version 2\.0\.0; this release reads .* version 1\.x",
        ),
        (b"FMTVER  =                    1", b"FMTVER  =                    2", r"FMTVER\) is 2"),
        (b"JSONADDR", b"JUNKADDR", "no JSON tree"),
        (
            b"BUNIT   = 'nJy     '",
            b"BUNIT   = 'adu     '",
            r"unit of IMAGE \(BUNIT\) is 'adu', allowed is nJy",
        ),
        (b"'RA---TAN'", b"'RA---SIN'", r"CTYPE1 of IMAGE is 'RA---SIN', allowed is RA---TAN"),
        (b"RADESYS = 'ICRS'", b"RADESYS = 'FK5 '", "RADESYS of IMAGE is 'FK5', allowed is ICRS"),
        (b"PV1_3   =                180.0", b"PV1_3   =                170.0", r"PV1_3 of IMAGE is 170\.0"),
        (b"MJDREF  =                  0.0", b"PV2_1   =                  0.1", "PV2_1 of IMAGE"),
        (
            b"ZCMPTYPE= 'GZIP_2  '",
            b"ZCMPTYPE= 'BZIP2_1 '",
            "compressed with ZCMPTYPE = BZIP2_1; read here are GZIP_1",
        ),
    ],
)
def test_what_is_in_order_but_unknown_is_refused(
    files: dict[str, Path], tmp_path: Path, old: bytes, new: bytes, message: str
) -> None:
    path = edited(files["gzip"], tmp_path / "unknown.fits", old, new)
    with pytest.raises(UserError, match=rf"unknown\.fits.*{message}"):
        open_image(str(path))


def test_other_unit_is_refused_by_name(tmp_path: Path) -> None:
    path = write(make_coadd(unit=u.adu), tmp_path / "adu.fits")
    with pytest.raises(UserError, match=r"adu\.fits: the unit of its image is 'adu', allowed is nJy"):
        open_image(str(path))


def test_minor_version_and_new_cell_shape_are_read(files: dict[str, Path], tmp_path: Path) -> None:
    """Newer code writes pairs by name; the file may say 1.1 then."""
    old = b'"cell_shape":[20,24]'
    new = b'"cell_shape":{"y":20,"x":24}'
    path = tmp_path / "new.fits"
    path.write_bytes(with_tree(files["gzip"].read_bytes(), lambda tree: tree.replace(old, new)))
    content = path.read_bytes().replace(b"cell_coadd-1.0.0' ", b"cell_coadd-1.3.0' ", 1)
    path.write_bytes(content)
    assert content.count(new) == 2
    with open_image(str(path)) as reader:
        assert reader.cell_shape == CELL


def test_origin_comes_from_the_header_if_the_tree_lacks_it(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "origin.fits"
    path.write_bytes(with_tree(files["gzip"].read_bytes(), lambda tree: tree.replace(b'"yx0":', b'"xyz":')))
    with open_image(str(path)) as reader:
        assert (reader.bbox.y0, reader.bbox.x0) == (Y0, X0)


def with_tree(content: bytes, edit: Callable[[bytes], bytes]) -> bytes:
    """Exchange the JSON tree, and correct all that depends on its length."""
    primary = astropy.io.fits.Header.fromstring(content[:2880])
    start, size = primary["JSONADDR"], primary["JSONSIZE"]
    header = astropy.io.fits.Header.fromstring(content[start : start + 2880])
    data = start + 2880
    n_rows = header["NAXIS2"]
    length, offset = struct.unpack(">ii", content[data : data + 8])
    heap = data + 8 * n_rows
    tree = edit(content[heap + offset : heap + offset + length])
    rest = content[heap : heap + offset] + content[heap + offset + length : heap + header["PCOUNT"]]
    assert not rest or n_rows > 1
    places = bytearray(content[data:heap])
    # The new tree goes behind the other rows.
    for row in range(1, n_rows):
        count, place = struct.unpack_from(">ii", places, 8 * row)
        struct.pack_into(">ii", places, 8 * row, count, place - (length if place > offset else 0))
    struct.pack_into(">ii", places, 0, len(tree), len(rest))
    header["PCOUNT"] = len(rest) + len(tree)
    body = bytes(places) + rest + tree
    body += bytes(-len(body) % 2880)
    index = content[primary["INDXADDR"] :]
    old_size = struct.pack(">q", size - 2880)
    assert index.count(old_size) >= 1
    head, _, tail = index.rpartition(old_size)
    index = head + struct.pack(">q", len(body)) + tail
    primary["JSONSIZE"] = 2880 + len(body)
    primary["INDXADDR"] = start + 2880 + len(body)
    return primary.tostring().encode() + content[2880:start] + header.tostring().encode() + body + index


# Damage: what is proven costs what it must, and no more.


@pytest.mark.parametrize("compression", ["gzip", "rice"])
def test_truncated_file_is_found_when_it_is_opened(
    files: dict[str, Path], tmp_path: Path, compression: str
) -> None:
    content = files[compression].read_bytes()
    path = tmp_path / "short.fits"
    for size in (0, 1, 79, 2879, 2880, 5000, len(content) // 2, len(content) - 2880, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(CorruptInputError, match=rf"short\.fits.*{size} bytes"):
            open_image(str(path))


def test_bad_magic_is_corrupt(tmp_path: Path) -> None:
    """A file of zeros is what a full disk or a dead server leaves."""
    path = tmp_path / "zeros.fits"
    path.write_bytes(bytes(100_000))
    with pytest.raises(CorruptInputError, match=r"zeros\.fits: not a FITS file"):
        open_image(str(path))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tree: tree[:-1], "tree is wrong at the text"),
        (lambda tree: b"[" * 5000, "tree is wrong at the text"),
        (lambda tree: tree.replace(b'"band":', b'"bond":'), "wrong at band: Field required"),
        (lambda tree: tree.replace(b'"start":-40', b'"start":"a"'), "wrong at psf.bounds.grid.bbox.y.start"),
        (lambda tree: tree.replace(b'"yx0":[-40', b'"yx0":[-41'), "its planes begin at"),
        (lambda tree: tree.replace(b'"shape":[80,120]', b'"shape":[81,120]', 1), "different shapes"),
        (
            lambda tree: tree.replace(b'"shape":[80,120]', b'"shape":[81,120]'),
            r"IMAGE has the shape \(80, 120\)",
        ),
        (lambda tree: tree.replace(b'"shape":[4,5,21,17]', b'"shape":[5,4,21,17]'), "for .* cells"),
        (lambda tree: tree.replace(b'"shape":[4,5,21,17]', b'"shape":[4,5,17,21]'), "PSF has the shape"),
        (lambda tree: tree.replace(b"fits:VARIANCE", b"fits:ELSEWHERE"), "'fits:ELSEWHERE', which is not in"),
        (lambda tree: tree.replace(b'"PLANE3"', b'"PLANE5"'), "its tree names others"),
    ],
)
def test_tree_that_contradicts_the_file_is_corrupt(
    files: dict[str, Path], tmp_path: Path, edit: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "tree.fits"
    path.write_bytes(with_tree(files["gzip"].read_bytes(), edit))
    with pytest.raises(CorruptInputError, match=rf"tree\.fits.*{message}"):
        open_image(str(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"XTENSION= 'BINTABLE'", b"YTENSION= 'BINTABLE'", "no IMAGE header at byte 2880"),
        (
            b"ZNAXIS1 =                  120",
            b"ZNAXIS1 =                  121",
            r"IMAGE has the shape \(80, 121\)",
        ),
        (b"ZTILE1  =                   24", b"ZTILE1  =                   25", None),
        (b"ZTILE1  =                   24", b"ZTILE1  =                   20", "20 tiles instead of 24"),
        (b"ZBITPIX =                  -32", b"ZBITPIX =                  -31", "pixel type ZBITPIX = -31"),
        (
            b"MSKM0001=                    2",
            b"MSKM0001=                    3",
            "MSKN0001 of MASK has the value 3",
        ),
        (b"MSKM0001=                    2", b"MSKM0001=                    1", "share a name or a bit"),
        (b"EXTNAME = 'MASK    '", b"EXTNAME = 'MUSK    '", "HDU 2 is .*MUSK"),
        (b"CRVAL1A =               2952.0", b"CRVAL1A =               2951.0", "its planes begin at"),
        (b"CRPIX1  =", b"CRPIY1  =", "CRPIX1 of IMAGE is missing, it must be a number"),
        (b"PCOUNT  =                ", b"PCOUNT  =               9", "another size than its INDEX says"),
    ],
)
def test_header_that_contradicts_the_file_is_corrupt(
    files: dict[str, Path], tmp_path: Path, old: bytes, new: bytes, message: str | None
) -> None:
    path = edited(files["gzip"], tmp_path / "header.fits", old, new)
    if message is None:
        # As many tiles as before, but of another shape: they will not fit.
        with (
            open_image(str(path)) as reader,
            pytest.raises(CorruptInputError, match="1920 bytes for 500 pixels"),
        ):
            whole(reader, "image")
        return
    with pytest.raises(CorruptInputError, match=rf"header\.fits.*{message}"):
        open_image(str(path))


def heap_of(path: Path, name: str) -> tuple[int, np.ndarray]:
    """Address of the heap of an HDU, and its descriptors (count, offset)."""
    with astropy.io.fits.open(path, disable_image_compression=True) as hdus:
        header = hdus[name].header
        data = hdus[name].fileinfo()["datLoc"]
        rows = header["NAXIS2"]
        raw = np.frombuffer(path.read_bytes(), dtype=np.uint8)[data : data + rows * header["NAXIS1"]]
        descriptors = raw.reshape(rows, -1)[:, :8].copy().view(">i4").astype(int)
    return data + rows * header["NAXIS1"], descriptors


@pytest.mark.parametrize("compression", ["gzip", "rice"])
def test_damaged_tile_costs_that_tile_alone(files: dict[str, Path], tmp_path: Path, compression: str) -> None:
    """Also where it would have been read in one go with its neighbours."""
    source = files[compression]
    heap, descriptors = heap_of(source, "IMAGE")
    tile = (1, 3)
    count, offset = descriptors[tile[0] * N_CELLS[1] + tile[1]]
    content = bytearray(source.read_bytes())
    # Rice takes ones for the shortest codes, and is at its end too late.
    content[heap + offset + 8 : heap + offset + count] = bytes(count - 8)
    path = tmp_path / "damaged.fits"
    path.write_bytes(content)
    good, bad = [], []
    with open_image(str(path)) as reader:
        tiles = iter(TileByTile(reader, "image", reader.tiles_touching(reader.bbox)))
        while True:
            try:
                box, pixels = next(tiles)
            except StopIteration:
                break
            except CorruptInputError as error:
                assert "damaged.fits" in str(error) and "IMAGE" in str(error)
                bad.append(error.box)
            else:
                good.append(box)
                np.testing.assert_array_equal(
                    pixels, astropy_planes(source)["image"][box.slices(reader.bbox)]
                )
        assert bad == [reader.tile_box(*tile)]
        assert len(good) == N_CELLS[0] * N_CELLS[1] - 1
        np.testing.assert_array_equal(whole(reader, "variance"), astropy_planes(source)["variance"])


def test_gzip_stream_without_an_end_does_not_hang(files: dict[str, Path], tmp_path: Path) -> None:
    """CFITSIO waits for the end of such a stream for ever, and takes memory
    without bound: it must not see one, neither in a lossless file nor as a
    tile that could not be quantized.
    """
    for compression, column in (("gzip", 0), ("rice", 1), ("other", 0)):
        source = files[compression]
        content = bytearray(source.read_bytes())
        with astropy.io.fits.open(source, disable_image_compression=True) as hdus:
            data, width = hdus["IMAGE"].fileinfo()["datLoc"], hdus["IMAGE"].header["NAXIS1"]
        n_shortened = 0
        for row in range(N_CELLS[0] * N_CELLS[1]):
            count = struct.unpack_from(">i", content, data + row * width + 8 * column)[0]
            if count > 20:
                struct.pack_into(">i", content, data + row * width + 8 * column, count - 12)
                n_shortened += 1
        assert n_shortened
        path = tmp_path / f"endless_{compression}.fits"
        path.write_bytes(content)
        run = subprocess.run(
            [sys.executable, "-c", COUNT_DAMAGE, str(path)], capture_output=True, text=True, timeout=60
        )
        assert run.returncode == 0, run.stderr
        assert int(run.stdout) >= n_shortened


def test_rice_stream_that_goes_on_for_ever_does_not_crash(tmp_path: Path) -> None:
    """CFITSIO looks for the next bit that is set, far behind the end of a tile
    if need be: where the memory there is empty, the process dies of it.
    """
    path = write(
        make_coadd(cell=(150, 150), n_cells=(3, 4), missing=((0, 0),)), tmp_path / "zeros.fits", "rice"
    )
    content = bytearray(path.read_bytes())
    heap, descriptors = heap_of(path, "IMAGE")
    for count, offset in descriptors:
        content[heap + offset + min(9, count) : heap + offset + count] = bytes(max(0, count - 9))
    path.write_bytes(content)
    run = subprocess.run(
        [sys.executable, "-c", COUNT_DAMAGE, str(path)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == np.count_nonzero(descriptors[:, 0])


@given(
    values=st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-9, 9), min_size=1, max_size=200),
    cut=st.integers(1, 400),
)
def test_rice_stream_is_read_up_to_its_end_and_no_further(values: list[int], cut: int) -> None:
    packed = _compression.compress_rice_1_c(np.array(values, dtype=np.int32).tobytes(), 32, 4)
    stream = np.frombuffer(packed + bytes(8 * 32 + MARGIN), dtype="u1")
    n_pixels, found = len(values), np.empty(len(values) + 320, dtype="i4")
    assert unrice(stream, 0, len(packed), 32, 4, n_pixels, n_pixels, found)
    assert found[:n_pixels].tolist() == values
    assert not unrice(stream, 0, max(1, len(packed) - cut), 32, 4, len(found), len(found), found)


COUNT_DAMAGE = """
import sys
from lsst.dax.bulkcutout.errors import CorruptInputError
from lsst.dax.bulkcutout.readers import open_image
from lsst.dax.bulkcutout.tests.tile_reading import TileByTile
n_damaged = 0
with open_image(sys.argv[1]) as reader:
    for plane in ("image", "variance", "mask"):
        tiles = iter(TileByTile(reader, plane, reader.tiles_touching(reader.bbox)))
        while True:
            try:
                next(tiles)
            except StopIteration:
                break
            except CorruptInputError:
                n_damaged += 1
print(n_damaged)
"""


def test_damaged_kernel_costs_its_cell_alone(files: dict[str, Path], tmp_path: Path) -> None:
    heap, descriptors = heap_of(files["gzip"], "PSF")
    cell = (1, 2)
    _, offset = descriptors[(cell[0] * N_CELLS[1] + cell[1]) * 21 + 4]
    content = bytearray(files["gzip"].read_bytes())
    content[heap + offset + 15] ^= 1
    path = tmp_path / "kernel.fits"
    path.write_bytes(content)
    with open_image(str(path)) as reader:
        with pytest.raises(CorruptInputError, match=r"kernel\.fits: kernel \(1, 2\) of PSF") as caught:
            reader.psf_kernels([(1, 1), cell])
        assert caught.value.box == reader.tile_box(*cell)
        assert np.isfinite(reader.psf_kernels([(1, 1), (1, 3)])).all()


def test_checksums_are_verified_on_request(files: dict[str, Path], tmp_path: Path) -> None:
    """Rice has no checksum of its own: a wrong bit is another pixel."""
    path = tmp_path / "sums.fits"
    with astropy.io.fits.open(files["rice"], disable_image_compression=True) as hdus:
        # The cards must fit into the padding of the headers.
        hdus.writeto(path, checksum=True, output_verify="ignore")
    assert path.stat().st_size == files["rice"].stat().st_size
    open_image(str(path), verify_checksums=True).close()
    heap, descriptors = heap_of(path, "VARIANCE")
    content = bytearray(path.read_bytes())
    content[heap + descriptors[8, 1] + 30] ^= 16
    path.write_bytes(content)
    open_image(str(path)).close()
    with pytest.raises(CorruptInputError, match=r"sums\.fits: the data of VARIANCE have the checksum"):
        open_image(str(path), verify_checksums=True)
    content[heap + descriptors[8, 1] + 30] ^= 16
    content = content.replace(b"MSKN0003= 'PLANE3 ", b"MSKN0003= 'PLANE3X", 1)
    path.write_bytes(content.replace(b'"PLANE3"', b'"PLANE3X"'))
    with pytest.raises(CorruptInputError):
        open_image(str(path), verify_checksums=True)


@pytest.mark.parametrize("number", [2, 5, 116])
def test_error_of_the_machine_passes_through(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """ENOENT, EIO, ESTALE prove nothing about the file: try again."""
    real = os.pread
    fails = False

    def pread(descriptor: int, size: int, address: int) -> bytes:
        if fails:
            raise OSError(number, os.strerror(number))
        return real(descriptor, size, address)

    monkeypatch.setattr(os, "pread", pread)
    with open_image(str(files["gzip"])) as reader:
        tiles = iter(TileByTile(reader, "image", [(1, 2), (1, 3)]))
        fails = True
        with pytest.raises(OSError) as caught:
            next(tiles)
        assert caught.value.errno == number
        with pytest.raises(OSError):
            reader.psf_kernels([(1, 1)])
        with pytest.raises(OSError):
            open_image(str(files["gzip"]))
        fails = False
        # Nothing was lost by it.
        assert [box for box, _ in tiles] == [reader.tile_box(1, 2), reader.tile_box(1, 3)]
        assert np.isfinite(reader.psf_kernels([(1, 1)])).all()


def test_missing_file_and_directory_are_errors_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_image(str(tmp_path / "none.fits"))
    with pytest.raises(IsADirectoryError):
        open_image(str(tmp_path))


def test_file_that_shrinks_while_it_is_open_is_tried_again(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "shrinks.fits"
    path.write_bytes(files["gzip"].read_bytes())
    with open_image(str(path)) as reader:
        os.truncate(path, 20_000)
        with pytest.raises(OSError, match="became shorter"):
            whole(reader, "variance")


@pytest.mark.parametrize("compression", ["gzip", "rice"])
def test_flipped_bytes_are_an_error_or_other_pixels(files: dict[str, Path], compression: str) -> None:
    """Never a crash, a hang, or an error that does not name the damage."""
    spans = []
    for name in ("IMAGE", "MASK", "VARIANCE", "PSF"):
        heap, descriptors = heap_of(files[compression], name)
        width = 8 if compression == "gzip" or name in ("MASK", "PSF") else 32
        spans.append((heap - width * len(descriptors), heap + int(descriptors.sum(axis=1).max())))
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", FLIP, str(files[compression]), repr(spans)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    n_damaged, n_changed = (int(word) for word in run.stdout.split())
    # Each byte of a gzip stream is under its checksum.
    assert n_damaged > 50
    assert (n_changed > 10) == (compression == "rice")


FLIP = """
import ast, sys, tempfile
import numpy as np
from lsst.dax.bulkcutout.errors import CorruptInputError
from lsst.dax.bulkcutout.readers import open_image
from lsst.dax.bulkcutout.tests.tile_reading import TileByTile

source, spans = open(sys.argv[1], "rb").read(), ast.literal_eval(sys.argv[2])

def read(path):
    planes, damaged = {}, 0
    with open_image(path) as reader:
        for plane in ("image", "mask", "variance"):
            tiles = iter(TileByTile(reader, plane, reader.tiles_touching(reader.bbox)))
            planes[plane] = []
            while True:
                try:
                    planes[plane].append(next(tiles)[1].tobytes())
                except StopIteration:
                    break
                except CorruptInputError as error:
                    assert error.box is not None
                    planes[plane].append(None)
                    damaged += 1
        try:
            reader.psf_kernels(np.argwhere(np.ones(reader.n_cells)))
        except CorruptInputError:
            damaged += 1
    return planes, damaged

good, _ = read(sys.argv[1])
n_damaged = n_changed = 0
with tempfile.NamedTemporaryFile(suffix=".fits") as file:
    for case in range(100):
        rng = np.random.default_rng(case)
        content = bytearray(source)
        for _ in range(rng.choice([1, 3, 20])):
            start, stop = spans[rng.integers(len(spans))]
            at = rng.integers(start, stop)
            if case % 2:
                content[at] ^= rng.integers(1, 256)
            else:
                # As a lost sector would be, in these small tiles.
                size = min(stop - at, rng.integers(1, 60))
                content[at : at + size] = bytes([rng.choice([0, 255])]) * size
        file.seek(0)
        file.write(content)
        file.flush()
        planes, damaged = read(file.name)
        n_damaged += damaged > 0
        n_changed += any(
            a is not None and a != b for name in good for a, b in zip(planes[name], good[name], strict=True)
        )
print(n_damaged, n_changed)
"""


# Real and full-size files.


@pytest.fixture(scope="module")
def dp2_file() -> Path:
    """A cut-out of a DP2 coadd, where the data are present."""
    root = os.environ.get("BULKCUTOUT_REAL_DATA")
    folder = Path(root) if root else Path(__file__).parents[2] / "shared" / "data" / "real"
    path = folder / "lsst_dp2_coadd" / "deep_coadd_5428_76_g.fits"
    if not path.is_file():
        pytest.skip("no real data: set BULKCUTOUT_REAL_DATA to the directory that has lsst_dp2_coadd")
    return path


def test_real_dp2_coadd_is_what_lsst_images_says(dp2_file: Path) -> None:
    with open_image(str(dp2_file)) as reader:
        check_against_astropy(dp2_file, reader)
        check_against_lsst_images(dp2_file, reader)
        assert (reader.tract, reader.patch, reader.band, reader.background) == (5428, 76, "g", "object")
        names = (
            "NO_DATA INTERPOLATED COSMIC_RAY SATURATED DETECTION_EDGE CLIPPED REJECTED DETECTED INEXACT_PSF"
        )
        assert [plane.name for plane in reader.mask_planes] == names.split()
        assert [plane.bit for plane in reader.mask_planes] == list(range(9))


@dataclasses.dataclass
class FullSize:
    """A patch of DP2's size."""

    path: Path
    image: np.ndarray
    mask: np.ndarray


@pytest.fixture(scope="module", params=["gzip", "rice"])
def full_size(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullSize]:
    """Write 22 x 22 cells of 150 px: smooth, so that it takes little time."""
    coadd = make_coadd(
        cell=(150, 150), n_cells=(22, 22), missing=((0, 0), (21, 3)), n_planes=4, kernel=(5, 7)
    )
    y, x = np.indices(coadd.image.array.shape, dtype=np.float32)
    empty = np.isnan(coadd.image.array)
    coadd.image.array[...] = np.where(empty, np.nan, y // 64 + (x // 64) * 64 + (x % 2))
    coadd.variance.array[...] = np.where(empty, np.nan, 1.0 + (y % 2))
    for name in ("DETECTED", "PLANE2", "PLANE3"):
        coadd.mask.clear(name)
    coadd.mask.set("DETECTED", (y % 512 < 8) & (x % 512 < 300))
    path = write(coadd, tmp_path_factory.mktemp("full") / f"{request.param}.fits", request.param)
    yield FullSize(path, coadd.image.array, coadd.mask.get("DETECTED"))
    path.unlink()


def test_full_size_patch_is_read_by_tiles(full_size: FullSize) -> None:
    with open_image(str(full_size.path)) as reader:
        assert reader.bbox.shape == (3300, 3300)
        assert (reader.tile_shape, reader.n_tiles, reader.n_cells) == ((150, 150), (22, 22), (22, 22))
        check_against_astropy(full_size.path, reader)
        mask = whole(reader, "mask")
        bits = {plane.name: plane.bit for plane in reader.mask_planes}
        np.testing.assert_array_equal(mask >> bits["NO_DATA"] & 1, np.isnan(full_size.image))
        np.testing.assert_array_equal(mask >> bits["DETECTED"] & 1, full_size.mask)
        kernels = reader.psf_kernels(np.argwhere(np.ones((22, 22))))
        with astropy.io.fits.open(full_size.path) as hdus:
            expected = hdus["PSF"].data.astype(np.float32).reshape(kernels.shape)
        np.testing.assert_array_equal(kernels, expected)
        assert np.isnan(kernels).all(axis=(1, 2)).sum() == 2


def test_one_cutout_of_a_full_size_patch_reads_four_tiles(full_size: FullSize) -> None:
    box = Box(y0=Y0 + 1480, y1=Y0 + 1544, x0=X0 + 2680, x1=X0 + 2744)
    with open_image(str(full_size.path)) as reader:
        tiles = reader.tiles_touching(box)
        assert tiles == [(9, 17), (9, 18), (10, 17), (10, 18)]
        cutout = np.zeros(box.shape, dtype=np.float32)
        for tile, pixels in TileByTile(reader, "image", tiles):
            part = tile.intersection(box)
            assert part is not None
            cutout[part.slices(box)] = pixels[part.slices(tile)]
    np.testing.assert_allclose(cutout, full_size.image[box.slices(reader.bbox)], atol=0.1)
