# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a user asks for: a YAML or JSON file becomes a `CutoutRequest`."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BeforeValidator

from .errors import UserError, did_you_mean
from .frame_names import sky_frame
from .planes import BACKGROUND_NONE, BACKGROUND_STORED, DEFAULT_PLANES, PLANES
from .request_checks import (
    julian_year,
    path_or_uri,
    quoted,
    repository,
    several,
    text,
    whole_number,
    yes_or_no,
)
from .request_file import read_mapping
from .tables import HEALPIX_ORDER, in_band_order

__all__ = (
    "DEFAULT_PLANES",
    "FORMATS",
    "MAX_SIZE_PIXELS",
    "PLANES",
    "CatalogSpec",
    "CompanionTypes",
    "CutoutRequest",
    "EpochColumn",
    "Labels",
    "Partition",
    "SizeArcsec",
    "SizeColumn",
    "check_request",
    "load_request",
)

SCHEMA_VERSION = 1
"""The newest layout of a request that is known here."""

MAX_SIZE_PIXELS = 2000
"""Largest side of a cutout."""

MOST_BINS = 20
"""Largest number of ``size_bins``."""

PARTITIONS = ("tract", "patch", "healpix")
"""What the files of a product can be partitioned by."""

MAX_HEALPIX_ORDER = 29
"""Highest order whose pixel numbers fit in 64 bits."""

FORMATS = ("hdf5",)
"""File formats that a product can have."""


def load_request(path: str | Path) -> CutoutRequest:
    """Read and check a request file.

    Parameters
    ----------
    path
        YAML or JSON file, told by its suffix, or by its contents if it has
        another one.

    Returns
    -------
    request
        The request with all paths absolute: relative ones are taken from the
        directory of the file.

    Raises
    ------
    UserError
        Raised if the file cannot be read, or with one line for every field
        that is wrong: its name, its value, what is allowed.
    """
    path = Path(path)
    return check_request(read_mapping(path), directory=path.absolute().parent, where=f"Request file {path}")


def check_request(
    contents: dict[str, Any], *, directory: Path | None = None, where: str = "Request"
) -> CutoutRequest:
    """Check a request that is already in memory.

    Parameters
    ----------
    contents
        The fields as plain values.
    directory
        Where relative paths start; the working directory by default.
    where
        What to call the request in messages.

    Returns
    -------
    request
        The request with all paths absolute.

    Raises
    ------
    UserError
        Raised with one line for every field that is wrong.
    """
    version = contents.get("schema_version", SCHEMA_VERSION)
    # Before all else: fields of a later version would be called unknown.
    if type(version) is int and version > SCHEMA_VERSION:
        raise UserError(
            f"{where} was written for a newer version of this software: its schema_version is {version}, "
            f"and {SCHEMA_VERSION} is the newest that is known here. Update dax_bulkcutout."
        )
    try:
        return CutoutRequest.model_validate(contents, context={"directory": directory or Path()})
    except pydantic.ValidationError as error:
        problems = [_explain(detail) for detail in error.errors(include_url=False)]
    raise UserError("\n  ".join([f"{where} cannot be used:", *problems]))


def _explain(problem: Any) -> str:
    """Say in a line what is wrong with a field."""
    *parents, name = problem["loc"] or ("request",)
    model: Any = CutoutRequest
    for parent in parents:
        model = model.model_fields[parent].annotation
    loc = ".".join(str(part) for part in problem["loc"]) or "the request"
    value = quoted(problem["input"])
    field = model.model_fields.get(name)
    match problem["type"]:
        case "missing":
            return f"{loc} is missing: {field.description}"
        case "extra_forbidden":
            known = list(model.model_fields)
            return f"{loc} is not a field{did_you_mean(name, known)}; known fields: {', '.join(known)}"
        case "value_error":
            return f"{loc} is {value}: {problem['ctx']['error']}"
        case "model_type":
            fields = ", ".join(field.annotation.model_fields)
            return f"{loc} is {value}: must be a mapping with fields out of {fields}"
    return f"{loc} is {value}: {problem['msg']}"


def _check_size(value: Any) -> Any:
    allowed = (
        f"must be a whole number of pixels from 1 to {MAX_SIZE_PIXELS}, {{pixels: NUMBER}}, "
        "{arcsec: NUMBER}, or {column: NAME, unit: pixel or arcsec}"
    )
    if isinstance(value, SizeColumn | SizeArcsec):
        return value
    if isinstance(value, dict):
        if set(value) == {"pixels"}:
            value = value["pixels"]
        elif set(value) == {"arcsec"}:
            arcsec = value["arcsec"]
            if type(arcsec) not in (int, float) or not 0 < arcsec < float("inf"):
                raise ValueError(f"{allowed}; arcsec must be a number above 0")
            return SizeArcsec(arcsec=float(arcsec))
        elif "column" in value and set(value) <= {"column", "unit"}:
            if value.get("unit") not in (None, "pixel", "arcsec"):
                raise ValueError(f"{allowed}; {quoted(value['unit'])} is no unit that is known")
            return SizeColumn(column=_check_column(value["column"]), unit=value.get("unit"))
    if type(value) is int and 1 <= value <= MAX_SIZE_PIXELS:
        return value
    raise ValueError(allowed)


