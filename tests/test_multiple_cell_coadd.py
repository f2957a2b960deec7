# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The reader of the older layout of cell coadds, written after cell_coadds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.io.fits
import astropy.wcs
import numpy as np
import pytest

from lsst.dax.bulkcutout.boxes import Box
from lsst.dax.bulkcutout.errors import CorruptInputError, UserError
from lsst.dax.bulkcutout.readers import ImageReader, open_image
from lsst.dax.bulkcutout.tests.old_cell_coadds import OldCellCoadd
from lsst.dax.bulkcutout.tests.tile_reading import TileByTile
from lsst.dax.bulkcutout.verify.input_hdus import stitch_cells

WCS: dict[str, Any] = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 37.3,
    "CRVAL2": 6.7,
    "CRPIX1": 15000.0,
    "CRPIX2": 15000.0,
    "CD1_1": -0.2 / 3600,
    "CD1_2": 0.02 / 3600,
    "CD2_1": 0.01 / 3600,
    "CD2_2": 0.2 / 3600,
    "RADESYS": "ICRS",
}


@pytest.fixture
def coadd() -> OldCellCoadd:
    return OldCellCoadd.coded(origin=(20_900, -137))


def whole(reader: ImageReader, plane: str) -> np.ndarray:
    pixels: np.ndarray | None = None
    for box, values in TileByTile(reader, plane, reader.tiles_touching(reader.bbox)):
        pixels = np.zeros(reader.bbox.shape, values.dtype) if pixels is None else pixels
        pixels[box.slices(reader.bbox)] = values
    assert pixels is not None
    return pixels


def test_cells_become_an_image(coadd: OldCellCoadd, tmp_path: Path) -> None:
    """Each pixel is its own cell's, that of the border the outermost one's; a
    cell without a row has no data.
    """
    with open_image(str(coadd.write(tmp_path / "old.fits", WCS))) as reader:
        assert type(reader).__name__ == "MultipleCellCoaddReader"
        assert reader.bbox == coadd.bbox and reader.n_tiles == reader.n_cells == (4, 3)
        np.testing.assert_array_equal(whole(reader, "image"), coadd.image)
        np.testing.assert_array_equal(whole(reader, "variance"), coadd.variance)
        np.testing.assert_array_equal(whole(reader, "mask"), coadd.mask)
        np.testing.assert_array_equal(whole(reader, "noise/0"), coadd.noise)
        np.testing.assert_array_equal(whole(reader, "mask_fraction/MASKFRAC"), coadd.fraction)
        assert reader.extra_planes == ("noise/0", "mask_fraction/MASKFRAC")
        assert {plane.name: plane.bit for plane in reader.mask_planes} == coadd.bits
        assert reader.missing_cells == set(coadd.missing)
        assert (reader.skymap, reader.tract, reader.patch_index) == ("lsst_cells_v1", 10463, (7, 3))
        assert (reader.band, reader.unit, reader.planes) == ("r", "nJy", {"image", "variance", "mask", "psf"})


def test_second_opinion_is_the_same(coadd: OldCellCoadd, tmp_path: Path) -> None:
    path = coadd.write(tmp_path / "old.fits", WCS)
    with astropy.io.fits.open(path) as hdus:
        planes = stitch_cells(hdus)
        np.testing.assert_array_equal(planes["IMAGE"].data, coadd.image)
        np.testing.assert_array_equal(planes["MASK"].data, coadd.mask)
        np.testing.assert_array_equal(planes["NOISE_REALIZATIONS/0"].data, coadd.noise)


def test_projection_is_in_tract_pixels(coadd: OldCellCoadd, tmp_path: Path) -> None:
    header = astropy.io.fits.Header()
    header.update(WCS)
    x, y = np.array([100.0, -120.5]), np.array([20_950.25, 20_910.0])
    ra, dec = astropy.wcs.WCS(header).all_pix2world(x, y, 0)
    with open_image(str(coadd.write(tmp_path / "old.fits", WCS))) as reader:
        np.testing.assert_allclose(reader.wcs.sky_to_pixel(ra, dec), (x, y), rtol=0, atol=1e-7)


