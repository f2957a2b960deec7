# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The last job of a campaign: package what there is and say what is not.

May be run any number of times; whatever it finds unchanged it leaves as it
is.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import logging
import platform
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from . import tables
from .campaign import Campaign, Plan, write_atomically
from .data_card.card import CARD_NAME, write_data_card
from .errors import CorruptInputError, InternalError, TransientError, UserError
from .manifest import (
    CERTIFICATE_NAME,
    CERTIFICATE_PICTURE_NAME,
    CHECKSUMS_NAME,
    MANIFEST_NAME,
    STATUS_NAME,
    Manifest,
    ProductFile,
    describe_file,
    file_sha256,
    read_manifest,
    write_checksums,
    write_manifest,
)
from .product_directory import claim_product_directory
from .quantum_output import QuantumOutput
from .quantum_outputs import read_outputs
from .repackage.packagers import Packagers, write_file
from .repackage.product_files import ProductFilePlan, ProductFiles
from .repackage.repackager import Repackager
from .request import load_request
from .sky_files.product import remove_sky_files, write_sky_files
from .spool import Spool

__all__ = ("COMPLETE", "PARTIAL", "TRY_AGAIN", "finish")

_LOG = logging.getLogger(__name__)

COMPLETE = 0
"""Exit status: every row has its final answer."""

PARTIAL = 2
"""Exit status: some quanta did not finish; a restart may deliver more."""

TRY_AGAIN = 75
"""Exit status: storage failed or another ``finish`` is at work."""

ROWS_PER_STATUS_GROUP = 1_000_000

BYTES_PER_PROCESS = 256 * 1024 * 1024
"""For less than this a process more takes longer to start than it saves."""


