# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The last job of a campaign: package what there is and say what is not.

May be run any number of times; whatever it finds unchanged it leaves as it
is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from . import tables
from .callback.delivery import Schedule
from .callback.notify import notify
from .campaign import Campaign, Plan
from .data_card.card import CARD_NAME, write_data_card
from .errors import BulkCutoutError, InternalError, TransientError, UserError
from .execution import describe_execution
from .file_lock import locked
from .finish_note import COMPLETE, FAILED, OUR_FAULT, PARTIAL, TRY_AGAIN, FinishNote, State, write_note
from .graph_software import check_attempts
from .manifest import (
    STATUS_NAME,
    Manifest,
    ProductFile,
    describe_file,
    file_sha256,
    write_checksums,
    write_manifest,
)
from .output_registry import try_to_register
from .product_directory import claim_product_directory
from .purged import refuse_purged
from .quantum_output import QuantumOutput
from .quantum_outputs import read_outputs
from .repackage.earlier_product import EarlierProduct
from .repackage.packagers import Packagers, write_file
from .repackage.product_files import ProductFiles
from .repackage.repackager import Repackager
from .repackage.status_table import write_status_table
from .request import load_request
from .sky_files.product import remove_sky_files, write_sky_files

__all__ = ("COMPLETE", "PARTIAL", "TRY_AGAIN", "finish")

_LOG = logging.getLogger(__name__)

BYTES_PER_PROCESS = 256 * 1024 * 1024
"""For less than this a process more takes longer to start than it saves."""


def finish(
    campaign: Campaign,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    processes: int = 1,
    callback_s: float = Schedule.budget_s,
    other_software: bool = False,
) -> int:
    """Package the outputs of a campaign.

    Parameters
    ----------
    campaign
        The campaign; its quanta may have failed.
    progress
        Called with the number of rows that were packaged, and of all.
    processes
        Most processes that write data files at the same time, each with some
        memory of its own.  Small products need only one.
    callback_s
        Most seconds for telling the server that the request names; it changes
        nothing in what is returned.
    other_software
        Whether to package what another software has cut.

    Returns
    -------
    status
        `COMPLETE`, `PARTIAL` or `TRY_AGAIN`.

    Raises
    ------
    UserError, CorruptInputError, InternalError
        Raised if there is nothing that could be packaged, or not as it is.
    """
    started = time.monotonic()
    # Before anything is written: what is left of the campaign is to stay.
    refuse_purged(campaign)
    schedule = Schedule(budget_s=callback_s)
    try:
        with _lock(campaign) as lock:
            with contextlib.ExitStack() as stack:
                manifest = _finish(
                    campaign,
                    progress,
                    stack,
                    processes=processes,
                    lock=lock,
                    other_software=other_software,
                )
            note = FinishNote(_state(manifest), COMPLETE if manifest.complete else PARTIAL)
            _LOG.info("Packaged %s in %.1f s.", manifest.counts, time.monotonic() - started)
            note = _register(campaign, note)
            write_note(campaign.finish_log, note)
    except _BusyError as error:
        # The note is for the other one to leave.
        _LOG.error("%s", error)
        return TRY_AGAIN
    except (TransientError, OSError, MemoryError) as error:
        message = str(error) or "There is not enough memory: give the final job more (requestMemory)."
        _LOG.error("Packaging failed and can be tried again: %s", message)
        write_note(campaign.finish_log, FinishNote("failed", TRY_AGAIN, message))
        # This may be the last try, which no job knows of itself.
        notify(campaign, "failed", schedule=schedule)
        return TRY_AGAIN
    except Exception as error:
        # Whoever waits for the note is told; the error itself travels on.
        known = isinstance(error, BulkCutoutError)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        status = OUR_FAULT if isinstance(error, InternalError) else FAILED
        write_note(campaign.finish_log, FinishNote("failed", status, message))
        notify(campaign, "failed", schedule=schedule)
        raise
    notify(campaign, note.state, manifest, schedule=schedule)
    return note.status


def _state(manifest: Manifest) -> State:
    if manifest.complete:
        return "complete"
    return "cancelled" if "cancelled" in manifest.execution else "partial"


