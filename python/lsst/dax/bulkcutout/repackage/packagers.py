# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Processes that write data files, each file by one of them.

A process is told what to do, and answers, in lines of JSON.  It ends when its
input ends, so that none is left over however the first process has ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

from ..campaign import Campaign
from ..errors import CorruptInputError, InternalError, TransientError, UserError
from ..formats import part_path
from ..manifest import ProductFile, describe_file
from ..quantum_output import QuantumOutput, read_list, write_list
from ..request import load_request
from .product_files import Piece, ProductFilePlan
from .repackager import Repackager
from .shared_contents import SharedContents, read_shared, write_shared

__all__ = ("Packagers", "available_cores", "main", "write_file")

_LOG = logging.getLogger(__name__)

MOST_PROCESSES = 4
"""Number of processes where nobody says another, on a machine of many cores:
storage is busy by then."""

_ERRORS = {kind.__name__: kind for kind in (CorruptInputError, InternalError, TransientError, UserError)}

_GRACE_S = 20.0
"""How long a process may take to clear away what it was writing."""


def available_cores() -> int:
    """Number of processes to use where nobody says it.

    Returns
    -------
    n
        The cores that this process may use, but at most `MOST_PROCESSES`.
    """
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES)


def write_file(
    repackager: Repackager, planned: ProductFilePlan, directory: Path, progress: Callable[[int], None]
) -> ProductFile | None:
    """Write a data file and measure it.

    Parameters
    ----------
    repackager
        Writes it.
    planned
        What goes into it.
    directory
        Directory of the product.
    progress
        Called with the number of rows of each block that was written.

    Returns
    -------
    file
        Its entry in the manifest; `None` if none of its targets has a cutout.
    """
    try:
        rows = repackager.write(planned, directory, progress)
    except BaseException:
        # A signal can come where the writer itself does not clear away.
        with contextlib.suppress(OSError):
            part_path(directory / planned.path).unlink()
        raise
    if not rows:
        return None
    return describe_file(
        directory, planned.path, rows=rows, size=planned.size, tract=planned.tract, healpix=planned.healpix
    )


