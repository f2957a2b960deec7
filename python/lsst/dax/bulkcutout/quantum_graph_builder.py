# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""One quantum for each patch that has targets."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lsst.daf.butler import Butler, DatasetRef, MissingDatasetTypeError
from lsst.pipe.base import Pipeline
from lsst.pipe.base.pipeline_graph import PipelineGraph
from lsst.pipe.base.quantum_graph_builder import QuantumGraphBuilder
from lsst.pipe.base.quantum_graph_skeleton import DatasetKey, QuantumGraphSkeleton

from .campaign import Campaign, Plan, write_atomically
from .campaign_butler import open_source, write_campaign_butler
from .catalog import open_catalog
from .cutout_formatter import define_storage_class
from .discovery import discover
from .errors import InternalError, UserError
from .product_directory import claim_product_directory
from .quantum_outputs import read_outputs
from .request import CutoutRequest, load_request
from .source_images import Coverage, SourceImages
from .target_table import sha256_of

__all__ = ("PIPELINE", "TASK_LABEL", "CutoutQuantumGraphBuilder", "build_graph")

_LOG = logging.getLogger(__name__)

PIPELINE = Path(__file__).parent / "pipelines" / "coadd_cutouts.yaml"
TASK_LABEL = "extractCutouts"


class CutoutQuantumGraphBuilder(QuantumGraphBuilder):
    """Builds the graph of a campaign from what discovery found.

    Parameters
    ----------
    pipeline_graph
        Pipeline with the extract task.
    butler
        The source repository, read only.
    skymap
        Sky map of the patches.
    coverage
        Patches that have targets, with their datasets.
    **kwargs
        Forwarded to the base class.
    """

    def __init__(
        self,
        pipeline_graph: PipelineGraph,
        butler: Butler,
        *,
        skymap: str,
        coverage: Sequence[Coverage],
        **kwargs: Any,
    ) -> None:
        super().__init__(pipeline_graph, butler, **kwargs)
        self._skymap = skymap
        self._coverage = coverage

    def process_subgraph(self, subgraph: PipelineGraph) -> QuantumGraphSkeleton:
        """Make the quanta, with the datasets that discovery found.

        Parameters
        ----------
        subgraph
            The extract task and its dataset types.

        Returns
        -------
        skeleton
            One quantum for each patch; existing outputs are marked.
        """
        skeleton = QuantumGraphSkeleton(subgraph.tasks)
        for task in subgraph.tasks.values():
            (images,) = [edge.parent_dataset_type_name for edge in task.iter_all_inputs()]
            outputs = [edge.parent_dataset_type_name for edge in task.iter_all_outputs()]
            for patch in self._coverage:
                first = next(iter(patch.datasets.values()))
                data_id = first.dataId.subset(task.dimensions)
                quantum = skeleton.add_quantum_node(task.label, data_id)
                for _, ref in sorted(patch.datasets.items()):
                    key = skeleton.add_dataset_node(images, ref.dataId)
                    skeleton.set_dataset_ref(ref, key)
                    skeleton.add_input_edge(quantum, key)
                for name in outputs:
                    skeleton.add_output_edge(quantum, skeleton.add_dataset_node(name, data_id))
            for name in outputs:
                self._mark_existing(skeleton, name)
        return skeleton

    def _mark_existing(self, skeleton: QuantumGraphSkeleton, dataset_type: str) -> None:
        """Find outputs of earlier runs that are registered."""
        for ref in self._registered(dataset_type, self.skip_existing_in):
            if DatasetKey(dataset_type, ref.dataId.required_values) in skeleton:
                skeleton.set_output_for_skip(ref)
        if self.output_run_exists:
            for ref in self._registered(dataset_type, [self.output_run]):
                if DatasetKey(dataset_type, ref.dataId.required_values) in skeleton:
                    skeleton.set_output_in_the_way(ref)

    def _registered(self, dataset_type: str, collections: Sequence[str]) -> Iterable[DatasetRef]:
        if not collections:
            return []
        try:
            self.butler.get_dataset_type(dataset_type)
        except MissingDatasetTypeError:
            # The usual case: outputs stay in the campaign's own datastore.
            return []
        return self.butler.query_datasets(
            dataset_type,
            collections=collections,
            where=f"skymap = '{self._skymap}'",
            limit=None,
            explain=False,
        )


