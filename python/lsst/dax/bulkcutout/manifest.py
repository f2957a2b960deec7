# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The manifest: what the user got, what not, and the checksums of it all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pydantic

from .campaign import write_atomically
from .errors import CorruptInputError, InternalError, UserError
from .tables import STATUS

__all__ = (
    "CALLBACK_SPOOL_NAME",
    "CERTIFICATE_NAME",
    "CERTIFICATE_PICTURE_NAME",
    "CHECKSUMS_NAME",
    "MANIFEST_NAME",
    "STATUS_NAME",
    "Manifest",
    "ProductFile",
    "describe_file",
    "file_sha256",
    "read_checksums",
    "read_manifest",
    "write_checksums",
    "write_manifest",
)

SCHEMA_VERSION = 2
"""The newest layout of a manifest that is known here."""

MANIFEST_NAME = "manifest.json"
STATUS_NAME = "status.parquet"
CHECKSUMS_NAME = "SHA256SUMS"
CERTIFICATE_NAME = "certificate.json"
CERTIFICATE_PICTURE_NAME = "certificate.png"

CALLBACK_SPOOL_NAME = "callback.spool"
"""Directory for what a server could not be told yet; no part of a product."""


class ProductFile(pydantic.BaseModel):
    """One file of a product."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    path: str
    """Path relative to the directory of the product."""

    sha256: str = pydantic.Field(pattern="^[0-9a-f]{64}$")
    """Checksum, hexadecimal."""

    bytes: int = pydantic.Field(ge=0)
    """Size of the file."""

    rows: int | None = None
    """Number of rows; `None` for a file that is no table."""

    size: int | None = None
    """Side of the cutouts in pixels; `None` for a file without cutouts."""

    tract: int | None = None
    """Tract of the cutouts; `None` for a file without cutouts, or with those
    of several tracts."""

    healpix: int | None = None
    """HEALPix pixel of the targets, nested, of the order of the request's
    partition; `None` if files are not by HEALPix."""

    @pydantic.field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or str(pure) != path or not path.isprintable():
            raise ValueError("must be a plain relative path inside the product")
        return path


class Manifest(pydantic.BaseModel):
    """What a product holds."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    """Version of this layout."""

    request_id: str
    """Name of the request."""

    request: dict[str, Any]
    """The request as it was carried out."""

    bands: tuple[str, ...]
    """Band axis of every cutout."""

    rows: int = pydantic.Field(ge=0)
    """Number of rows of the catalog."""

    counts: dict[str, int]
    """Number of rows by status."""

    fallback: int = pydantic.Field(default=0, ge=0)
    """Number of delivered rows that are cut from another patch than that of
    the rule, because that one has no image."""

    complete: bool
    """Whether the product is all that the request can give; if not, a restart
    may deliver more."""

    files: tuple[ProductFile, ...]
    """The files of the product, but for `MANIFEST_NAME` and
    `CHECKSUMS_NAME`."""

    execution: dict[str, Any] = pydantic.Field(default_factory=dict)
    """How the product was made: run, times, hosts, versions.  Nothing else in
    the product depends on these."""

    def check(self) -> None:
        """Make sure that every row of the catalog is answered once.

        Raises
        ------
        InternalError
            Raised if the numbers do not add up.
        """
        if unknown := set(self.counts) - set(STATUS):
            raise InternalError(f"The manifest counts rows of unknown status: {', '.join(sorted(unknown))}.")
        answered = sum(self.counts.values())
        if answered != self.rows or min(self.counts.values(), default=0) < 0:
            raise InternalError(
                f"The catalog has {self.rows} rows, but {answered} were answered: {self.counts}. Please "
                "report this; no manifest was written."
            )
        paths = [file.path for file in self.files]
        if len(set(paths)) != len(paths):
            raise InternalError("The manifest lists a file twice.")


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write the manifest, atomically; this makes a product complete.

    Parameters
    ----------
    directory
        Directory of the product.
    manifest
        What it holds.

    Raises
    ------
    InternalError
        Raised if the numbers do not add up; nothing is written then.
    """
    manifest.check()
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_atomically(directory / MANIFEST_NAME, text + "\n")


def read_manifest(directory: str | Path) -> Manifest:
    """Read the manifest of a product.

    Parameters
    ----------
    directory
        Directory of the product.

    Returns
    -------
    manifest
        What it holds.

    Raises
    ------
    UserError
        Raised if there is no manifest, or one of a newer version.
    CorruptInputError
        Raised if the manifest is damaged.
    """
    path = Path(directory) / MANIFEST_NAME
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{directory} has no {MANIFEST_NAME}: it is no product, or one that was not finished."
        ) from None
    except ValueError as error:
        raise CorruptInputError(f"{path} is damaged: {error}") from None
    version = contents.get("schema_version") if isinstance(contents, dict) else None
    if type(version) is int and version > SCHEMA_VERSION:
        raise UserError(
            f"{path} was written by a newer version of this software: its schema_version is {version}, and "
            f"{SCHEMA_VERSION} is the newest that is known here. Update dax_bulkcutout."
        )
    try:
        return Manifest.model_validate(contents)
    except pydantic.ValidationError as error:
        raise CorruptInputError(f"{path} is damaged: {error}") from None


def file_sha256(path: Path) -> str:
    """Checksum of a file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    sha256
        Hexadecimal sha256.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_file(
    directory: Path,
    path: str,
    *,
    rows: int | None = None,
    size: int | None = None,
    tract: int | None = None,
    healpix: int | None = None,
) -> ProductFile:
    """Measure a file of a product.

    Parameters
    ----------
    directory
        Directory of the product.
    path
        Path of the file relative to it.
    rows, size, tract, healpix
        What the file holds, see `ProductFile`.

    Returns
    -------
    file
        Its entry in the manifest.
    """
    whole = directory / path
    return ProductFile(
        path=path,
        sha256=file_sha256(whole),
        bytes=whole.stat().st_size,
        rows=rows,
        size=size,
        tract=tract,
        healpix=healpix,
    )


def write_checksums(directory: Path, files: Iterable[ProductFile]) -> None:
    """Write the checksums of a product for ``sha256sum -c``.

    Parameters
    ----------
    directory
        Directory of the product.
    files
        Its files, in any order.
    """
    lines = [f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path)]
    write_atomically(directory / CHECKSUMS_NAME, "".join(lines))


def read_checksums(directory: str | Path) -> Mapping[str, str]:
    """Read the checksums of a product.

    Parameters
    ----------
    directory
        Directory of the product.

    Returns
    -------
    checksums
        Hexadecimal sha256 by relative path.

    Raises
    ------
    UserError
        Raised if there are none.
    CorruptInputError
        Raised if a line is not of the form that ``sha256sum`` writes.
    """
    path = Path(directory) / CHECKSUMS_NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{directory} has no {CHECKSUMS_NAME}: it is no finished product.") from None
    except UnicodeDecodeError as error:
        raise CorruptInputError(f"{path} is damaged: {error}") from None
    checksums: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not (match := re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)):
            raise CorruptInputError(f"{path} is damaged: line {number} is not a checksum and a path.")
        checksums[match[2]] = match[1]
    return checksums
