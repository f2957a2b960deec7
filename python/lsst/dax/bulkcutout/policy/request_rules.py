# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Rules of a site that a request can be held to without reading any data."""

from __future__ import annotations

import os
import pwd
import urllib.parse
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from ..request import CutoutRequest
from ..software import version_of
from .site_policy import SitePolicy

__all__ = ("broken_rules", "callback_refusals")


def broken_rules(policy: SitePolicy, request: CutoutRequest) -> Iterator[str]:
    """Say what of a request the site does not allow.

    Parameters
    ----------
    policy
        What the site allows.
    request
        The request.

    Yields
    ------
    refusal
        The value, and what would be allowed.
    """
    user = _user()
    if policy.service_account not in (None, user):
        yield f"the user who submits is {user}, and must be {policy.service_account}"
    if policy.repositories is not None and not _is_allowed_repository(request.butler, policy.repositories):
        yield f"repository {request.butler}: allowed are {_listed(policy.repositories)}"
    yield from _not_among("collection", request.collections, policy.collections)
    types = [request.dataset_type, *request.companions.types.values()]
    if request.catalog.lookup is not None:
        types.append(request.catalog.lookup)
    yield from _not_among("dataset type", types, policy.dataset_types)
    if request.notify.url is not None:
        yield from callback_refusals(policy, request.notify.url)
    for package, version in (policy.software or {}).items():
        if (installed := version_of(package)) != version:
            yield f"package {package} is {installed or 'not installed'}, and must be {version}"


def callback_refusals(policy: SitePolicy, url: str) -> Iterator[str]:
    """Say why a server may not be told of the end of a campaign.

    Parameters
    ----------
    policy
        What the site allows.
    url
        The server's address.

    Yields
    ------
    refusal
        What is not allowed, and what would be.
    """
    parts = urllib.parse.urlsplit(url)
    if policy.callback_https_only and parts.scheme != "https":
        yield f"callback to host {parts.hostname} by {parts.scheme}: allowed is https only"
    if policy.callback_hosts is None:
        return
    # A pattern without a port allows any.
    names = {(parts.hostname or "").lower(), parts.netloc.rpartition("@")[2].lower()}
    if not any(fnmatchcase(name, pattern.lower()) for name in names for pattern in policy.callback_hosts):
        yield f"callback to host {parts.hostname}: allowed are {_listed(policy.callback_hosts)}"


def _user() -> str:
    # Not as the environment says, which anybody can set.
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _is_allowed_repository(name: str, patterns: Iterable[str]) -> bool:
    names = {name}
    if "/" in name and "://" not in name:
        # Not by way of "..": /public/../secret is none of /public/*.
        names = {os.path.realpath(name)} | (set() if ".." in name.split("/") else {name})
    names |= {each.removesuffix("/butler.yaml") for each in names}
    names |= {each.rstrip("/") for each in names}
    return any(fnmatchcase(each, pattern) for each in names for pattern in patterns)


def _not_among(what: str, names: Iterable[str], patterns: tuple[str, ...] | None) -> Iterator[str]:
    if patterns is None:
        return
    for name in names:
        if not any(fnmatchcase(name, pattern) for pattern in patterns):
            yield f"{what} {name}: allowed are {_listed(patterns)}"


def _listed(patterns: tuple[str, ...]) -> str:
    return ", ".join(patterns) or "none"
