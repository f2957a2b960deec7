# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a product file holds: the tabular model of DMTN-326, one row a cutout.

The names, types and meanings here are a promise to those who read products.
A change that a reader of an older file must know of gets a new
`SCHEMA_VERSION`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ..masks import mask_dtype
from ..planes import BACKGROUND_STORED
from ..precision import EXACT, is_rounded
from ..tables import CARRIED_PREFIX, HEALPIX_ORDER, field_description, field_unit

if TYPE_CHECKING:
    from ..tables import MaskPlane, NeighborInput

__all__ = (
    "READABLE_VERSIONS",
    "SCHEMA_VERSION",
    "WRITER_VERSION",
    "Column",
    "PatchProvenance",
    "ProductLayout",
    "carried_name",
    "is_text",
)

SCHEMA_VERSION = "1.0"
"""Version of the DMTN-326 model."""

WRITER_VERSION = "3"
"""Version of what this package adds to the model."""

READABLE_VERSIONS = ("1", "2", "3")
"""Versions that can be read; what is new in a later one is missing in files
of an earlier one."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One dataset of a product file whose first axis is the row."""

    path: str
    """Where it lies in the file."""

    dtype: np.dtype | None
    """Type of the values; `None` for text."""

    shape: tuple[int, ...]
    """Shape of one row's value."""

    unit: str
    """Unit, empty for a pure number."""

    description: str
    """Meaning, in a sentence for the user."""

    is_compressed: bool = False
    """Whether its planes are compressed, each by itself."""


@dataclasses.dataclass(frozen=True)
class PatchProvenance:
    """The input datasets of one patch."""

    tract: int
    """Tract of the sky map."""

    patch: int
    """Patch of the tract."""

    dataset_uuids: tuple[str, ...]
    """UUID for each band of the product; empty text where there was none."""

    backgrounds: tuple[str, ...]
    """Background model that is subtracted from the pixels of each band,
    ``none`` if none is; empty text where there is no image, or it does not
    say."""

    neighbors: tuple[NeighborInput, ...] = ()
    """Images of other patches that cutouts may be completed from."""

    wcs: tuple[str, ...] = ()
    """Header cards of the projection of each band, a line each, in tract
    pixels; empty text where the columns ``wcs`` say it, or there is no image.
    None at all if that is so for all bands."""

    units: tuple[str, ...] = ()
    """Unit of the image of each band; empty text where there is no image.
    None at all if all are in nJy."""

    psf_notes: tuple[str, ...] = ()
    """Why the image of each band has no PSF, to follow "absent, because";
    empty text where it has one. None at all if that is so for all bands."""

    companions: str = ""
    """What belongs to the images and lies in files of its own, as JSON: by
    the UUID of an image and its kind; empty text where there is nothing."""

    extra_planes: tuple[tuple[str, ...], ...] = ()
    """Planes of noise and mask fractions that the image of each band has, of
    those that were requested, such as ``noise/0``."""


