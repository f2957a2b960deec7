# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The contact sheet."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from lsst.dax.bulkcutout import open_cutouts, preview
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.notable import NotableRows
from lsst.dax.bulkcutout.preview import rgb_bands, write_preview
from lsst.dax.bulkcutout.tests.products import SmallProduct

# First panel of a sheet of 16 px cutouts, magnified nine times.
LEFT, TOP, SIDE = 12, 54, 144


def sheet(product: Path, change: Callable[[h5py.File], Any] | None = None, **kwargs: Any) -> np.ndarray:
    """Draw a product after a change of its file; (y, x, 3)."""
    if change is not None:
        with h5py.File(next(product.glob("size=*/*")), "r+") as file:
            change(file)
    return np.asarray(Image.open(write_preview(product, **kwargs))).astype(int)


def first_panel(picture: np.ndarray) -> np.ndarray:
    return picture[TOP : TOP + SIDE, LEFT : LEFT + SIDE]


@pytest.fixture
def product(tmp_path: Path) -> Path:
    return SmallProduct(tmp_path).make().out


def flat_with(value: float, where: tuple[slice, ...]) -> Callable[[h5py.File], None]:
    """Make noise of 1 nJy everywhere, and ``value`` somewhere."""

    def change(file: h5py.File) -> None:
        flux = np.random.default_rng(2).normal(0, 1, file["images/flux"].shape)
        flux[where] = value
        file["images/flux"][...] = flux

    return change


def ordinary(file: h5py.File) -> None:
    """Leave nothing special about any row."""
    file["images/band_status"][...] = 0
    file["images/valid_fraction"][...] = 1
    file["images/psf_valid"][...] = file["images/center_valid"][...] = True
    file["images/psf_cell"][...] = 3
    file["images/mask"][...] = 0
    file["images/n_patches"][...] = 1
    file["images/stitched"][...] = file["catalog/fallback"][...] = False


@pytest.mark.parametrize(
    ("bands", "colours"),
    [
        ("ugrizy", ("i", "r", "g")),
        ("gri", ("i", "r", "g")),
        ("rizy", ("z", "i", "r")),
        ("ugz", ("z", "g", "u")),
        ("ugizy", ("z", "i", "g")),
    ],
)
def test_reddest_band_is_red(bands: str, colours: tuple[str, ...]) -> None:
    assert rgb_bands(tuple(bands)) == tuple((band,) for band in colours)


def test_two_bands_make_their_own_green_and_one_makes_grey() -> None:
    assert rgb_bands(("g", "i")) == (("i",), ("g", "i"), ("g",))
    assert rgb_bands(("z",)) == (("z",),)


def test_first_row_of_the_array_is_at_the_bottom(product: Path) -> None:
    """Bright pixels in the lower left corner, y < 4 and x < 8."""
    panel = first_panel(sheet(product, flat_with(1e4, (slice(None), slice(None), slice(4), slice(8)))))
    bright = panel.min(axis=2) > 200
    assert bright[-36:, :72].all()
    assert not bright[:-36].any()
    assert not bright[:, 72:].any()


def test_colours_are_those_of_the_bands(product: Path) -> None:
    """Bands of the file are g, r, i: light in g alone is blue."""
    panel = first_panel(sheet(product, flat_with(1e3, (slice(None), 0, slice(4, 12), slice(4, 12)))))
    red, green, blue = panel[72, 72]
    assert blue > 200
    assert max(red, green) < 60


def test_missing_pixels_are_hatched_and_never_black(product: Path) -> None:
    panel = first_panel(sheet(product, flat_with(np.nan, (slice(None), slice(None), slice(4)))))
    missing = panel[-36:]
    assert missing.min() > 150
    assert len(np.unique(missing.reshape(-1, 3), axis=0)) == 2
    assert panel[:-36].min() < 60


def test_pixel_without_one_of_the_colours_is_grey(product: Path) -> None:
    def change(file: h5py.File) -> None:
        flat_with(1e3, (slice(None), slice(None), slice(4, 12), slice(4, 12)))(file)
        file["images/flux"][:, 1] = np.nan

    red, green, blue = first_panel(sheet(product, change))[72, 72]
    assert red == green == blue > 100