def _check_epoch(value: Any) -> Any:
    allowed = "must be a Julian year, as in 2016.0, or {column: NAME}"
    if isinstance(value, dict):
        if set(value) != {"column"}:
            raise ValueError(allowed)
        return EpochColumn(column=_check_column(value["column"]))
    return value if value is None or isinstance(value, EpochColumn) else julian_year(value, allowed)


def _check_image_epoch(value: Any, info: pydantic.ValidationInfo) -> Any:
    catalog = info.data.get("catalog")
    if value is None and catalog is not None and catalog.epoch is not None:
        raise ValueError(
            "must tell, with catalog.epoch, when the images were taken: a Julian year, as in 2024.9"
        )
    return value if value is None else julian_year(value, "must be a Julian year, as in 2024.9")


def _check_size_bins(value: Any, info: pydantic.ValidationInfo) -> Any:
    allowed = f"must be a list of 1 to {MOST_BINS} different whole numbers from 1 to {MAX_SIZE_PIXELS}"
    if value is None:
        return value
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_BINS:
        raise ValueError(f"{allowed}, as in [32, 64, 128, 256]")
    for each in value:
        if type(each) is not int or not 1 <= each <= MAX_SIZE_PIXELS:
            raise ValueError(f"{allowed}; {quoted(each)} is not one")
    if len(set(value)) < len(value):
        raise ValueError(allowed)
    size = info.data.get("size")
    if isinstance(size, int) and size > max(value):
        raise ValueError(f"the size of {size} pixels is larger than all of them: add a bin of {size} or more")
    return tuple(sorted(value))


def _check_bands(value: Any) -> Any:
    item = text(r"[A-Za-z0-9_]+", "a name of letters, digits and _", longest=50)
    bands = several("bands", item=item, or_all=True)(value)
    # The band axis has one order, so that the same bands are the same request.
    return bands if bands == "all" else in_band_order(bands)


def _check_planes(value: Any) -> Any:
    planes = several("planes", known=PLANES, repeated=True)(value)
    if not {"image", "mask"} & set(planes):
        raise ValueError("must hold at least image or mask")
    return tuple(plane for plane in PLANES if plane in planes)


def _check_background(value: Any) -> str:
    name = _check_background_name(value)
    # The two words are those of this file, the names are the images' own.
    return name.lower() if name.lower() in (BACKGROUND_STORED, BACKGROUND_NONE) else name


def _check_partition(value: Any) -> Any:
    if value not in PARTITIONS:
        hint = did_you_mean(value, PARTITIONS) if isinstance(value, str) else ""
        raise ValueError(f"must be one of {', '.join(PARTITIONS)}{hint}")
    return value


def _check_order(value: Any, info: pydantic.ValidationInfo) -> int | None:
    by = info.data.get("by")
    if by == "healpix":
        return HEALPIX_ORDER if value is None else _whole_order(value)
    if value is not None and by is not None:
        raise ValueError(f"is for 'by: healpix' alone; leave it out, or partition by healpix, not by {by}")
    return None


_whole_order = whole_number(0, MAX_HEALPIX_ORDER, unit="orders (nside is 2 to this power)")
_check_background_name = text(
    r"[A-Za-z0-9_][A-Za-z0-9_.+:/ -]*",
    f"{BACKGROUND_STORED}, {BACKGROUND_NONE}, or the name of a background model of the images",
)


def _check_codes(value: Any) -> Any:
    allowed = (
        "must be a mapping of names (letters, digits and _) to different whole numbers from 1 to 2147483647"
    )
    if value is None:
        return value
    if not isinstance(value, dict) or not 0 < len(value) <= 30:
        raise ValueError(f"{allowed}, at most 30 of them")
    for name, code in value.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,49}", name):
            raise ValueError(f"{allowed}; {name!r} is no such name")
        if type(code) is not int or not 0 < code < 1 << 31:
            raise ValueError(f"{allowed}; {name} is {code!r}")
    if len(set(value.values())) != len(value):
        raise ValueError(allowed)
    return value