def build_graph(
    campaign: Campaign,
    graph: Path,
    *,
    output_run: str,
    request_file: Path | None = None,
    skip_existing_in: Sequence[str] = (),
    clobber: bool = False,
    max_memory_mb: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Plan:
    """Plan a campaign, if it has no plan yet, and build a quantum graph.

    Parameters
    ----------
    campaign
        The campaign directory.  If it has run before, only patches that are
        not finished get a quantum.
    graph
        File to write, with the extension ``.qg``.
    output_run
        RUN collection that the outputs are to belong to.
    request_file
        The request, for a campaign that has none yet.
    skip_existing_in
        Collections of the source repository with outputs that need not be
        made again.
    clobber
        Whether registered outputs in the way are to be replaced.
    max_memory_mb
        Memory for pixels in a quantum; the task's default if `None`.
    progress
        Called with the number of rows of each batch that was located.

    Returns
    -------
    plan
        What the campaign is going to do.

    Raises
    ------
    UserError
        Raised if request, catalog or repository are not fit for it.
    """
    started = time.monotonic()
    request = _request(campaign, request_file)
    claim_product_directory(Path(request.output), campaign)
    define_storage_class()
    with open_source(request.butler) as butler:
        write_campaign_butler(campaign, butler, request.butler)
        plan, coverage = _plan(campaign, request, butler, progress)
        if not coverage:
            counts = ", ".join(f"{n} are {status}" for status, n in plan.refused.items())
            said = [
                f"No target has an image: of {plan.catalog_rows} rows {counts}.",
                f"Each row's reason is in {campaign.refused}.",
                *plan.warnings,
            ]
            raise UserError(" ".join(said))
        finished = {place for place, output in read_outputs(campaign).items() if output.done}
        coverage = [patch for patch in coverage if (patch.tract, patch.patch) not in finished]
        if not coverage:
            raise UserError(
                f"All quanta of campaign {campaign.root} have finished: `bulkcutout finish {campaign.root}` "
                "packages them."
            )
        builder = CutoutQuantumGraphBuilder(
            _pipeline(campaign, request, butler, max_memory_mb).to_graph(),
            butler,
            skymap=plan.skymap,
            coverage=coverage,
            input_collections=list(request.collections),
            output_run=output_run,
            skip_existing_in=list(skip_existing_in),
            clobber=clobber,
        )
        components = builder.finish(metadata={"campaign": str(campaign.root)})
        components.write(graph)
    campaign.finish_log.unlink(missing_ok=True)
    # A copy under the campaign's own names: finish reads all attempts.
    campaign.graphs.mkdir(exist_ok=True)
    number = len(campaign.graph_files())
    temporary = campaign.graphs / f".{os.getpid()}"
    shutil.copyfile(graph, temporary)
    temporary.replace(campaign.graphs / f"{number:04d}.qg")
    _LOG.info(
        "Built a graph of %d quanta for %d targets in %.1f s.",
        components.header.n_quanta,
        plan.targets,
        time.monotonic() - started,
    )
    return plan


def _request(campaign: Campaign, request_file: Path | None) -> CutoutRequest:
    """The request of a campaign; before the first graph the user may still
    change it.
    """
    if request_file is None or (campaign.request.exists() and not request_file.exists()):
        if not campaign.request.exists():
            raise UserError(
                f"Campaign {campaign.root} has no {campaign.request.name}: name one with --request."
            )
        return load_request(campaign.request)
    asked = load_request(request_file)
    if campaign.request.exists() and load_request(campaign.request) == asked:
        return asked
    if campaign.graph_files():
        raise UserError(
            f"Request file {request_file} is not what campaign {campaign.root} was planned for: a changed "
            "request needs a campaign and an output of its own."
        )
    campaign.root.mkdir(parents=True, exist_ok=True)
    write_atomically(campaign.request, asked.to_yaml())
    return asked


def _plan(
    campaign: Campaign, request: CutoutRequest, butler: Butler, progress: Callable[[int], None]
) -> tuple[Plan, list[Coverage]]:
    # A plan that no graph was built for may be of an earlier request, or of a
    # catalog that was mended since.
    if campaign.plan.exists() and campaign.graph_files():
        plan = campaign.read_plan()
        if plan.request_fingerprint != request.fingerprint():
            raise UserError(
                f"{campaign.request} was changed after the campaign was planned: a changed request needs a "
                "campaign and an output of its own."
            )
        images = SourceImages(butler, request)
        return plan, images.coverage([campaign.targets / tract.path for tract in plan.tracts])
    shutil.rmtree(campaign.targets, ignore_errors=True)
    campaign.plan.unlink(missing_ok=True)
    catalog = open_catalog(request.catalog, request.size)
    found = discover(request, catalog, butler, campaign, progress=progress)
    plan = Plan(
        request_fingerprint=request.fingerprint(),
        skymap=found.skymap,
        bands=found.bands,
        catalog_rows=catalog.n_rows,
        refused=found.refused,
        tracts=found.tracts,
        warnings=found.warnings,
    )
    if (total := plan.targets + sum(plan.refused.values())) != catalog.n_rows:
        raise InternalError(f"The catalog has {catalog.n_rows} rows, but {total} of them were accounted for.")
    campaign.write_plan(plan)
    for warning in plan.warnings:
        _LOG.warning("%s", warning)
    _LOG.info(
        "%d rows: %d targets in %d patches of %d tracts, bands %s; refused %s.",
        plan.catalog_rows,
        plan.targets,
        len(found.coverage),
        len(plan.tracts),
        ", ".join(plan.bands),
        plan.refused or "none",
    )
    return plan, found.coverage


def _pipeline(
    campaign: Campaign, request: CutoutRequest, butler: Butler, max_memory_mb: int | None
) -> Pipeline:
    pipeline = Pipeline.from_uri(str(PIPELINE))
    dataset_type = butler.get_dataset_type(request.dataset_type)
    if max_memory_mb is not None:
        pipeline.addConfigOverride(TASK_LABEL, "max_memory_mb", max_memory_mb)
    for key, value in {
        "connections.datasetType": request.dataset_type,
        "storage_class": dataset_type.storageClass_name,
        "planes": list(request.planes),
        "plan": campaign.plan.as_uri(),
        "plan_sha256": sha256_of(campaign.plan.read_bytes()),
    }.items():
        pipeline.addConfigOverride(TASK_LABEL, key, value)
    return pipeline
