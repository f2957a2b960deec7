# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What the quanta of a campaign have left in its datastore.

Answers come from the graphs and the files alone: no registry is asked, so
that this works in any job and however a run has ended.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Container, Iterable
from pathlib import Path

from lsst.daf.butler import ButlerConfig, DatasetRef, LocationFactory, Quantum, QuantumBackedButler
from lsst.daf.butler.datastore.record_data import DatastoreRecordData
from lsst.daf.butler.datastore.stored_file_info import StoredFileInfo
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

from .campaign import Campaign
from .cutout_formatter import STORAGE_CLASS
from .quantum_output import QuantumOutput, read_list, write_list
from .zipfile_fault import mend_zipfile

__all__ = ("keep_registered", "read_cutout_refs", "read_outputs")


def read_outputs(campaign: Campaign) -> dict[tuple[int, int], QuantumOutput]:
    """Look up the outputs of all quanta.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    outputs
        The state of every patch that any graph has, or that needs none, by
        tract and patch, ascending.  Where several attempts are done, the
        first one counts: it is what a product may already have been made
        from.
    """
    found = {(output.tract, output.patch): output for output in _read_registered(campaign)}
    if not (graphs := campaign.graph_files()):
        return dict(sorted(found.items()))
    config = ButlerConfig(str(campaign.butler_config))
    for path in graphs:
        for output in _read_attempt(config, path):
            place = (output.tract, output.patch)
            if place not in found or not found[place].done:
                found[place] = output
    return dict(sorted(found.items()))


def read_cutout_refs(campaign: Campaign, dataset_ids: Container[str]) -> list[DatasetRef]:
    """Find the cutout datasets as the graphs name them.

    Parameters
    ----------
    campaign
        The campaign.
    dataset_ids
        Identifiers of the datasets that are wanted.

    Returns
    -------
    refs
        With the records of their data IDs.  What no graph of this campaign
        has, now or before its request was changed, is left out: another
        campaign has made it.
    """
    refs = {}
    for path in sorted(campaign.graphs.rglob("*.qg")):
        with mend_zipfile():
            graph = PredictedQuantumGraph.read_execution_quanta(str(path))
            quanta = list(graph.build_execution_quanta().values())
        for quantum in quanta:
            cutouts, _ = _wanted(quantum)
            if str(cutouts.id) in dataset_ids:
                refs[cutouts.id] = cutouts
    return list(refs.values())


def keep_registered(campaign: Campaign, outputs: Iterable[QuantumOutput]) -> None:
    """Note that a campaign uses outputs of others.

    Parameters
    ----------
    campaign
        The campaign; their patches are in no graph of it.
    outputs
        The outputs.
    """
    kept = {(output.tract, output.patch): output for output in (*_read_registered(campaign), *outputs)}
    write_list(campaign.registered, [output for _, output in sorted(kept.items())])


def _read_registered(campaign: Campaign) -> list[QuantumOutput]:
    if not campaign.registered.exists():
        return []
    return read_list(campaign.registered)


def _read_attempt(config: ButlerConfig, path: Path) -> list[QuantumOutput]:
    with mend_zipfile():
        graph = PredictedQuantumGraph.read_execution_quanta(str(path))
        quanta = list(graph.build_execution_quanta().values())
    inputs = [ref for quantum in quanta for refs in quantum.inputs.values() for ref in refs]
    outputs = [ref for quantum in quanta for refs in quantum.outputs.values() for ref in refs]
    with QuantumBackedButler.from_predicted(
        config,
        predicted_inputs=[ref.id for ref in inputs],
        predicted_outputs=[ref.id for ref in outputs],
        dimensions=graph.pipeline_graph.universe,
        datastore_records=DatastoreRecordData.merge_mappings(
            *(quantum.datastore_records for quantum in quanta)
        ),
        dataset_types={node.name: node.dataset_type for node in graph.pipeline_graph.dataset_types.values()},
    ) as butler:
        places = _input_places(butler, quanta)
        stored = butler.stored_many([ref for quantum in quanta for ref in _wanted(quantum)])
        results = []
        for quantum in quanta:
            cutouts, metadata = _wanted(quantum)
            done = stored[cutouts] and stored[metadata]
            assert quantum.dataId is not None
            results.append(
                QuantumOutput(
                    tract=int(quantum.dataId["tract"]),
                    patch=int(quantum.dataId["patch"]),
                    done=done,
                    path=Path(butler.getURI(cutouts).ospath) if done else None,
                    dataset_id=str(cutouts.id),
                    run=cutouts.run,
                    inputs={
                        str(ref.id): places[ref.id]
                        for refs in quantum.inputs.values()
                        for ref in refs
                        if ref.id in places
                    },
                )
            )
    return results


def _input_places(butler: QuantumBackedButler, quanta: Iterable[Quantum]) -> dict[uuid.UUID, str]:
    """Where the inputs are, as their records say: a chain of datastores would
    look for each file, and know no place for one that is missing.
    """
    roots = butler._datastore.roots
    factories = {name: LocationFactory(root) for name, root in roots.items() if root is not None}
    places = {}
    for quantum in quanta:
        for name, data in quantum.datastore_records.items():
            for dataset, tables in data.records.items():
                for info in itertools.chain(*tables.values()):
                    if isinstance(info, StoredFileInfo):
                        places[dataset] = info.file_location(factories[name]).uri.ospath
    return places


def _wanted(quantum: Quantum) -> tuple[DatasetRef, DatasetRef]:
    """The cutout dataset and the metadata of a quantum."""
    refs = [ref for refs in quantum.outputs.values() for ref in refs]
    (cutouts,) = [ref for ref in refs if ref.datasetType.storageClass_name == STORAGE_CLASS]
    (metadata,) = [ref for ref in refs if ref.datasetType.name.endswith("_metadata")]
    return cutouts, metadata