_check_column = text(r".+", "the name of a column of the catalog")
_check_name = text(
    r"[A-Za-z0-9_][A-Za-z0-9_.+:@/-]*",
    "a name of letters, digits and _ . + : @ / - that begins with a letter, digit or _",
)
_check_dataset_type = text(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a dataset type: letters, digits and _")
_check_request_id = text(r"[a-z0-9][a-z0-9-]*", "lower-case letters, digits and hyphens", longest=64)

_Path = Annotated[str, BeforeValidator(path_or_uri)]
_Column = Annotated[str, BeforeValidator(_check_column)]
_Label = Annotated[str, BeforeValidator(text(r".*", "text on one line"))]


class _Part(pydantic.BaseModel):
    """Base of all parts of a request.

    The string under a field is what messages tell the user about it.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SizeArcsec(_Part):
    """One size on the sky for all cutouts."""

    arcsec: float
    """Side of the cutouts in arcsec, rounded up to whole pixels."""


class SizeColumn(_Part):
    """Sizes that the catalog gives row by row."""

    column: _Column
    """Name of the catalog's column with the sizes."""

    unit: Literal["pixel", "arcsec"] | None = None
    """Unit of the sizes; by default what the catalog states, else pixel."""


class EpochColumn(_Part):
    """Epochs that the catalog gives row by row."""

    column: _Column
    """Name of the catalog's column with the epoch in Julian years."""


class CatalogSpec(_Part):
    """The user's catalog."""

    uri: _Path
    """Path of the catalog: Parquet, CSV, FITS, VOTable, or a directory of
    Parquet files or HATS."""

    id_column: _Column | None = None
    """Name of the column with the identifiers; guessed by default."""

    ra_column: _Column | None = None
    """Name of the column with the right ascension, or with the longitude of
    another frame; guessed by default."""

    dec_column: _Column | None = None
    """Name of the column with the declination, or with the latitude of
    another frame; guessed by default."""

    frame: Annotated[str | None, BeforeValidator(lambda v: v if v is None else sky_frame(v))] = None
    """Frame of the positions: icrs, fk5, fk4, fk4-no-e, galactic,
    supergalactic or ecliptic, perhaps with an equinox; by default what the
    catalog says, else icrs."""

    epoch: Annotated[float | EpochColumn | None, BeforeValidator(_check_epoch)] = None
    """Epoch of the positions, a Julian year or {column: NAME}; proper motions
    move them from there to image_epoch."""

    pm_ra_column: _Column | None = None
    """Name of the column with the proper motion in right ascension times
    cos(dec); guessed by default."""

    pm_dec_column: _Column | None = None
    """Name of the column with the proper motion in declination; guessed by
    default."""

    lookup: Annotated[str, BeforeValidator(_check_dataset_type)] | None = None
    """Dataset type of tables with positions by identifier; by default object,
    for a catalog without positions."""

    tract_column: _Column | None = None
    """Name of a column with the tract of each row; needs patch_column."""

    patch_column: _Column | None = None
    """Name of a column with the patch of each row; needs tract_column."""

    carry: Annotated[
        tuple[str, ...] | Literal["all"],
        BeforeValidator(several("columns", item=_check_column, or_all=True, or_none=True)),
    ] = ()
    """Columns to copy into the product: a list of names, or all."""

    @pydantic.model_validator(mode="after")
    def _tract_and_patch(self) -> CatalogSpec:
        if (self.tract_column is None) != (self.patch_column is None):
            raise ValueError("tract_column and patch_column belong together: name both or neither")
        if (self.pm_ra_column is None) != (self.pm_dec_column is None):
            raise ValueError("pm_ra_column and pm_dec_column belong together: name both or neither")
        return self


class Partition(_Part):
    """How the product is split into files."""

    by: Annotated[Literal["tract", "patch", "healpix"], BeforeValidator(_check_partition)] = "tract"
    """What the files are partitioned by: tract, patch or healpix."""

    order: Annotated[int | None, BeforeValidator(_check_order)] = pydantic.Field(
        default=None, validate_default=True
    )
    """Order of the HEALPix pixels (nested, of the ICRS positions); 4 by
    default, only with healpix."""

    max_rows_per_file: Annotated[int, BeforeValidator(whole_number(1, 10**9, unit="rows"))] = 100_000
    """Largest number of rows in one file."""

    max_bytes_per_file: Annotated[int, BeforeValidator(whole_number(1, 10**13, unit="bytes"))] = 2_000_000_000
    """Largest size of one file."""


class Labels(_Part):
    """What the product says about where its images come from."""

    survey: _Label = ""
    """Name of the survey."""

    instrument: _Label = ""
    """Name of the instrument."""

    release: _Label = ""
    """Name of the data release."""


class CompanionTypes(_Part):
    """Dataset types of files that belong to plain FITS images."""

    variance: Annotated[str, BeforeValidator(_check_dataset_type)] | None = None
    """Dataset type of variances, in the square of the images' unit."""

    weight: Annotated[str, BeforeValidator(_check_dataset_type)] | None = None
    """Dataset type of weights, the inverse of variances."""

    mask: Annotated[str, BeforeValidator(_check_dataset_type)] | None = None
    """Dataset type of masks, images of integers."""

    psf: Annotated[str, BeforeValidator(_check_dataset_type)] | None = None
    """Dataset type of PSF models, files of PSFEx or tables with a sigma."""

    mask_codes: Annotated[dict[str, int] | None, BeforeValidator(_check_codes)] = None
    """What the numbers of a mask mean that holds one number a pixel, in place
    of bits: a mapping such as {SATURATED: 3, COSMIC_RAY: 5}."""

    @property
    def types(self) -> dict[str, str]:
        """Dataset type by kind, of those that there are."""
        kinds = {"variance": self.variance, "weight": self.weight, "mask": self.mask, "psf": self.psf}
        return {kind: name for kind, name in kinds.items() if name is not None}

    @pydantic.model_validator(mode="after")
    def _fit_together(self) -> CompanionTypes:
        if self.variance is not None and self.weight is not None:
            raise ValueError("variance and weight say the same: name one of them")
        if self.mask_codes is not None and self.mask is None:
            raise ValueError("mask_codes belongs to a mask: name its dataset type")
        return self


class CutoutRequest(_Part):
    """A request for cutouts.

    It is checked as far as can be without the catalog and the Butler.
    """

    schema_version: Annotated[
        int, BeforeValidator(whole_number(1, SCHEMA_VERSION, unit="layout versions"))
    ] = SCHEMA_VERSION
    """Version of the layout of this file."""

    request_id: Annotated[str, BeforeValidator(_check_request_id)]
    """Name of the request: lower-case letters, digits and hyphens."""

    catalog: CatalogSpec
    """The catalog: a mapping with at least the field uri."""

    image_epoch: Annotated[float | None, BeforeValidator(_check_image_epoch)] = pydantic.Field(
        default=None, validate_default=True
    )
    """When the images were taken, a Julian year; needed with
    catalog.epoch."""

    butler: Annotated[str, BeforeValidator(repository)]
    """Path, URI or label of the Butler repository that has the images."""

    collections: Annotated[tuple[str, ...], BeforeValidator(several("collections", item=_check_name))]
    """Collections to search, the first one first."""

    dataset_type: Annotated[str, BeforeValidator(_check_dataset_type)]
    """Dataset type of the images, such as deep_coadd."""

    companions: CompanionTypes = CompanionTypes()
    """Dataset types with what belongs to plain FITS images: a mapping."""

    skymap: Annotated[str, BeforeValidator(_check_name)] | None = None
    """Name of the sky map; needed if the collections hold several."""

    bands: Annotated[tuple[str, ...] | Literal["all"], BeforeValidator(_check_bands)] = "all"
    """Bands: a list of names, or all.  A list is kept in ugrizy order."""

    size: Annotated[int | SizeArcsec | SizeColumn, BeforeValidator(_check_size)]
    """Side of the square cutouts: a whole number of pixels, {arcsec: NUMBER},
    or {column: NAME, unit: pixel or arcsec}."""

    size_bins: Annotated[tuple[int, ...] | None, BeforeValidator(_check_size_bins)] = None
    """Sizes in pixels that others are rounded up to: a list."""

    planes: Annotated[tuple[str, ...], BeforeValidator(_check_planes)] = DEFAULT_PLANES
    """Planes to deliver: a list with at least image or mask."""

    background: Annotated[str, BeforeValidator(_check_background)] = BACKGROUND_STORED
    """Background model that is subtracted from the image plane: stored, none,
    or the name of a model of the images."""

    partition: Partition = Partition()
    """How the product is split into files: a mapping."""

    formats: Annotated[tuple[str, ...], BeforeValidator(several("formats", known=FORMATS))] = FORMATS
    """File formats of the product."""

    output: _Path
    """Directory for the product."""

    coverage_map: Annotated[bool, BeforeValidator(yes_or_no)] = False
    """Whether the product has a map of what it covers (MOC): true or
    false."""

    status_votable: Annotated[bool, BeforeValidator(yes_or_no)] = False
    """Whether the product has its status table as VOTable too: true or
    false."""

    labels: Labels = Labels()
    """Texts for the headers of the product: a mapping."""

    def fingerprint(self) -> str:
        """Identify what is asked for.

        Returns
        -------
        sha256
            Hexadecimal sha256 of the canonical JSON of the request.
        """
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    def to_json(self) -> str:
        """Write the request as JSON.

        Returns
        -------
        json
            All fields; `load_request` reads an equal request from it.
        """
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    def to_yaml(self) -> str:
        """Write the request as YAML.

        Returns
        -------
        yaml
            All fields; `load_request` reads an equal request from it.
        """
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