def finish(
    campaign: Campaign,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    processes: int = 1,
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

    Returns
    -------
    status
        `COMPLETE`, `PARTIAL` or `TRY_AGAIN`.
    """
    started = time.monotonic()
    try:
        with _lock(campaign) as lock, contextlib.ExitStack() as stack:
            manifest = _finish(campaign, progress, stack, processes=processes, lock=lock)
    except (TransientError, OSError) as error:
        _LOG.error("Packaging failed and can be tried again: %s", error)
        write_outcome(campaign, TRY_AGAIN, str(error))
        return TRY_AGAIN
    status = COMPLETE if manifest.complete else PARTIAL
    write_outcome(campaign, status, "")
    _LOG.info("Packaged %s in %.1f s.", manifest.counts, time.monotonic() - started)
    return status


def write_outcome(campaign: Campaign, status: int, message: str) -> None:
    """Leave a note of how ``finish`` ended, for ``bulkcutout status``.

    Parameters
    ----------
    campaign
        The campaign.
    status
        Exit status.
    message
        What went wrong, if anything did.
    """
    outcome = {"status": status, "message": message, "time": _now()}
    # On a full disk the note is lost, not the outcome.
    with contextlib.suppress(OSError):
        write_atomically(campaign.finish_log, json.dumps(outcome, indent=1) + "\n")


def _finish(
    campaign: Campaign,
    progress: Callable[[int, int], None],
    stack: contextlib.ExitStack,
    *,
    processes: int,
    lock: int,
) -> Manifest:
    request = load_request(campaign.request)
    plan = campaign.read_plan()
    directory = Path(request.output)
    claim_product_directory(directory, campaign)
    outputs = read_outputs(campaign)
    files = ProductFiles(request, plan, campaign)
    repackager = stack.enter_context(contextlib.closing(Repackager(request, campaign, plan, outputs)))
    keys = {file.path: repackager.source_key(file) for file in files}
    previous = _previous(directory)
    if (
        previous is not None
        and previous.execution.get("sources") == keys
        and _intact(directory, previous)
        and previous.request == request.model_dump(mode="json")
    ):
        _LOG.info("The product is there already, from the same inputs.")
        return previous
    # From here to the end the directory holds no complete set: so no manifest,
    # and no certificate of what was there.
    for name in (MANIFEST_NAME, CHECKSUMS_NAME, CERTIFICATE_NAME, CERTIFICATE_PICTURE_NAME):
        (directory / name).unlink(missing_ok=True)
    counter = _Progress(progress, plan.targets)
    found: dict[str, ProductFile | None] = {}
    for planned in files:
        if (reused := _reuse(previous, directory, planned, keys)) is not None:
            found[planned.path] = reused
            counter.add(reused.rows or 0)
    missing = [files.bytes_of(planned) for planned in files if planned.path not in found]
    n = min(processes, len(missing), -(-sum(missing) // BYTES_PER_PROCESS))
    to_write = (planned for planned in files if planned.path not in found)
    if n > 1:
        with Packagers(n, campaign, list(outputs.values()), directory, lock=lock) as packagers:
            found = found | dict(packagers.write(to_write, counter.add))
    else:
        found = found | {
            planned.path: write_file(repackager, planned, directory, counter.add) for planned in to_write
        }
    data_files = [file for planned in files if (file := found[planned.path]) is not None]
    remove_sky_files(directory)
    _remove_others(directory, {file.path for file in data_files})
    counts, fallback = _write_status(campaign, repackager, files, directory)
    tables_of_rows = [
        describe_file(directory, STATUS_NAME, rows=plan.catalog_rows),
        *write_sky_files(request, directory, campaign.scratch, data_files, plan.catalog_rows),
    ]
    manifest = Manifest(
        request_id=request.request_id,
        request=request.model_dump(mode="json"),
        bands=plan.bands,
        rows=plan.catalog_rows,
        counts=counts,
        fallback=fallback,
        complete=not counts.get(tables.NOT_PROCESSED),
        files=(*data_files, *tables_of_rows),
        execution=_execution(campaign, plan, outputs, keys),
    )
    manifest.check()
    _check_rows(manifest, data_files)
    write_data_card(directory, manifest)
    manifest = manifest.model_copy(update={"files": (*manifest.files, describe_file(directory, CARD_NAME))})
    write_checksums(directory, manifest.files)
    write_manifest(directory, manifest)
    return manifest


def _previous(directory: Path) -> Manifest | None:
    try:
        return read_manifest(directory)
    except (UserError, CorruptInputError):
        return None


def _intact(directory: Path, manifest: Manifest) -> bool:
    return all(_is_same(directory, file) for file in manifest.files)


def _is_same(directory: Path, file: ProductFile) -> bool:
    path = directory / file.path
    try:
        return path.stat().st_size == file.bytes and file_sha256(path) == file.sha256
    except FileNotFoundError:
        return False


def _reuse(
    previous: Manifest | None, directory: Path, planned: ProductFilePlan, keys: Mapping[str, str]
) -> ProductFile | None:
    """A file that is there already and would come out the same."""
    if previous is None or previous.execution.get("sources", {}).get(planned.path) != keys[planned.path]:
        return None
    found = [file for file in previous.files if file.path == planned.path]
    return found[0] if found and _is_same(directory, found[0]) else None


def _remove_others(directory: Path, paths: set[str]) -> None:
    """Remove data files of an earlier attempt that are not of this one, and
    what a killed one has left.
    """
    for path in sorted(directory.glob("size=*/**/*"), reverse=True):
        if path.is_dir():
            # Only of a pixel that has lost its last file.
            with contextlib.suppress(OSError):
                path.rmdir()
        elif path.relative_to(directory).as_posix() not in paths:
            path.unlink()


def _write_status(
    campaign: Campaign, repackager: Repackager, files: Iterable[ProductFilePlan], directory: Path
) -> tuple[dict[str, int], int]:
    """Write one row for each row of the catalog, in order; gives the number
    of rows by status, and of those delivered that fell back.
    """
    refused = pq.ParquetFile(campaign.refused)
    source = refused.schema_arrow
    carried = tables.carried_fields(source)
    schema = tables.status_schema(source.field("target_id").type, carried)
    spool = Spool(campaign.scratch / "status", schema)
    counts: Counter[str] = Counter()
    fallback = 0
    temporary = directory / f".{STATUS_NAME}"
    try:
        for batch in _all_status_rows(refused, schema, carried, repackager, files):
            for each in batch.column("status").value_counts():
                counts[each["values"].as_py()] += each["counts"].as_py()
            delivered = pc.equal(batch.column("status"), tables.DELIVERED)
            fallback += pc.sum(pc.and_(delivered, batch.column("fallback"))).as_py() or 0
            group = batch.column("row").to_numpy() // ROWS_PER_STATUS_GROUP
            spool.add(group, np.zeros_like(group), batch)
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for group in spool.groups():
                writer.write_table(pa.Table.from_batches(spool.read(group)).sort_by("row"))
        temporary.replace(directory / STATUS_NAME)
    except OSError as error:
        raise TransientError(f"Cannot write {STATUS_NAME}: {error}") from error
    finally:
        refused.close()
        spool.close()
        temporary.unlink(missing_ok=True)
    return dict(sorted(counts.items())), fallback


def _all_status_rows(
    refused: pq.ParquetFile,
    schema: pa.Schema,
    carried: Iterable[pa.Field],
    repackager: Repackager,
    files: Iterable[ProductFilePlan],
) -> Iterator[pa.RecordBatch]:
    originals = {
        name: tables.CARRIED_PREFIX + field.name
        for name, field in zip(tables.status_names([field.name for field in carried]), carried, strict=True)
    }
    for batch in refused.iter_batches():
        columns = []
        for field in schema:
            name = originals.get(field.name, field.name)
            if name in batch.schema.names:
                columns.append(batch.column(name).cast(field.type))
            elif field.name == "bands":
                columns.append(pa.array([""] * batch.num_rows, field.type))
            elif field.name == "fallback":
                columns.append(pa.array(np.zeros(batch.num_rows, dtype=bool)))
            else:
                columns.append(pa.nulls(batch.num_rows, field.type))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
    for file in files:
        yield from repackager.statuses(file)


def _check_rows(manifest: Manifest, data_files: Iterable[ProductFile]) -> None:
    in_files = sum(file.rows or 0 for file in data_files)
    if in_files != manifest.counts.get(tables.DELIVERED, 0):
        raise InternalError(f"The data files have {in_files} rows, but {manifest.counts} were counted.")


def _execution(
    campaign: Campaign,
    plan: Plan,
    outputs: Mapping[tuple[int, int], QuantumOutput],
    keys: Mapping[str, str],
) -> dict[str, object]:
    packages = ("lsst-dax-bulkcutout", "lsst-daf-butler", "lsst-pipe-base", "lsst-ctrl-bps", "numpy", "h5py")
    versions = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "campaign": str(campaign.root),
        "runs": sorted({output.run for output in outputs.values()}),
        "finished": _now(),
        "host": socket.gethostname(),
        "versions": versions,
        "quanta": {"all": len(outputs), "done": sum(output.done for output in outputs.values())},
        "warnings": list(plan.warnings),
        "inputs": {key: path for output in outputs.values() for key, path in sorted(output.inputs.items())},
        "sources": dict(keys),
    }


class _Progress:
    """Counts rows."""

    def __init__(self, report: Callable[[int, int], None], total: int) -> None:
        self._report = report
        self._total = total
        self._done = 0

    def add(self, rows: int) -> None:
        self._done += rows
        self._report(self._done, self._total)


@contextlib.contextmanager
def _lock(campaign: Campaign) -> Iterator[int]:
    """Keep a second ``finish`` of the same campaign out; gives the file
    descriptor that has the lock.
    """
    campaign.scratch.mkdir(parents=True, exist_ok=True)
    with (campaign.root / "finish.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransientError(f"Another process is finishing campaign {campaign.root}.") from None
        try:
            yield stream.fileno()
        finally:
            shutil.rmtree(campaign.scratch, ignore_errors=True)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