def test_one_stretch_serves_the_whole_sheet(product: Path) -> None:
    """A source ten times as bright in the second cutout looks brighter."""

    def change(file: h5py.File) -> None:
        ordinary(file)
        flat_with(20.0, (slice(None), slice(None), slice(4, 12), slice(4, 12)))(file)
        file["images/flux"][1, :, 4:12, 4:12] = 200.0

    picture = sheet(product, change)
    faint = picture[TOP + 72, LEFT + 72]
    bright = picture[TOP + 72, LEFT + SIDE + 12 + 72]
    assert (bright > faint + 50).all()


def test_one_band_is_drawn_in_grey(tmp_path: Path) -> None:
    panel = first_panel(sheet(SmallProduct(tmp_path, bands=("r",)).make().out, ordinary))
    assert (panel == panel[..., :1]).all()
    assert np.ptp(panel) > 0


def test_north_and_east_follow_the_projection(product: Path) -> None:
    """North is up and east left; then the sky is turned by 30 degrees."""
    with open_cutouts(product) as cutouts:
        panel = preview._read_panel(cutouts[0], (("r",),))
    assert panel.north == pytest.approx((0, 1), abs=1e-3)
    assert panel.east == pytest.approx((-1, 0), abs=1e-3)
    assert panel.arcsec_per_pixel == pytest.approx(0.2 / 9)
    with h5py.File(next(product.glob("size=*/*")), "r+") as file:
        cos, sin, step = math.cos(math.radians(30)), math.sin(math.radians(30)), 0.2 / 3600
        # Turn the pixels, not the sky: CD of a camera that is rotated.
        file["wcs/cd"][...] = [[-step * cos, step * sin], [step * sin, step * cos]]
        # The target must stay near the tangent point for this to be exact.
        file["wcs/crval"][:, 0], file["wcs/crval"][:, 1] = file["catalog/ra"], file["catalog/dec"]
        file["wcs/crpix"][:, 0] = file["catalog/x_cutout"][:] + 1
        file["wcs/crpix"][:, 1] = file["catalog/y_cutout"][:] + 1
    with open_cutouts(product) as cutouts:
        panel = preview._read_panel(cutouts[0], (("r",),))
    assert panel.north == pytest.approx((sin, cos), abs=1e-3)
    assert panel.east == pytest.approx((-cos, sin), abs=1e-3)


def test_large_cutouts_are_averaged() -> None:
    """Blocks of 2 x 2; one that has some pixels has a value."""
    image = np.arange(25, dtype="f4").reshape(5, 5)
    image[4, 4] = np.nan
    image[0, 0] = np.nan
    reduced = preview._reduce(image, 2)
    assert reduced.shape == (3, 3)
    assert reduced[0, 0] == np.mean([1, 5, 6])
    assert reduced[2, 0] == np.mean([20, 21])
    assert np.isnan(reduced[2, 2])


def shown_by(monkeypatch: pytest.MonkeyPatch, product: Path, most: int) -> list[tuple[int, str]]:
    """Row in the file and caption of each panel."""
    shown: list[tuple[int, str]] = []
    read_panel = preview._read_panel

    def record(cutout: Any, colours: Any, words: Any) -> Any:
        shown.append((cutout.index, "; ".join(words)))
        return read_panel(cutout, colours, words)

    monkeypatch.setattr(preview, "_read_panel", record)
    write_preview(product, most=most)
    return shown


