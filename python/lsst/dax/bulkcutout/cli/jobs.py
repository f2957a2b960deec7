# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Commands that BPS runs."""

from __future__ import annotations

import contextlib
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import click

from .error_exits import exit_code_of
from .root import CAMPAIGN, cli

__all__ = ("build_graph", "finish", "init_run", "prepare_jobs", "run_quanta")

NOT_AGAIN = 2
"""Exit status of a job that BPS is not to try again (``retryUnlessExit``)."""


@cli.command("build-graph")
@CAMPAIGN
@click.option("--request", type=click.Path(path_type=Path), help="Request, for a new campaign.")
@click.option("--graph", type=click.Path(path_type=Path), required=True, help="File to write (.qg).")
@click.option("--output-run", required=True, help="RUN collection of the outputs.")
@click.option("--skip-existing-in", multiple=True, help="Collection with outputs that need not be remade.")
@click.option("--max-memory-mb", type=click.IntRange(min=64), help="Memory for pixels of a quantum.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of a quantum.")
@click.option("--clobber-outputs", is_flag=True, help="Replace registered outputs that are in the way.")
@click.option(
    "--policy", metavar="FILE", help="Policy of the site.  [default: that of CAMPAIGN, if it has one]"
)
@click.option("--other-software", is_flag=True, help="Go on though CAMPAIGN was begun with another software.")
def build_graph(
    campaign: Path,
    request: Path | None,
    graph: Path,
    output_run: str,
    skip_existing_in: tuple[str, ...],
    max_memory_mb: int | None,
    threads: int | None,
    clobber_outputs: bool,
    policy: str | None,
    other_software: bool,
) -> None:
    """Find the images of all targets; write a quantum graph.

    What BPS runs as createQuantumGraph.  Makes the plan of CAMPAIGN if there
    is none; if there is one, the graph has only what has not finished.  There
    is no graph of what the policy of the site refuses.
    """
    from ..campaign import Campaign
    from ..failed_build import noting_failure
    from ..policy.active import building
    from ..policy.check import PolicyCheck
    from ..progress import Progress
    from ..quantum_graph_builder import build_graph

    found = Campaign(campaign.absolute())
    # BPS has an empty name where a site has no policy.
    check = PolicyCheck(found, Path(policy) if policy else None)
    with (
        building(found),
        contextlib.closing(Progress("Locating targets")) as progress,
        noting_failure(found),
    ):
        plan = build_graph(
            found,
            graph,
            output_run=output_run,
            request_file=request,
            skip_existing_in=skip_existing_in,
            clobber=clobber_outputs,
            max_memory_mb=max_memory_mb,
            threads=threads,
            other_software=other_software,
            check_request=check.check_request,
            check_plan=check.check_plan,
            progress=progress.add,
        )
    click.echo(f"{plan.targets:,} targets of {plan.catalog_rows:,} rows; refused: {plan.refused or 'none'}")


# Options of other programs, which are handed on.
HANDED_ON = {"ignore_unknown_options": True, "help_option_names": []}


@cli.command("init-run", context_settings=HANDED_ON, short_help="Run `pipetask pre-exec-init-qbb`.")
@click.argument("butler", type=click.Path(path_type=Path))
@click.argument("graph", type=click.Path(path_type=Path))
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def init_run(butler: Path, graph: Path, options: tuple[str, ...]) -> None:
    """Run `pipetask pre-exec-init-qbb BUTLER GRAPH` with OPTIONS."""
    _begin_job(butler, graph)
    from lsst.ctrl.mpexec.cli.pipetask import cli as pipetask

    from ..zipfile_fault import mend_zipfile

    command = ["--long-log", "--log-level", "VERBOSE", "pre-exec-init-qbb", str(butler), str(graph)]
    with mend_zipfile():
        pipetask([*command, *options])


