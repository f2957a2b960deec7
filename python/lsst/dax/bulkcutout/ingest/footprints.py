# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Where images are on the sky: their pixel grids, boxes and regions."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lsst.sphgeom import ConvexPolygon, UnitVector3d

from ..boxes import Box
from ..errors import UserError
from ..readers import open_image
from ..readers.fits_extension import walk_extensions
from ..readers.fits_file import FitsFile
from ..sphere import unit_vectors
from ..wcs import Wcs

__all__ = ("BandRule", "Footprint", "join_regions", "read_footprint", "region_of")

SAME_GRID_PIXELS = 1e-6
"""How far the pixels of images on the same grid may be apart."""

_BAND_CARDS = ("BAND", "FILTER", "FILTER1", "FILTNAM")
_BAND = re.compile(r"(?:HSC-)?([A-Za-z0-9_]+)")
_CARD_NAME = re.compile(r"[A-Z0-9_-]{1,8}")
_SIDE_POINTS = 8


@dataclasses.dataclass(frozen=True)
class BandRule:
    """How the band of an image is found."""

    band: str | None = None
    """The band of all images."""

    source: str | None = None
    """A FITS card, or a regular expression with one group that finds the band
    in the name of the file."""

    def of(self, path: Path, stated: str | None) -> str:
        """Find the band of an image.

        Parameters
        ----------
        path
            The file.
        stated
            What its own layout says, if it does.

        Returns
        -------
        band
            Letters, digits and underscores.
        """
        if self.band is not None:
            return self.band
        if self.source is not None and not _CARD_NAME.fullmatch(self.source):
            match = re.search(self.source, path.name)
            if match is None:
                raise UserError(f"{path}: its name has no band: it does not match {self.source!r}.")
            found = match[1] if match.re.groups else match[0]
            return _clean(found, path, "its name")
        if self.source is None and stated:
            return stated
        cards = _BAND_CARDS if self.source is None else (self.source,)
        with FitsFile(str(path)) as file:
            extensions = list(walk_extensions(file))
        for card in cards:
            for extension in extensions:
                value = extension.header.values.get(card)
                if isinstance(value, str) and value.strip():
                    return _clean(value, path, card)
        raise UserError(
            f"{path}: its band is not stated: it has no card {' or '.join(cards)}. Give --band NAME, or "
            "--band-from with another card or with an expression for the file's name, such as '([gri])-band'."
        )


@dataclasses.dataclass(frozen=True)
class Footprint:
    """An image on the sky."""

    path: Path
    """The file."""

    layout: str
    """Layout of the file, in words."""

    bbox: Box
    """Absolute pixels."""

    wcs: Wcs
    """Projection, in absolute pixels."""

    band: str = ""
    """Band of the image."""

    unit: str = ""
    """Unit of the pixels."""

    def shares_grid(self, other: Footprint) -> bool:
        """Whether two images have their pixels at the same places.

        Parameters
        ----------
        other
            The other image.

        Returns
        -------
        shares
            Whether absolute pixels mean the same place on the sky in both, to
            a millionth of a pixel, at the corners of both.
        """
        if self.wcs == other.wcs:
            return True
        for one, two in ((self, other), (other, self)):
            box = one.bbox
            x = np.array([box.x0, box.x1, box.x0, box.x1], dtype=np.float64)
            y = np.array([box.y0, box.y0, box.y1, box.y1], dtype=np.float64)
            there = two.wcs.sky_to_pixel(*one.wcs.pixel_to_sky(x, y))
            if not (np.hypot(there[0] - x, there[1] - y) <= SAME_GRID_PIXELS).all():
                return False
        return True


def read_footprint(path: Path, rule: BandRule | None = None) -> Footprint:
    """Find out where an image is.

    Parameters
    ----------
    path
        File of any layout that can be read.
    rule
        How to find its band; it is left empty if `None`.

    Returns
    -------
    footprint
        Place and band.

    Raises
    ------
    UserError
        Raised if the file cannot be used; the message says why.
    CorruptInputError
        Raised if it is damaged.
    """
    with open_image(str(path)) as reader:
        layout = str(getattr(reader, "layout", type(reader).__name__))
        found = Footprint(path, layout, reader.bbox, reader.wcs, unit=reader.unit)
        stated = reader.band
    return found if rule is None else dataclasses.replace(found, band=rule.of(path, stated))


def region_of(footprint: Footprint) -> ConvexPolygon:
    """The region of an image.

    Parameters
    ----------
    footprint
        The image.

    Returns
    -------
    region
        Convex hull of the edges of its pixels.

    Raises
    ------
    UserError
        Raised if its edges are not on the sky, or it has half of it.
    """
    box = footprint.bbox
    t = np.linspace(0.0, 1.0, _SIDE_POINTS, endpoint=False)
    x = np.concatenate([t, np.ones_like(t), 1 - t, np.zeros_like(t)]) * box.shape[1] + box.x0 - 0.5
    y = np.concatenate([np.zeros_like(t), t, np.ones_like(t), 1 - t]) * box.shape[0] + box.y0 - 0.5
    ra, dec = footprint.wcs.pixel_to_sky(x, y)
    if not np.isfinite(ra).all():
        raise UserError(f"{footprint.path}: parts of its edge are not on the sky; cut off what is outside.")
    vectors = unit_vectors(ra, dec)
    middle = vectors.mean(axis=0)
    if (vectors @ middle <= 0).any():
        raise UserError(f"{footprint.path}: it covers half of the sky or more; cut it into smaller images.")
    return ConvexPolygon.convexHull([UnitVector3d(*vector) for vector in vectors.tolist()])


def join_regions(regions: Iterable[ConvexPolygon]) -> ConvexPolygon:
    """The region that holds some others.

    Parameters
    ----------
    regions
        Convex polygons within half of the sky.

    Returns
    -------
    region
        Their convex hull.
    """
    return ConvexPolygon.convexHull([vertex for region in regions for vertex in region.getVertices()])


def _clean(value: str, path: Path, where: str) -> str:
    match = _BAND.match(value.strip())
    if match is None or len(match[1]) > 50:
        raise UserError(f"{path}: the band that {where} gives is {value!r}; give --band NAME.")
    return match[1].lower() if value.strip().startswith("HSC-") else match[1]
