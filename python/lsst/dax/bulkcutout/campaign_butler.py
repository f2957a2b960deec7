# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The Butler that the jobs of a campaign use: reads from the source
repository, writes to the campaign directory.

A quantum-backed Butler writes into the datastore of the configuration that it
is given.  So the jobs get one with a chain of datastores: those of the source
under their own names, so that its records are understood, but closed to all
writing; and one of the campaign's own.
"""

from __future__ import annotations

from typing import Any

import yaml
from sqlalchemy.exc import SQLAlchemyError
from yaml import YAMLError

from lsst.daf.butler import Butler, ButlerConfig, Config

from .campaign import Campaign, write_atomically
from .cutout_formatter import STORAGE_CLASS, STORAGE_CLASS_DEFINITION, CutoutFormatter
from .errors import UserError

__all__ = ("open_source", "write_campaign_butler")

CHAINED = "lsst.daf.butler.datastores.chainedDatastore.ChainedDatastore"
FILE = "lsst.daf.butler.datastores.fileDatastore.FileDatastore"

# Some thousand lines: a second of Python, or a blink in C.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

NOWHERE = ".bulkcutout/{run:/}/{datasetType}.{component:?}/{skymap:?}_{tract:?}_{patch:?}_{band:?}_{id}"
"""Where jobs look for their own outputs in the source: where none are.

A quantum-backed Butler finds datasets without records by their file names.
With the source's own names a job whose run exists there, too, would take those
outputs for its own, and remove them if they were incomplete.
"""


def open_source(uri: str) -> Butler:
    """Open the source repository for reading.

    Parameters
    ----------
    uri
        Path, URI or label of a repository.

    Returns
    -------
    butler
        Read-only client.

    Raises
    ------
    UserError
        Raised if there is no repository, or one without files of its own.
    """
    try:
        butler = Butler.from_config(uri, writeable=False)
    except (OSError, KeyError, RuntimeError, ValueError, YAMLError, SQLAlchemyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"Request field 'butler': {uri!r} is no Butler repository: {reason}") from error
    if not hasattr(butler, "_datastore"):
        raise UserError(
            f"Request field 'butler': {uri!r} is a remote Butler, which has no datastore that jobs could "
            "read from; name the repository itself."
        )
    return butler


def write_campaign_butler(campaign: Campaign, butler: Butler, uri: str) -> None:
    """Write the Butler configuration of a campaign's jobs.

    Parameters
    ----------
    campaign
        Where to write it.
    butler
        The source repository.
    uri
        Where that is.
    """
    source = ButlerConfig(uri)
    root = source.configDir.geturl() if source.configDir is not None else uri
    formatters = {STORAGE_CLASS: f"{CutoutFormatter.__module__}.{CutoutFormatter.__qualname__}"}
    children = _file_datastores(source["datastore"], butler._datastore)
    for child in children:
        child["root"] = str(child["root"]).replace("<butlerRoot>", root.rstrip("/"))
        child["constraints"] = {"reject": ["all"]}
        child["create"] = False
        child["templates"] = {"default": NOWHERE}
    own = {
        "cls": FILE,
        "name": "bulkcutout-campaign",
        "root": campaign.datastore.as_uri(),
        "records": {"table": "bulkcutout_campaign_records"},
        "create": True,
    }
    for datastore in (*children, own):
        datastore["formatters"] = {**datastore.get("formatters", {}), **formatters}
    # No registry: a job that asked one anything would be a mistake, and its
    # address need not be known outside the repository.
    config = {
        "root": root,
        "storageClasses": {
            **source.toDict().get("storageClasses", {}),
            STORAGE_CLASS: STORAGE_CLASS_DEFINITION,
        },
        "datastore": {"cls": CHAINED, "datastores": [*children, own]},
    }
    campaign.root.mkdir(parents=True, exist_ok=True)
    write_atomically(campaign.butler_config, yaml.dump(config, Dumper=_DUMPER, sort_keys=True))


def _file_datastores(config: Config, datastore: Any) -> list[dict[str, Any]]:
    """Configurations of the datastores that hold the source's files, each
    with the name under which the records of its files are.
    """
    if "datastores" in config:
        children = zip(config["datastores"], datastore.datastores, strict=True)
        return [part for child, made in children for part in _file_datastores(Config(child), made)]
    # What is in memory is in no other process's.
    return [{**Config(config).toDict(), "name": datastore.name}] if "root" in config else []