@cli.command("run-quanta")
@click.argument("butler", type=click.Path(path_type=Path))
@click.argument("graph", type=click.Path(path_type=Path))
@click.option(
    "--qgraph-node-id",
    "quanta",
    metavar="UUID[,UUID...]",
    help="Quanta to run, those that are done already left out.  [default: all of GRAPH]",
)
def run_quanta(butler: Path, graph: Path, quanta: str | None) -> None:
    """Cut the patches of some quanta of GRAPH.

    BUTLER is the Butler configuration of the campaign.  Does what `pipetask
    run-qbb` does, with one Butler for all quanta of the job.
    """
    try:
        wanted = None if quanta is None else [uuid.UUID(each) for each in quanta.split(",")]
    except ValueError:
        raise click.BadParameter(f"{quanta!r} is no list of UUIDs", param_hint="--qgraph-node-id") from None
    _begin_job(butler, graph)
    from lsst.daf.butler.cli.cliLog import CliLog

    from ..quantum_runner import run_quanta

    CliLog.initLog(longlog=True)
    CliLog.setLogLevels({"": "VERBOSE"})
    run_quanta(butler, graph, wanted)


@cli.command("prepare-jobs", context_settings=HANDED_ON, short_help="Run `bps batch-prepare`.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def prepare_jobs(arguments: tuple[str, ...]) -> None:
    """Run `bps batch-prepare` with ARGUMENTS."""
    from ..bps.on_cluster import prepare_jobs

    prepare_jobs(arguments)


@cli.command()
@CAMPAIGN
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Most processes that write data files at a time.  [default: the cores of this machine, at most 4]",
)
@click.option(
    "--callback-seconds",
    type=click.IntRange(0, 180),
    default=180,
    show_default=True,
    help="Most seconds for telling the server that the request names; 0 leaves it to a later finish.",
)
@click.option("--other-software", is_flag=True, help="Package what another software has cut.")
def finish(campaign: Path, processes: int | None, callback_seconds: int, other_software: bool) -> None:
    """Package what the quanta of CAMPAIGN have left.

    What BPS runs as the final job.  Can be given again at any time: what is
    there already and would come out the same is left alone.  Ends with 0
    (complete), 2 (some quanta have not finished, the campaign was cancelled:
    then nothing is packaged, or this is another software than theirs: nothing
    is changed then) or 75 (try again, also if it is killed).
    """
    from ..supervisor import supervise

    began = time.time()
    sys.exit(
        supervise(
            lambda: exit_code_of(lambda: _finish(campaign, processes, callback_seconds, other_software)),
            lambda message: _say_killed(campaign, message, began, callback_seconds),
        )
    )


def _finish(campaign: Path, processes: int | None, callback_seconds: int, other_software: bool) -> int:
    from ..finish import finish as finish_campaign
    from ..progress import Progress
    from ..repackage.packagers import available_cores
    from ..submit import find_campaign

    with contextlib.closing(Progress("Packaging")) as progress:
        return _or_not_again(
            lambda: finish_campaign(
                find_campaign(campaign),
                progress=progress.set,
                processes=processes or available_cores(),
                callback_s=callback_seconds,
                other_software=other_software,
            )
        )


def _say_killed(campaign: Path, message: str, began: float, callback_seconds: int) -> int:
    from ..callback.delivery import Schedule
    from ..callback.notify import notify
    from ..finish_note import note_killed, read_note
    from ..submit import find_campaign

    click.echo(f"bulkcutout: packaging did not come to its end. {message}", err=True)
    found = find_campaign(campaign)
    status = note_killed(found.finish_log, message, began=began)
    note = read_note(found.finish_log)
    if note is None or note.state == "failed":
        # Not for minutes: whoever kills a job may not wait for its parent.
        notify(found, "failed", schedule=Schedule(budget_s=min(callback_seconds, 20)))
    return status


def _begin_job(butler: Path, graph: Path) -> None:
    """End at once where there is nothing for a job to do."""
    from ..campaign import Campaign
    from ..graph_software import check_graph

    # The Butler configuration lies in the campaign directory.
    root = butler.parent
    if Campaign(root).cancelled.exists():
        click.echo(f"bulkcutout: campaign {root} was cancelled.", err=True)
        sys.exit(NOT_AGAIN)
    if code := _or_not_again(lambda: check_graph(graph)):
        sys.exit(code)


def _or_not_again(work: Callable[[], int | None]) -> int:
    """BPS is not to try again what only another software can do."""
    from ..software import OtherSoftwareError

    try:
        return work() or 0
    except OtherSoftwareError as error:
        click.echo(f"bulkcutout: {error}", err=True)
        return NOT_AGAIN
