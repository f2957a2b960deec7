# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a site allows: a YAML file becomes a `SitePolicy`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import BeforeValidator

from ..request.checks import several, text, whole_number, yes_or_no
from ..request.field_types import Part
from ..request.fields import check_fields
from ..request.file import read_mapping

__all__ = ("SitePolicy", "load_policy")

SCHEMA_VERSION = 1
"""The newest layout of a policy that is known here."""

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}

LONGEST_LIFETIME_DAYS = 36500


def load_policy(path: str | Path) -> SitePolicy:
    """Read and check the policy of a site.

    Parameters
    ----------
    path
        YAML or JSON file.

    Returns
    -------
    policy
        What the site allows.

    Raises
    ------
    UserError
        Raised if the file cannot be read, or with one line for every field
        that is wrong: its name, its value, what is allowed.
    """
    path = Path(path)
    return check_fields(
        SitePolicy,
        read_mapping(path, "Site policy"),
        newest=SCHEMA_VERSION,
        where=f"Site policy {path}",
        directory=path.absolute().parent,
    )


def _or_none(check: Callable[[Any], Any]) -> BeforeValidator:
    return BeforeValidator(lambda value: value if value is None else check(value))


def _byte_count(value: Any) -> int:
    allowed = "must be a whole number of bytes, or text with a unit, as in '500 GB'"
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?) ?([kMGTP]?B)", value, re.ASCII)):
        return round(float(found[1]) * UNITS[found[2]])
    raise ValueError(f"{allowed}; units are {', '.join(UNITS)}, of powers of 1000")


def _versions(value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        raise ValueError("must be a mapping of packages to versions, as in {lsst-daf-butler: '30.2026.4300'}")
    for package, version in value.items():
        if not isinstance(package, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", package):
            raise ValueError(f"{package!r} is not the name of a package, such as lsst-daf-butler")
        if not isinstance(version, str) or not version.strip():
            raise ValueError(f"the version of {package} must be text: put {version!r} in quotes")
    return value


_Rows = Annotated[int | None, _or_none(whole_number(1, 10**12, unit="rows"))]
_Quanta = Annotated[int | None, _or_none(whole_number(1, 10**9, unit="quanta"))]
_Campaigns = Annotated[int | None, _or_none(whole_number(1, 10**6, unit="campaigns"))]
_Bytes = Annotated[int | None, _or_none(_byte_count)]
_Days = Annotated[int | None, _or_none(whole_number(1, LONGEST_LIFETIME_DAYS, unit="days"))]
_check_pattern = text(
    r"\S(.*\S)?", "a name or a pattern, in which * stands for any text and ? for one letter"
)
_check_word = text(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*", "a name of letters, digits and _ . @ -")
_Patterns = Annotated[
    tuple[str, ...] | None, _or_none(several("names or patterns", item=_check_pattern, or_none=True))
]
_Word = Annotated[str | None, _or_none(_check_word)]
_Hosts = Annotated[
    tuple[str, ...] | None,
    _or_none(
        several(
            "hosts",
            item=text(r"[A-Za-z0-9*?][A-Za-z0-9.*?:-]*", "the name of a host, or a pattern with * and ?"),
            or_none=True,
        )
    ),
]


class SitePolicy(Part):
    """What a site allows; a field that is not given allows anything.

    The string under a field is what messages and the manual say of it.
    """

    schema_version: Annotated[
        int, BeforeValidator(whole_number(1, SCHEMA_VERSION, unit="layout versions"))
    ] = SCHEMA_VERSION
    """Version of the layout of this file."""

    contact: Annotated[str, BeforeValidator(text(r".*\S.*", "text on one line"))]
    """Whom to ask for more; every refusal ends with it."""

    max_rows: _Rows = None
    """Most rows of a catalog."""

    max_quanta: _Quanta = None
    """Most quanta, which is patches with targets."""

    max_read_bytes: _Bytes = None
    """Most bytes of image files to read."""

    max_product_bytes: _Bytes = None
    """Most bytes of a product."""

    max_packaging_bytes: _Bytes = None
    """Most bytes of a product that the last job may package on its one
    node."""

    free_space_margin: Annotated[int | None, _or_none(whole_number(0, 1000, unit="per cent"))] = None
    """Free space that there must be, in per cent above intermediates and
    product; without it space is not looked at."""

    min_free_bytes: _Bytes = None
    """Free space that must be left besides, with intermediates and product
    written."""

    max_campaigns: _Campaigns = None
    """Most campaigns at a time: those that run, are held or build their
    graph."""

    repositories: _Patterns = None
    """Repositories that may be read: paths or labels."""

    collections: _Patterns = None
    """Collections that a request may name."""

    dataset_types: _Patterns = None
    """Dataset types that a request may name, for images, companions and
    lookup."""

    service_account: _Word = None
    """The user who must be the one that submits."""

    accounting_group: _Word = None
    """Accounting group of all jobs."""

    accounting_user: _Word = None
    """User that all jobs are charged to within the group."""

    priority: Annotated[int | None, _or_none(whole_number(-(10**6), 10**6, unit="priority"))] = None
    """Priority of all jobs among those of the same user; higher goes
    first."""

    read_limit: _Word = None
    """Concurrency limit of the jobs that read images: the name of one of the
    pool's."""

    software: Annotated[dict[str, str] | None, _or_none(_versions)] = None
    """Versions that the graph must be built with, by package."""

    callback_hosts: _Hosts = None
    """Hosts that may be told when a campaign has ended."""

    callback_https_only: Annotated[bool, BeforeValidator(yes_or_no)] = False
    """Whether they must be told by https: true or false."""

    intermediates_days: _Days = None
    """Days for which the intermediates of a campaign are kept after its
    end."""

    products_days: _Days = None
    """Days for which products are kept after the campaign's end."""

    @pydantic.field_validator("products_days", mode="after")
    @classmethod
    def _products_outlive_intermediates(cls, value: int | None, info: pydantic.ValidationInfo) -> int | None:
        shorter = info.data.get("intermediates_days")
        if value is not None and shorter is not None and value < shorter:
            raise ValueError(f"must not be less than intermediates_days, {shorter}")
        return value