def test_kernels_are_those_of_the_cells(coadd: OldCellCoadd, tmp_path: Path) -> None:
    with open_image(str(coadd.write(tmp_path / "old.fits", WCS))) as reader:
        assert reader.psf_shape == (7, 9)
        box = coadd.bbox
        y = np.array([box.y0, 20_899.6, 20_911.4, 20_911.6, box.y1 - 1, box.y1])
        x = np.array([box.x0, -137.0, -122.6, -122.4, box.x1 - 1, 0])
        cells = reader.cell_of(y, x)
        assert cells.tolist() == [[0, 0], [0, 0], [0, 0], [1, 1], [3, 2], [-1, -1]]
        kernels = reader.psf_kernels(cells)
        for kernel, (iy, ix) in zip(kernels[:-1], cells[:-1].tolist(), strict=True):
            np.testing.assert_array_equal(kernel, coadd.psf[iy, ix].astype("f4"))
        assert np.isnan(kernels[-1]).all() and np.isnan(reader.psf_kernels([(2, 2)])).all()


def test_only_the_cells_that_are_touched(coadd: OldCellCoadd, tmp_path: Path) -> None:
    with open_image(str(coadd.write(tmp_path / "old.fits", WCS))) as reader:
        y, x = 20_900, -137
        # Pixels of the border belong to the outermost cells.
        assert reader.tiles_touching(Box(y0=y - 50, y1=y - 4, x0=x - 50, x1=x + 15)) == [(0, 0)]
        assert reader.tiles_touching(Box(y0=y + 11, y1=y + 13, x0=x + 14, x1=x + 16)) == [
            (0, 0), (0, 1), (1, 0), (1, 1)
        ]  # fmt: skip
        assert reader.tiles_touching(Box(y0=0, y1=10, x0=0, x1=10)) == []
        boxes = [reader.tile_box(*tile) for tile in reader.tiles_touching(reader.bbox)]
        assert sum(box.shape[0] * box.shape[1] for box in boxes) == coadd.image.size


@pytest.mark.parametrize(("unit", "kept"), [("legacy", "legacy"), ("chi", "chi"), (None, "unknown")])
def test_units_without_a_zero_point_are_kept(
    coadd: OldCellCoadd, tmp_path: Path, unit: str | None, kept: str
) -> None:
    with open_image(str(coadd.write(tmp_path / "old.fits", WCS, TUNIT2=unit))) as reader:
        assert reader.unit == kept
        np.testing.assert_array_equal(whole(reader, "image"), coadd.image)


@pytest.mark.parametrize(
    ("cards", "kind", "said"),
    [
        ({"VERSION": "1.0"}, UserError, "version is 1.0; this release reads 0.x"),
        ({"OCELL1": 26}, CorruptInputError, "column image has 550 values in a row instead of 572|border"),
        ({"OCELL1": 24}, CorruptInputError, "with their border"),
        ({"GRSHAPE1": 2}, CorruptInputError, "is of cell .*, twice or outside the grid"),
        ({"GRSHAPE2": 10**9}, CorruptInputError, "its grid has"),
        ({"PSFSIZE1": 8}, CorruptInputError, "column psf has 63 values in a row instead of 56"),
    ],
)
def test_what_contradicts_itself_is_refused(
    coadd: OldCellCoadd, tmp_path: Path, cards: dict[str, Any], kind: type[Exception], said: str
) -> None:
    path = coadd.write(tmp_path / "old.fits", WCS, **cards)
    with pytest.raises(kind, match=said):
        open_image(str(path))


def test_table_of_mask_planes_without_its_columns_is_corrupt(coadd: OldCellCoadd, tmp_path: Path) -> None:
    path = coadd.write(tmp_path / "old.fits", WCS)
    path.write_bytes(path.read_bytes().replace(b"'BIT_VALUE'", b"'BIT_VALVE'"))
    with pytest.raises(CorruptInputError, match="MASKDEF lacks MASK_NAME or BIT_VALUE"):
        open_image(str(path))


def test_checksum_is_verified_on_request(coadd: OldCellCoadd, tmp_path: Path) -> None:
    path = coadd.write(tmp_path / "old.fits", WCS)
    open_image(str(path), verify_checksums=True).close()
    with astropy.io.fits.open(path) as hdus:
        place = hdus[1].fileinfo()["datLoc"] + 3000
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    with pytest.raises(CorruptInputError, match="checksum"):
        open_image(str(path), verify_checksums=True)
