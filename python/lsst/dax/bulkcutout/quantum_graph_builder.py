# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""One quantum for each patch that has targets."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lsst.daf.butler import Butler, DataIdValue, DatasetRef, MissingDatasetTypeError
from lsst.pipe.base import Pipeline
from lsst.pipe.base.pipeline_graph import PipelineGraph, TaskNode
from lsst.pipe.base.quantum_graph_builder import (
    InitInputMissingError,
    OutputExistsError,
    QuantumGraphBuilder,
)
from lsst.pipe.base.quantum_graph_skeleton import DatasetKey, QuantumGraphSkeleton

from .campaign import Campaign, Plan
from .campaign_butler import open_source, write_campaign_butler
from .cutout_formatter import define_storage_class
from .discovery.source_images import Coverage, SourceImages
from .errors import UserError
from .extract_connections import COMPANION_CONNECTIONS, ExtractCutoutsConfig
from .graph_software import check_attempts, graph_metadata
from .output_registry import check_output_repository
from .patch_loads import write_patch_loads
from .planning import plan_campaign, request_of
from .product_directory import claim_product_directory
from .purged import refuse_purged
from .quantum_outputs import keep_registered, read_outputs
from .registered_outputs import RegisteredOutputs
from .request import CutoutRequest
from .target_table import sha256_of
from .watch.register import note_campaign

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
    use
        Called with a patch and the cutout dataset that is registered for it
        in ``skip_existing_in``; the quantum is skipped if it returns `True`.
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
        use: Callable[[Coverage, DatasetRef], bool] = lambda patch, ref: True,
        **kwargs: Any,
    ) -> None:
        super().__init__(pipeline_graph, butler, **kwargs)
        self._skymap = skymap
        self._coverage = coverage
        self._use = use

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
            images = task.inputs["images"].parent_dataset_type_name
            outputs = [edge.parent_dataset_type_name for edge in task.iter_all_outputs()]
            for patch in self._coverage:
                first = next(iter(patch.datasets.values()))
                data_id = first.dataId.subset(task.dimensions)
                quantum = skeleton.add_quantum_node(task.label, data_id)
                inputs = [
                    (images, ref)
                    for _, ref in [*sorted(patch.datasets.items()), *sorted(patch.neighbors.items())]
                ]
                for kind, refs in sorted(patch.companions.items()):
                    name = task.inputs[COMPANION_CONNECTIONS[kind]].parent_dataset_type_name
                    inputs += [(name, ref) for _, ref in sorted(refs.items())]
                for name, ref in inputs:
                    key = skeleton.add_dataset_node(name, ref.dataId)
                    skeleton.set_dataset_ref(ref, key)
                    skeleton.add_input_edge(quantum, key)
                for name in outputs:
                    skeleton.add_output_edge(quantum, skeleton.add_dataset_node(name, data_id))
            self._mark_for_skip(skeleton, task, outputs)
            if self.output_run_exists:
                for name in outputs:
                    for values, ref in self._registered(name, [self.output_run]).items():
                        if DatasetKey(name, values) in skeleton:
                            skeleton.set_output_in_the_way(ref)
        return skeleton

    def _mark_for_skip(self, skeleton: QuantumGraphSkeleton, task: TaskNode, outputs: Sequence[str]) -> None:
        """Find quanta whose outputs are registered."""
        earlier = {name: self._registered(name, self.skip_existing_in) for name in outputs}
        cutouts = task.outputs["cutouts"].parent_dataset_type_name
        metadata = task.metadata_output.parent_dataset_type_name
        for patch in self._coverage:
            values = next(iter(patch.datasets.values())).dataId.subset(task.dimensions).required_values
            found = {name: refs[values] for name, refs in earlier.items() if values in refs}
            # The base class takes metadata for enough, which a killed job
            # can have left alone.
            if {cutouts, metadata} <= found.keys() and self._use(patch, found[cutouts]):
                for ref in found.values():
                    skeleton.set_output_for_skip(ref)

    def _registered(
        self, dataset_type: str, collections: Sequence[str]
    ) -> dict[tuple[DataIdValue, ...], DatasetRef]:
        if not collections:
            return {}
        try:
            self.butler.get_dataset_type(dataset_type)
        except MissingDatasetTypeError:
            # The usual case: outputs stay in the campaign's own datastore.
            return {}
        refs = self.butler.query_datasets(
            dataset_type,
            collections=collections,
            where=f"skymap = '{self._skymap}'",
            limit=None,
            explain=False,
        )
        return {ref.dataId.required_values: ref for ref in refs}


