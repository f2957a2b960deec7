# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a user asks for: a YAML or JSON file becomes a `CutoutRequest`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BeforeValidator

from ..planes import BACKGROUND_NONE, BACKGROUND_STORED, DEFAULT_PLANES, PLANES
from ..precision import EXACT, check_precision
from ..tables import in_band_order
from .catalog_part import CatalogSpec
from .checks import julian_year, repository, several, text, whole_number, yes_or_no
from .companions import CompanionTypes
from .field_types import DatasetTypeName, Label, Part, PathText
from .fields import check_fields
from .file import read_mapping
from .notify_part import NotifySpec
from .partition import Partition
from .registration_part import RegistrationSpec
from .sizes import SizeArcsec, SizeColumn, check_size, check_size_bins

__all__ = ("FORMATS", "CutoutRequest", "Labels", "check_request", "load_request")

SCHEMA_VERSION = 1
"""The newest layout of a request that is known here."""

FORMATS = ("hdf5",)
"""File formats that a product can have."""

_NOT_OF_PRODUCT = {"notify", "registration"}
"""Fields that change nothing in a product, and are not published with it."""


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
    return check_fields(
        CutoutRequest, contents, newest=SCHEMA_VERSION, where=where, directory=directory or Path()
    )


def _check_image_epoch(value: Any, info: pydantic.ValidationInfo) -> Any:
    catalog = info.data.get("catalog")
    if value is None and catalog is not None and catalog.epoch is not None:
        raise ValueError(
            "must tell, with catalog.epoch, when the images were taken: a Julian year, as in 2024.9"
        )
    return value if value is None else julian_year(value, "must be a Julian year, as in 2024.9")


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


_check_background_name = text(
    r"[A-Za-z0-9_][A-Za-z0-9_.+:/ -]*",
    f"{BACKGROUND_STORED}, {BACKGROUND_NONE}, or the name of a background model of the images",
)


_check_name = text(
    r"[A-Za-z0-9_][A-Za-z0-9_.+:@/-]*",
    "a name of letters, digits and _ . + : @ / - that begins with a letter, digit or _",
)


_check_request_id = text(r"[a-z0-9][a-z0-9-]*", "lower-case letters, digits and hyphens", longest=64)


class Labels(Part):
    """What the product says about where its images come from."""

    survey: Label = ""
    """Name of the survey."""

    instrument: Label = ""
    """Name of the instrument."""

    release: Label = ""
    """Name of the data release."""


class CutoutRequest(Part):
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

    dataset_type: DatasetTypeName
    """Dataset type of the images, such as deep_coadd."""

    companions: CompanionTypes = CompanionTypes()
    """Dataset types with what belongs to plain FITS images: a mapping."""

    skymap: Annotated[str, BeforeValidator(_check_name)] | None = None
    """Name of the sky map; needed if the collections hold several."""

    bands: Annotated[tuple[str, ...] | Literal["all"], BeforeValidator(_check_bands)] = "all"
    """Bands: a list of names, or all.  A list is kept in ugrizy order."""

    size: Annotated[int | SizeArcsec | SizeColumn, BeforeValidator(check_size)]
    """Side of the square cutouts: a whole number of pixels, {arcsec: NUMBER},
    or {column: NAME, unit: pixel or arcsec}."""

    size_bins: Annotated[tuple[int, ...] | None, BeforeValidator(check_size_bins)] = None
    """Sizes in pixels that others are rounded up to: a list."""

    planes: Annotated[tuple[str, ...], BeforeValidator(_check_planes)] = DEFAULT_PLANES
    """Planes to deliver: a list with at least image or mask."""

    background: Annotated[str, BeforeValidator(_check_background)] = BACKGROUND_STORED
    """Background model that is subtracted from the image plane: stored, none,
    or the name of a model of the images."""

    precision: Annotated[str, BeforeValidator(check_precision)] = EXACT
    """How exact image, variance and noise are: exact, or sigma/N, rounded to
    N steps or more in a sigma of the noise."""

    partition: Partition = Partition()
    """How the product is split into files: a mapping."""

    formats: Annotated[tuple[str, ...], BeforeValidator(several("formats", known=FORMATS))] = FORMATS
    """File formats of the product."""

    output: PathText
    """Directory for the product."""

    coverage_map: Annotated[bool, BeforeValidator(yes_or_no)] = False
    """Whether the product has a map of what it covers (MOC): true or
    false."""

    status_votable: Annotated[bool, BeforeValidator(yes_or_no)] = False
    """Whether the product has its status table as VOTable too: true or
    false."""

    labels: Labels = Labels()
    """Texts for the headers of the product: a mapping."""

    notify: NotifySpec = NotifySpec()
    """Who is told when the campaign is over: a mapping with url and
    secret_file."""

    registration: RegistrationSpec = RegistrationSpec()
    """Where the cutout datasets are registered: a mapping with butler and
    collection."""

    @pydantic.model_validator(mode="after")
    def _source_is_not_written(self) -> CutoutRequest:
        if self.registration.butler == self.butler:
            raise ValueError(
                "registration.butler must be another repository than butler, which is never written"
            )
        return self

    def of_product(self) -> dict[str, Any]:
        """Give what a product says of its request.

        Returns
        -------
        fields
            All fields as plain values, but for those that are nobody's
            business who is handed the product.
        """
        return self.model_dump(mode="json", exclude=_NOT_OF_PRODUCT)

    def fingerprint(self) -> str:
        """Identify what is asked for.

        Returns
        -------
        sha256
            Hexadecimal sha256 of the canonical JSON of what the product says
            of the request: whoever is told of it, it is the same.
        """
        canonical = json.dumps(self.of_product(), sort_keys=True, separators=(",", ":"))
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