@dataclasses.dataclass(frozen=True)
class ProductLayout:
    """All that must be known of a product file before its first row."""

    size: int
    """Side of the cutouts in pixels."""

    bands: tuple[str, ...]
    """The band axis of the campaign."""

    planes: tuple[str, ...]
    """What was requested of `planes.PLANES`."""

    psf_shape: tuple[int, int] | None
    """Shape ``(ky, kx)`` of the PSF kernels; `None` if the images have
    none."""

    mask_planes: tuple[MaskPlane, ...]
    """The mask planes of the product, with the bits that it uses."""

    id_type: pa.DataType
    """Arrow type of the user's identifiers, integer or string."""

    carried: tuple[pa.Field, ...] = ()
    """Catalog columns that are copied, as in the target table."""

    dataset_type: str = ""
    """Dataset type of the images."""

    n_noise: int = 0
    """Number of noise realizations; 0 if the images have none."""

    mask_fractions: tuple[str, ...] = ()
    """Names of the mask fractions."""

    background: str = BACKGROUND_STORED
    """Background that was requested."""

    precision: str = EXACT
    """How exact float planes are, as requested."""

    skymap: str = ""
    """Name of the sky map."""

    request_id: str = ""
    """Identifier of the request."""

    survey: str = ""
    """Survey, as labelled in the request."""

    instrument: str = ""
    """Instrument, as labelled in the request."""

    release: str = ""
    """Data release, as labelled in the request."""

    provenance: tuple[PatchProvenance, ...] = ()
    """Inputs of every patch that has rows in the file."""

    healpix_order: int = HEALPIX_ORDER
    """Order of the pixels in ``catalog/healpix``: that of the files, if they
    are by HEALPix."""

    @property
    def meta(self) -> dict[str, str | int | tuple[int, ...] | tuple[str, ...]]:
        """Content of the ``meta`` group, without the table of mask planes."""
        backgrounds = sorted({name for patch in self.provenance for name in patch.backgrounds if name})
        meta: dict[str, str | int | tuple[int, ...] | tuple[str, ...]] = {
            "survey": self.survey,
            "instrument": self.instrument,
            "release": self.release,
            "product": f"{self.dataset_type}_cutouts",
            "schema_version": SCHEMA_VERSION,
            "writer_version": WRITER_VERSION,
            "request_id": self.request_id,
            "dataset_type": self.dataset_type,
            "skymap": self.skymap,
            "background": ",".join(backgrounds),
            "background_requested": self.background,
            "precision": self.precision,
            "flux_unit": ",".join(self.flux_units),
            "healpix_nside_catalog": 1 << self.healpix_order,
            "healpix_ordering": "nested",
            "band_order": self.bands,
            "image_shape": (self.size, self.size),
        }
        if "psf" in self.planes and self.psf_shape is not None:
            meta["psf_shape"] = self.psf_shape
        if "mask_fraction" in self.planes:
            meta["mask_fractions"] = self.mask_fractions
        return meta

    @property
    def flux_units(self) -> tuple[str, ...]:
        """Units that image pixels of the file have, in order of name."""
        units = {unit for patch in self.provenance for unit in patch.units or ("nJy",) if unit}
        return tuple(sorted(units)) or ("nJy",)

    @functools.cached_property
    def columns(self) -> dict[str, Column]:
        """All row-wise datasets by path, in the order of the file."""
        columns = [*self._catalog_columns(), *self._carried_columns(), *self._image_columns()]
        return {column.path: column for column in (*columns, *_WCS_COLUMNS)}

    def _catalog_columns(self) -> list[Column]:
        id_dtype = None if is_text(self.id_type) else np.dtype("<i8")
        columns = list(_CATALOG_COLUMNS)
        columns.insert(1, Column("catalog/object_id", id_dtype, (), "", "Identifier, as in the catalog."))
        return columns

    def _carried_columns(self) -> list[Column]:
        columns = []
        for field in self.carried:
            name = carried_name(field)
            dtype = None if is_text(field.type) else _numpy_dtype(field.type)
            columns.append(Column(f"carried/{name}", dtype, (), field_unit(field), field_description(field)))
            null = f"Whether the catalog has no {name} for the target."
            columns.append(Column(f"carried_null/{name}", np.dtype(bool), (), "", null))
        return columns

    def _image_columns(self) -> list[Column]:
        shape = (len(self.bands), self.size, self.size)
        columns = [Column("images/band", None, (len(self.bands),), "", "Band.")]
        plane = functools.partial(_plane, self.precision)
        unit, *others = self.flux_units
        squared = "nJy2" if unit == "nJy" else f"({unit})2"
        if others:
            unit, squared = "see provenance/unit", "see provenance/unit, squared"
        if "image" in self.planes:
            columns.append(plane("image", "images/flux", shape, unit, "Image; NaN where there is no data."))
        if "variance" in self.planes:
            text = "Variance without covariance; NaN where there is no data."
            columns.append(plane("variance", "images/variance", shape, squared, text))
        if "mask" in self.planes:
            text = "Mask bits, named in meta/mask_planes; NO_DATA where no image reaches."
            dtype = mask_dtype(self.mask_planes).newbyteorder("<")
            columns.append(Column("images/mask", dtype, shape, "", text, is_compressed=True))
        sets = (len(self.bands), self.n_noise, self.size, self.size)
        if "noise" in self.planes and self.n_noise:
            text = "Noise realizations of the image; NaN where there is none."
            columns.append(plane("noise", "images/noise", sets, "nJy", text))
        if "mask_fraction" in self.planes and self.mask_fractions:
            sets = (len(self.bands), len(self.mask_fractions), self.size, self.size)
            text = "Weight of the inputs with a mask plane, by meta/mask_fractions; NaN where not known."
            columns.append(Column("images/mask_fraction", _F4, sets, "", text))
        if "psf" in self.planes and self.psf_shape is not None:
            text = "PSF kernel of the target's cell as stored, centre at [ky // 2, kx // 2]; NaN if missing."
            columns.append(Column("images/psf", _F4, (len(self.bands), *self.psf_shape), "", text))
        if self.precision != EXACT:
            text = "Flux and noise are multiples of this power of two; 0 where they are exact."
            columns.append(Column("images/flux_step", _F4, (len(self.bands),), unit, text))
            text = "Variances are rounded to this part of their power of two; 0 where they are exact."
            columns.append(Column("images/variance_step", _F4, (len(self.bands),), "", text))
        for column in _BAND_COLUMNS:
            columns.append(dataclasses.replace(column, shape=(len(self.bands), *column.shape)))
        return columns