def build_graph(
    campaign: Campaign,
    graph: Path,
    *,
    output_run: str,
    request_file: Path | None = None,
    skip_existing_in: Sequence[str] = (),
    clobber: bool = False,
    max_memory_mb: int | None = None,
    threads: int | None = None,
    other_software: bool = False,
    check_request: Callable[[CutoutRequest], None] = lambda request: None,
    check_plan: Callable[
        [CutoutRequest, Plan, Sequence[Coverage], SourceImages], None
    ] = lambda request, plan, coverage, images: None,
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
    threads
        Threads of a quantum; the task's default if `None`.
    other_software
        Whether the campaign may have been begun with another software.
    check_request
        Raises if the request is not allowed here.
    check_plan
        Raises if a campaign that does all this is not allowed here.
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
    refuse_purged(campaign)
    _refuse_cancelled(campaign)
    request = request_of(campaign, request_file)
    check_request(request)
    if not other_software:
        check_attempts(campaign, f"`extraQgraphOptions: --other-software` in {campaign.bps_config.name}")
    check_output_repository(request)
    claim_product_directory(Path(request.output), campaign)
    # For those who came here by `bps submit`.
    note_campaign(campaign)
    define_storage_class()
    with open_source(request.butler) as butler:
        write_campaign_butler(campaign, butler, request.butler)
        images = SourceImages(butler, request)
        plan, coverage = plan_campaign(campaign, request, images, progress)
        if not coverage:
            counts = ", ".join(f"{n} are {status}" for status, n in plan.refused.items())
            said = [
                f"No target has an image: of {plan.catalog_rows} rows {counts}.",
                f"Each row's reason is in {campaign.refused}.",
                *plan.warnings,
            ]
            raise UserError(" ".join(said))
        check_plan(request, plan, coverage, images)
        write_patch_loads(
            campaign,
            request,
            plan,
            coverage,
            images,
            max_memory_mb=max_memory_mb or ExtractCutoutsConfig.max_memory_mb.default,
        )
        finished = {place for place, output in read_outputs(campaign).items() if output.done}
        coverage = [patch for patch in coverage if (patch.tract, patch.patch) not in finished]
        registered = RegisteredOutputs(butler, campaign, plan, request)
        components = None
        if coverage:
            try:
                components = CutoutQuantumGraphBuilder(
                    _pipeline(campaign, request, butler, max_memory_mb, threads).to_graph(),
                    butler,
                    skymap=plan.skymap,
                    coverage=coverage,
                    use=registered.use,
                    input_collections=list(request.collections),
                    output_run=output_run,
                    skip_existing_in=list(skip_existing_in),
                    clobber=clobber,
                ).finish(metadata=graph_metadata(campaign))
            except OutputExistsError as error:
                raise UserError(
                    f"Run {output_run} has outputs already: {error} Name another run, or give "
                    f"--skip-existing-in {output_run} to use them, or --clobber-outputs to make them anew."
                ) from error
            except InitInputMissingError:
                # Registered without the configuration of their run.
                if len(registered.used) < len(coverage):
                    raise
        if registered.used:
            keep_registered(campaign, registered.used)
        if components is None or not components.header.n_quanta:
            raise UserError(
                f"All quanta of campaign {campaign.root} have finished: `bulkcutout finish {campaign.root}` "
                "packages them."
            )
        _refuse_cancelled(campaign)
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


def _refuse_cancelled(campaign: Campaign) -> None:
    if campaign.cancelled.exists():
        raise UserError(f"Campaign {campaign.root} was cancelled: `bulkcutout restart` goes on with it.")


def _pipeline(
    campaign: Campaign,
    request: CutoutRequest,
    butler: Butler,
    max_memory_mb: int | None,
    threads: int | None,
) -> Pipeline:
    pipeline = Pipeline.from_uri(str(PIPELINE))
    dataset_type = butler.get_dataset_type(request.dataset_type)
    for key, own in {"max_memory_mb": max_memory_mb, "threads": threads}.items():
        if own is not None:
            pipeline.addConfigOverride(TASK_LABEL, key, own)
    for key, value in {
        "connections.datasetType": request.dataset_type,
        "request_id": request.request_id,
        "storage_class": dataset_type.storageClass_name,
        "planes": list(request.planes),
        "background": request.background,
        "precision": request.precision,
        "plan": campaign.plan.as_uri(),
        "plan_sha256": sha256_of(campaign.plan.read_bytes()),
        "mask_codes": dict(request.companions.mask_codes or {}),
        "companions": {
            kind: butler.get_dataset_type(name).storageClass_name
            for kind, name in request.companions.types.items()
        },
        **{f"connections.{kind}Type": name for kind, name in request.companions.types.items()},
    }.items():
        pipeline.addConfigOverride(TASK_LABEL, key, value)
    return pipeline
