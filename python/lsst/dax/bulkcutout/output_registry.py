# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cutout datasets are copied into a repository of the user's choice.

They keep the identifiers that the graph gave them, so that doing it again
adds what is missing and nothing else.  (`registered_outputs` is for the other
way: outputs that a repository has already.)
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable
from pathlib import Path

from lsst.daf.butler import (  # type: ignore[attr-defined] # CollectionType is public all the same
    Butler,
    ButlerConfig,
    CollectionType,
    DatasetRef,
    DimensionRecord,
    FileDataset,
    MissingCollectionError,
)

from .campaign import Campaign
from .cutout_formatter import CutoutFormatter, define_storage_class
from .errors import UserError
from .quantum_outputs import read_cutout_refs, read_outputs
from .request import CutoutRequest

__all__ = ("check_output_repository", "register_outputs", "try_to_register")

_LOG = logging.getLogger(__name__)

DATASETS_AT_A_TIME = 200
"""Datasets of one transaction: what was done before a failure stays done."""


def try_to_register(campaign: Campaign, request: CutoutRequest) -> str:
    """Register the outputs of a campaign, if that is possible.

    Parameters
    ----------
    campaign
        A campaign whose product is there.
    request
        Its request, which names repository and collection.

    Returns
    -------
    message
        What went wrong; empty if nothing did.  It is not the end of anything:
        the product is what the user gets.
    """
    try:
        register_outputs(campaign, request)
    except Exception as error:
        # Of databases, networks and disks: whatever it is, it is told, and
        # the next `finish` tries again.
        _LOG.debug("Registration failed.", exc_info=True)
        reason = " ".join(str(error).split()) or type(error).__name__
        message = (
            f"The outputs are not, or not all, registered in {request.registration.butler}: {reason} "
            f"(`bulkcutout finish {campaign.root}` tries again.)"
        )
        _LOG.warning("%s", message)
        return message
    return ""


def register_outputs(campaign: Campaign, request: CutoutRequest) -> int:
    """Copy the cutout datasets of a campaign into the output repository.

    Parameters
    ----------
    campaign
        The campaign; quanta that are not done are left out.
    request
        Its request, which names repository and collection.

    Returns
    -------
    n
        Number of datasets that were copied; those that are there already are
        not.

    Raises
    ------
    UserError
        Raised if the repository or the collection is not fit for it.
    """
    uri, collection = request.registration.butler, request.registration.collection
    assert uri is not None and collection is not None
    check_output_repository(request)
    define_storage_class()
    outputs = {output.dataset_id: output for output in read_outputs(campaign).values() if output.done}
    refs = read_cutout_refs(campaign, outputs)
    with Butler.from_config(uri, writeable=True) as butler:
        _check_collection(butler, collection)
        if (universe := next((ref.dimensions.universe for ref in refs), None)) not in (
            None,
            butler.dimensions,
        ):
            raise UserError(
                f"Request field 'registration.butler': the dimensions of {uri} are {butler.dimensions}, "
                f"those of the campaign {universe}."
            )
        known = butler.stored_many(refs)
        _check_runs(butler, [ref for ref in refs if known[ref]], collection, request)
        missing = [
            ref.replace(id=ref.id, run=_run(collection, request, ref.run))
            for ref in sorted(refs, key=lambda ref: (ref.run, ref.dataId["tract"], ref.dataId["patch"]))
            if not known[ref]
        ]
        if missing:
            _insert_records(butler, missing)
            butler.registry.registerDatasetType(missing[0].datasetType)
            for run in sorted({ref.run for ref in missing}):
                butler.collections.register(run)
        for batch in itertools.batched(missing, DATASETS_AT_A_TIME):
            files = [
                FileDataset(path=str(outputs[str(ref.id)].path), refs=[ref], formatter=CutoutFormatter)
                for ref in batch
            ]
            butler.ingest(*files, transfer="copy", skip_existing=True)
        # The newest first, where a patch was cut again.
        _chain(butler, collection, sorted({_run(collection, request, ref.run) for ref in refs}, reverse=True))
    _LOG.info("Registered %d of %d cutout datasets in %s.", len(missing), len(refs), uri)
    return len(missing)


def check_output_repository(request: CutoutRequest) -> None:
    """Make sure that outputs do not go to the source repository.

    Parameters
    ----------
    request
        Names both.

    Raises
    ------
    UserError
        Raised if both are the same; the source is never written.
    """
    uri = request.registration.butler
    if uri is not None and _places(uri, "registration.butler") & _places(request.butler, "butler"):
        raise UserError(
            f"Request field 'registration.butler': {uri} is the repository of the images, which is never "
            "written. Name another one."
        )


def _places(uri: str, field: str) -> set[str]:
    """Where a repository is: its root and its database."""
    try:
        config = ButlerConfig(uri)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"Request field '{field}': {uri!r} is no Butler repository: {reason}") from error
    places = set()
    if config.configDir is not None:
        root = config.configDir
        places.add(str(Path(root.ospath).resolve()) if root.isLocal else root.geturl().rstrip("/"))
    database = str(config.get(("registry", "db"), ""))
    if database and "<butlerRoot>" not in database:
        places.add(f"{database} {config.get(('registry', 'namespace'), '')}")
    return places


def _run(collection: str, request: CutoutRequest, run: str) -> str:
    """Name a run below the collection: by request and attempt."""
    return f"{collection}/{request.request_id}/{run.rpartition('/')[2]}"


def _check_collection(butler: Butler, collection: str) -> None:
    try:
        kind = butler.collections.get_info(collection).type
    except MissingCollectionError:
        return
    if kind is not CollectionType.CHAINED:
        raise UserError(
            f"Request field 'registration.collection': {collection} exists already as a {kind.name} "
            "collection; name a new one, or a chain of collections."
        )


def _check_runs(butler: Butler, refs: Iterable[DatasetRef], collection: str, request: CutoutRequest) -> None:
    """Make sure that what is there is where it is wanted: a dataset is in one
    run only.
    """
    for run, of_run in itertools.groupby(sorted(refs, key=lambda ref: ref.run), key=lambda ref: ref.run):
        there = butler.get_dataset(next(of_run).id)
        if there is not None and there.run != _run(collection, request, run):
            raise UserError(
                f"Request field 'registration.collection': the cutout datasets are registered in run "
                f"{there.run} already, and can be in one run only."
            )


def _insert_records(butler: Butler, refs: Iterable[DatasetRef]) -> None:
    """Insert what data IDs need, where it is missing."""
    records: dict[str, dict[object, DimensionRecord]] = {}
    for ref in refs:
        for element in ("skymap", "tract", "patch"):
            record = ref.dataId.records[element]
            assert record is not None
            records.setdefault(element, {})[record.dataId] = record
    # The hash in it is that of the whole map: another map of the same name
    # is refused.
    for record in records["skymap"].values():
        butler.registry.syncDimensionData("skymap", record)
    for element in ("tract", "patch"):
        butler.registry.insertDimensionData(element, *records[element].values(), skip_existing=True)


def _chain(butler: Butler, collection: str, runs: list[str]) -> None:
    """Let the collection have the runs."""
    butler.collections.register(collection, CollectionType.CHAINED)
    there = butler.collections.get_info(collection).children
    if new := [run for run in runs if run not in there]:
        butler.collections.prepend_chain(collection, new)