def _finish(
    campaign: Campaign,
    progress: Callable[[int, int], None],
    stack: contextlib.ExitStack,
    *,
    processes: int,
    lock: int,
    other_software: bool,
) -> Manifest:
    request = load_request(campaign.request)
    plan = campaign.read_plan()
    directory = Path(request.output)
    claim_product_directory(directory, campaign)
    outputs = read_outputs(campaign)
    files = ProductFiles(request, plan, campaign)
    repackager = stack.enter_context(contextlib.closing(Repackager(request, campaign, plan, outputs)))
    cancelled = _read_cancelled(campaign)
    if plan.targets and not outputs and cancelled is None:
        # Nothing can have been cut; what a product has is of something else.
        raise UserError(
            f"Campaign {campaign.root} has a plan, but no quantum graph: submit it, or `bulkcutout restart` "
            "it if it was submitted. The product is left as it is."
        )
    earlier = EarlierProduct(directory)
    # After a cancel only what may stay has to be compared.
    wanted = (file for file in files if cancelled is None or earlier.has(file))
    keys = {file.path: repackager.source_key(file) for file in wanted}
    keys[STATUS_NAME] = _status_key(campaign, plan)
    asked = request.of_product()
    if earlier.manifest is not None and earlier.is_made_from(asked, keys, cancelled):
        _LOG.info("The product is there already, from the same inputs.")
        return earlier.manifest
    if not other_software:
        check_attempts(campaign, f"`bulkcutout finish --other-software {campaign.root}`")
    earlier.invalidate()
    counter = _Progress(progress, plan.targets)
    found: dict[str, ProductFile | None] = {}
    for planned in files:
        reused = earlier.reuse(planned, keys[planned.path]) if planned.path in keys else None
        if reused is not None:
            found[planned.path] = reused
            counter.add(reused.rows or 0)
    if cancelled is None:
        found |= _package(campaign, repackager, files, outputs, found, directory, counter, processes, lock)
    data_files = [file for planned in files if (file := found.get(planned.path)) is not None]
    remove_sky_files(directory)
    earlier.remove_all_but({file.path for file in data_files})
    done = sum(output.done for output in outputs.values())
    put_off = (
        f"The campaign was cancelled when {done} of {len(outputs)} patches had been cut; restart it, and "
        "only the rest is cut."
    )
    answers = (
        rows
        for planned in files
        for rows in repackager.statuses(planned, put_off="" if planned.path in found else put_off)
    )
    counts, fallback = write_status_table(campaign, answers, directory)
    tables_of_rows = [
        describe_file(directory, STATUS_NAME, rows=plan.catalog_rows),
        *write_sky_files(request, directory, campaign.scratch, data_files, plan.catalog_rows),
    ]
    manifest = Manifest(
        request_id=request.request_id,
        request=asked,
        bands=plan.bands,
        rows=plan.catalog_rows,
        counts=counts,
        fallback=fallback,
        complete=not counts.get(tables.NOT_PROCESSED),
        files=(*data_files, *tables_of_rows),
        execution=describe_execution(
            campaign,
            plan,
            outputs,
            {path: keys[path] for path in (*found, STATUS_NAME)},
            cancelled=cancelled,
        ),
    )
    manifest.check()
    _check_rows(manifest, data_files)
    write_data_card(directory, manifest)
    manifest = manifest.model_copy(update={"files": (*manifest.files, describe_file(directory, CARD_NAME))})
    write_checksums(directory, manifest.files)
    write_manifest(directory, manifest)
    return manifest


def _status_key(campaign: Campaign, plan: Plan) -> str:
    """Identify the rows: of a catalog that has got more of them, all the new
    ones may have been refused, and no data file says so.
    """
    return hashlib.sha256(f"{plan.model_dump_json()} {file_sha256(campaign.refused)}".encode()).hexdigest()


def _register(campaign: Campaign, note: FinishNote) -> FinishNote:
    """Register the outputs, if that is asked for; the note says what has not
    come of it.
    """
    request = load_request(campaign.request)
    if request.registration.butler is None or note.state == "cancelled":
        return note
    begun = (
        f"The outputs are being registered in {request.registration.butler}; if nothing runs any more, "
        f"`bulkcutout finish {campaign.root}` goes on with it."
    )
    # Whatever happens to this process there: the product is finished.
    write_note(campaign.finish_log, dataclasses.replace(note, message=begun))
    return dataclasses.replace(note, message=try_to_register(campaign, request))


def _read_cancelled(campaign: Campaign) -> dict[str, object] | None:
    """Who cancelled the campaign, and when; `None` if nobody did."""
    try:
        marker = json.loads(campaign.cancelled.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        # It is there, and that is what counts.
        marker = {}
    return marker if isinstance(marker, dict) else {}


def _package(
    campaign: Campaign,
    repackager: Repackager,
    files: ProductFiles,
    outputs: Mapping[tuple[int, int], QuantumOutput],
    found: Mapping[str, ProductFile | None],
    directory: Path,
    counter: _Progress,
    processes: int,
    lock: int,
) -> dict[str, ProductFile | None]:
    """Write the data files that are not there."""
    started = time.monotonic()
    missing = [files.bytes_of(planned) for planned in files if planned.path not in found]
    n = min(processes, len(missing), -(-sum(missing) // BYTES_PER_PROCESS))
    to_write = (planned for planned in files if planned.path not in found)
    if n > 1:
        with Packagers(
            n, campaign, list(outputs.values()), repackager.shared, directory, lock=lock
        ) as packagers:
            written = dict(packagers.write(to_write, counter.add))
    else:
        written = {
            planned.path: write_file(repackager, planned, directory, counter.add) for planned in to_write
        }
    seconds = time.monotonic() - started
    n_bytes = sum(file.bytes for file in written.values() if file is not None)
    # For programs that collect logs: one line, the same keys for ever.
    told = {"files": len(written), "bytes": n_bytes, "seconds": seconds}
    line = {"event": "repackage", "request": load_request(campaign.request).request_id, **told}
    _LOG.info("%s", json.dumps(line | {"bytes_per_second": round(n_bytes / max(seconds, 1e-6))}))
    return written


def _check_rows(manifest: Manifest, data_files: Iterable[ProductFile]) -> None:
    in_files = sum(file.rows or 0 for file in data_files)
    if in_files != manifest.counts.get(tables.DELIVERED, 0):
        raise InternalError(f"The data files have {in_files} rows, but {manifest.counts} were counted.")


class _Progress:
    """Counts rows."""

    def __init__(self, report: Callable[[int, int], None], total: int) -> None:
        self._report = report
        self._total = total
        self._done = 0

    def add(self, rows: int) -> None:
        self._done += rows
        self._report(self._done, self._total)


class _BusyError(TransientError):
    """Another ``finish`` of the same campaign is at work."""


@contextlib.contextmanager
def _lock(campaign: Campaign) -> Iterator[int]:
    """Keep a second ``finish`` of the same campaign out; gives the file
    descriptor that has the lock.
    """
    campaign.scratch.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(locked(campaign.finish_lock))
        except BlockingIOError:
            raise _BusyError(f"Another process is finishing campaign {campaign.root}.") from None
        try:
            yield stream.fileno()
        finally:
            shutil.rmtree(campaign.scratch, ignore_errors=True)