def _plane(
    precision: str, plane: str, path: str, shape: tuple[int, ...], unit: str, description: str
) -> Column:
    return Column(path, _F4, shape, unit, description, is_compressed=is_rounded(plane, precision))


def carried_name(field: pa.Field) -> str:
    """Name of a carried column in the product.

    Parameters
    ----------
    field
        Field of the target table (or of the user's catalog).

    Returns
    -------
    name
        The user's own name.
    """
    return str(field.name.removeprefix(CARRIED_PREFIX))


def is_text(arrow_type: pa.DataType) -> bool:
    """Whether a column holds text.

    Parameters
    ----------
    arrow_type
        Type of the column.

    Returns
    -------
    text
        True for both of Arrow's string types.
    """
    return bool(pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type))


def _numpy_dtype(arrow_type: pa.DataType) -> np.dtype:
    dtype: np.dtype = np.dtype(arrow_type.to_pandas_dtype())
    return dtype.newbyteorder("<")


_F8, _F4, _I8, _I4, _I2, _U1 = (np.dtype(code) for code in ("<f8", "<f4", "<i8", "<i4", "<i2", "u1"))
_BOOL = np.dtype(bool)

_CATALOG_COLUMNS = (
    Column("catalog/row", _I8, (), "", "Zero-based row number in the catalog."),
    Column("catalog/ra", _F8, (), "deg", "Right ascension of the target, ICRS."),
    Column("catalog/dec", _F8, (), "deg", "Declination of the target, ICRS."),
    Column("catalog/healpix", _I8, (), "", "HEALPix pixel of the target, nested; for nside see meta."),
    Column("catalog/tract", _I4, (), "", "Tract of the images."),
    Column("catalog/patch", _I4, (), "", "Patch of the images."),
    Column("catalog/fallback", _BOOL, (), "", "Whether this patch stands in for one that has no image."),
    Column("catalog/x", _F8, (), "pixel", "Column of the target in the tract, zero-based."),
    Column("catalog/y", _F8, (), "pixel", "Row of the target in the tract, zero-based."),
    Column("catalog/x_cutout", _F8, (), "pixel", "Column of the target in the cutout, zero-based."),
    Column("catalog/y_cutout", _F8, (), "pixel", "Row of the target in the cutout, zero-based."),
)

_BAND_COLUMNS = (
    Column(
        "images/psf_fwhm",
        _F4,
        (),
        "arcsec",
        "Full width at half maximum of the Gaussian with the kernel's effective area sum(k)^2 / sum(k^2).",
    ),
    Column("images/pixel_scale", _F4, (), "arcsec", "Side of a pixel."),
    Column("images/band_present", _BOOL, (), "", "Whether there is an image in this band."),
    Column("images/band_status", _U1, (), "", "0 ok, 1 no dataset, 2 no data in the box, 3 reading failed."),
    Column("images/valid_fraction", _F4, (), "", "Fraction of the pixels that are finite and not NO_DATA."),
    Column("images/center_valid", _BOOL, (), "", "Whether the target's own pixel is valid."),
    Column("images/psf_valid", _BOOL, (), "", "Whether the target's cell has a PSF."),
    Column("images/psf_cell", _I4, (2,), "", "Cell (y, x) of the PSF in its patch; -1 outside."),
    Column("images/inexact_psf_fraction", _F4, (), "", "Fraction of the pixels that are INEXACT_PSF."),
    Column(
        "images/n_cells",
        _I2,
        (),
        "",
        "Number of cells of the patch's own image in the cutout: the PSF jumps between them.",
    ),
    Column("images/n_patches", _I2, (), "", "Number of patches whose images give pixels of the cutout."),
    Column("images/stitched", _BOOL, (), "", "Whether images of other patches give some of the pixels."),
)

_WCS_COLUMNS = (
    Column("wcs/crval", _F8, (2,), "deg", "Right ascension and declination of the tangent point, ICRS."),
    Column(
        "wcs/crpix",
        _F8,
        (2,),
        "pixel",
        "Tangent point (x, y) in the cutout; FITS: first pixel's centre is 1.",
    ),
    Column("wcs/cd", _F8, (2, 2), "deg", "Degrees per pixel, [[CD1_1, CD1_2], [CD2_1, CD2_2]]."),
    Column(
        "wcs/exact",
        _BOOL,
        (),
        "",
        "Whether this is the projection, or its linear terms at the target: see provenance/wcs.",
    ),
)