def test_ordinary_cutouts_are_spread_over_the_product(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(next(product.glob("size=*/*")), "r+") as file:
        ordinary(file)
    assert shown_by(monkeypatch, product, 3) == [(1, ""), (3, ""), (5, "")]


def make_special(file: h5py.File) -> None:
    """Seven cutouts with one thing each, and the last with several."""
    ordinary(file)
    file["images/psf_cell"][0] = (7, 9)
    file["images/psf_cell"][4] = (7, 9)
    # Row 0 leaves its image at its last cell; so does row 1, which lies in
    # the middle, so that its gap is another one.
    file["images/valid_fraction"][0] = 0.5
    file["images/valid_fraction"][1] = 0.25
    file["images/band_status"][2, 1] = 1
    for name in ("psf_valid", "center_valid"):
        file[f"images/{name}"][3, :2] = False
    file["images/psf_cell"][3, :2] = -1
    file["images/valid_fraction"][3, :2] = 0.7
    file["images/mask"][4, 2, 6:11, 6:10] = 1 << 3
    file["images/n_patches"][5] = 3
    file["images/stitched"][5] = True
    file["images/band_status"][6, 0] = 3
    file["images/band_status"][6, 1] = 1
    file["catalog/fallback"][6] = True


def test_special_cutouts_come_first_and_are_captioned(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(next(product.glob("size=*/*")), "r+") as file:
        make_special(file)
    captions = {
        0: "edge of coverage",
        1: "25 % covered",
        2: "no r band",
        3: "missing cell in g, r",
        4: "saturated in i",
        5: "stitched from 3 patches",
        6: "no r band; unreadable in g; patch standing in",
    }
    assert shown_by(monkeypatch, product, 24) == [(row, captions[row]) for row in (0, 2, 3, 1, 4, 5, 6)]


def test_images_without_psf_have_holes_and_no_cells(product: Path) -> None:
    with h5py.File(next(product.glob("size=*/*")), "r+") as file:
        ordinary(file)
        file["images/psf_valid"][...] = False
        file["images/center_valid"][3, 1] = False
    with open_cutouts(product) as cutouts:
        notable = NotableRows(cutouts)
        assert notable.numbers == (3,)
        assert notable.describe(3) == ("hole in r",)


def test_one_of_each_kind_is_shown_where_there_is_room(
    product: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(next(product.glob("size=*/*")), "r+") as file:
        make_special(file)
    assert [row for row, _ in shown_by(monkeypatch, product, 2)] == [0, 4]
    with open_cutouts(product) as cutouts:
        assert NotableRows(cutouts, each=1).numbers == (0, 2, 3, 4, 5)


def test_captions_are_drawn_below_their_panels(product: Path) -> None:
    """In a colour of their own, and only where there is something to say."""
    picture = sheet(product, make_special)
    orange = (picture == preview._SPECIAL).all(axis=2)
    below = orange[TOP + SIDE + 4 : TOP + SIDE + 34]
    for column in range(7):
        left = LEFT + column * 156
        assert below[:, left : left + SIDE].any()
    assert not orange[:TOP].any() and not orange[TOP : TOP + SIDE].any()
    assert not (sheet(product, ordinary) == preview._SPECIAL).all(axis=2).any()


def test_product_without_masks_and_newer_columns_is_drawn(tmp_path: Path) -> None:
    out = SmallProduct(tmp_path, planes=("image",)).make().out
    with h5py.File(next(out.glob("size=*/*")), "r+") as file:
        for name in ("images/n_patches", "images/stitched", "catalog/fallback"):
            del file[name]
    with open_cutouts(out) as cutouts:
        notable = NotableRows(cutouts)
        assert [notable.describe(number)[0] for number in range(4, 7)] == ["no i band"] * 3
    assert write_preview(out).exists()


def test_same_product_gives_the_same_picture(product: Path, tmp_path: Path) -> None:
    first = write_preview(product).read_bytes()
    assert write_preview(product, tmp_path / "again.png").read_bytes() == first
    assert not list(product.glob(".*"))


def test_mixed_sizes_share_a_sheet(tmp_path: Path) -> None:
    picture = sheet(SmallProduct(tmp_path, sizes=(9, 16), text_ids=True).make().out)
    assert picture.shape == (54 + 144 + 60 + 12, 12 + 7 * 156, 3)


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no cutouts to show"):
        write_preview(SmallProduct(tmp_path / "empty", empty=True).make().out)
    with pytest.raises(UserError, match="no image"):
        write_preview(SmallProduct(tmp_path / "masks", planes=("mask",)).make().out)