class Packagers:
    """Processes that write data files; a context manager.

    Parameters
    ----------
    n
        Number of processes.
    campaign
        The campaign.
    outputs
        State of its quanta.
    shared
        What was found in all of them.
    directory
        Directory of the product.
    lock
        File descriptor that every process keeps open, so that the lock on it
        lasts until the last one has ended.
    """

    def __init__(
        self,
        n: int,
        campaign: Campaign,
        outputs: Sequence[QuantumOutput],
        shared: SharedContents,
        directory: Path,
        *,
        lock: int,
    ) -> None:
        self._directory = directory
        self._answers: queue.SimpleQueue[tuple[_Process, dict[str, Any] | None]] = queue.SimpleQueue()
        campaign.scratch.mkdir(parents=True, exist_ok=True)
        listed = campaign.scratch / "outputs.json"
        write_list(listed, outputs)
        found = campaign.scratch / "shared.json"
        write_shared(found, shared)
        command = [sys.executable, "-m", __name__, *map(str, (campaign.root, listed, found, directory))]
        self._processes = [_Process(command, self._answers, lock) for _ in range(n)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Whatever has happened: nobody writes when this returns.
        for process in self._processes:
            process.end()
        for process in self._processes:
            process.wait()
            self._clear(process)

    def write(
        self, files: Iterator[ProductFilePlan], progress: Callable[[int], None]
    ) -> Iterator[tuple[str, ProductFile | None]]:
        """Write data files.

        Parameters
        ----------
        files
            What goes into them.
        progress
            Called with the number of rows of each block that was written.

        Yields
        ------
        path, file
            What `write_file` gave, in the order in which files are done.

        Raises
        ------
        TransientError
            Raised if the disk takes no more, or a process was killed.
        UserError, CorruptInputError, InternalError
            Raised as by `write_file`.
        """
        for process in self._processes:
            process.begin(next(files, None))
        while any(process.path is not None for process in self._processes):
            process, answer = self._answers.get()
            if answer is None:
                self._explain_end(process)
            elif "rows" in answer:
                progress(answer["rows"])
            elif "error" in answer:
                raise _ERRORS[answer["error"]](answer["message"])
            else:
                path, file = process.path, answer["file"]
                assert path is not None
                process.begin(next(files, None))
                yield path, None if file is None else ProductFile.model_validate(file)

    def _explain_end(self, process: _Process) -> NoReturn:
        status = process.wait()
        what = f"A process that was to write {process.path or 'a data file'}"
        if status < 0:
            raise TransientError(
                f"{what} was killed by signal {-status}; for 9, memory is the usual reason. Give the final "
                "job more memory (requestMemory) or fewer --processes."
            )
        raise InternalError(f"{what} ended with status {status}; its messages are in the log.")

    def _clear(self, process: _Process) -> None:
        """Remove what a killed process was writing."""
        if process.path is not None:
            with contextlib.suppress(OSError):
                part_path(self._directory / process.path).unlink()


class _Process:
    """One process, seen from the first one."""

    def __init__(self, command: list[str], answers: queue.SimpleQueue[Any], lock: int) -> None:
        self.path: str | None = None
        """The file that it is writing; `None` if it has nothing to do."""
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=(lock,)
        )
        self._thread = threading.Thread(target=self._listen, args=(answers,), daemon=True)
        self._thread.start()

    def begin(self, planned: ProductFilePlan | None) -> None:
        self.path = None if planned is None else planned.path
        if planned is not None:
            assert self._process.stdin is not None
            # If it has ended, the listening thread says so.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(dataclasses.asdict(planned)) + "\n")
                self._process.stdin.flush()

    def end(self) -> None:
        """Let it end at once, or as soon as it has cleared away its file."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self) -> int:
        try:
            return self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _listen(self, answers: queue.SimpleQueue[Any]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answers.put((self, json.loads(line)))
        answers.put((self, None))


def main() -> None:
    """Write the data files that standard input names."""
    root, listed, found, directory = (Path(argument) for argument in sys.argv[1:])
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    tasks: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    is_busy = threading.Event()
    threading.Thread(target=_receive, args=(tasks, is_busy), daemon=True).start()

    def answer(**contents: Any) -> None:
        try:
            answers.write(json.dumps(contents) + "\n")
            answers.flush()
        except BrokenPipeError:
            # Nobody listens any more.
            _stop(signal.SIGTERM, None)

    try:
        campaign = Campaign(root)
        outputs = {(output.tract, output.patch): output for output in read_list(listed)}
        request, plan = load_request(campaign.request), campaign.read_plan()
        repackager = Repackager(request, campaign, plan, outputs, read_shared(found))
        while (task := tasks.get()) is not None:
            planned = _plan_of(json.loads(task))
            file = write_file(repackager, planned, directory, lambda rows: answer(rows=rows))
            is_busy.clear()
            answer(file=None if file is None else file.model_dump(mode="json"))
    except tuple(_ERRORS.values()) as error:
        answer(error=type(error).__name__, message=str(error))
    except (OSError, MemoryError) as error:
        answer(error="TransientError", message=f"{type(error).__name__}: {error}")
    except Exception as error:
        _LOG.exception("A data file could not be written.")
        answer(error="InternalError", message=f"{type(error).__name__}: {error}")


def _plan_of(fields: dict[str, Any]) -> ProductFilePlan:
    return ProductFilePlan(**{**fields, "pieces": tuple(Piece(**piece) for piece in fields["pieces"])})


def _receive(tasks: queue.SimpleQueue[str | None], is_busy: threading.Event) -> None:
    for line in sys.stdin:
        is_busy.set()
        tasks.put(line)
    tasks.put(None)
    # The first process has ended, or wants nothing more of this file.
    if is_busy.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def _stop(number: int, _: object) -> NoReturn:
    # An exception, so that a file that is being written is cleared away; a
    # second one would come in between.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
