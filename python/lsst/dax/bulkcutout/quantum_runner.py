# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Runs quanta of a graph, one after the other.

``pipetask run-qbb`` makes a Butler for each quantum, which takes three times
as long as to cut a small patch.  All quanta of a job can have one.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

from lsst.daf.butler import DatasetRef, Quantum, QuantumBackedButler
from lsst.daf.butler.datastore.record_data import DatastoreRecordData
from lsst.pipe.base.mp_graph_executor import MPGraphExecutor
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph
from lsst.pipe.base.single_quantum_executor import SingleQuantumExecutor
from lsst.utils.threads import disable_implicit_threading

from .zipfile_fault import mend_zipfile

__all__ = ("run_quanta",)


def run_quanta(butler_config: Path, graph: Path, quanta: Collection[uuid.UUID] | None = None) -> None:
    """Run quanta in this process; those that are done already are left alone.

    Parameters
    ----------
    butler_config
        Butler configuration of the campaign.
    graph
        Quantum graph.
    quanta
        Which of its quanta; all if `None`.

    Raises
    ------
    lsst.pipe.base.mp_graph_executor.MPGraphExecutorError
        Raised at the end if some have failed.
    """
    # Jobs have one CPU each, as far as is known here.
    disable_implicit_threading()
    with mend_zipfile():
        started = time.monotonic()
        loaded = PredictedQuantumGraph.read_execution_quanta(str(graph), quanta)
        facts = {"qg_read_time": time.monotonic() - started, "qg_size": len(loaded)}
        with contextlib.closing(_one_butler(butler_config, loaded)) as butler:
            executor = SingleQuantumExecutor(
                butler=butler,
                skip_existing=True,
                clobber_outputs=True,
                job_metadata=facts,
            )
            MPGraphExecutor(num_proc=1, timeout=math.inf, quantum_executor=executor).execute(loaded)


def _one_butler(config: Path, graph: PredictedQuantumGraph) -> QuantumBackedButler:
    """A Butler that knows the inputs and outputs of all quanta."""
    quanta = graph.build_execution_quanta().values()
    return QuantumBackedButler.from_predicted(
        str(config),
        predicted_inputs=[ref.id for quantum in quanta for ref in _inputs(quantum)],
        predicted_outputs=[
            ref.id for quantum in quanta for ref in itertools.chain.from_iterable(quantum.outputs.values())
        ],
        dimensions=graph.pipeline_graph.universe,
        datastore_records=DatastoreRecordData.merge_mappings(
            *(quantum.datastore_records for quantum in quanta if quantum.datastore_records is not None)
        ),
        dataset_types={node.name: node.dataset_type for node in graph.pipeline_graph.dataset_types.values()},
    )


def _inputs(quantum: Quantum) -> Iterator[DatasetRef]:
    yield from itertools.chain.from_iterable(quantum.inputs.values())
    yield from quantum.initInputs.values()
