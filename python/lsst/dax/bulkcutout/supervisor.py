# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Work in a child process, so that somebody is left to say how it ended.

A process that is killed, as happens when memory is short, can leave no note,
and batch systems report exits above 128 for it, which some of them take for
something else.  The parent does nothing but wait: it has imported nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

__all__ = ("supervise",)

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def supervise(work: Callable[[], int], killed: Callable[[str], int]) -> int:
    """Do some work in a child process.

    Parameters
    ----------
    work
        Called in the child; gives its exit status.
    killed
        Called in this process, with a sentence that says what has happened,
        if the child did not live to give a status; gives one.

    Returns
    -------
    status
        Exit status, 128 at most.

    Notes
    -----
    Signals to this process are passed on.  The child is a process group of
    its own, so that what is typed at a terminal comes once; it ends when this
    process does, however that has ended.
    """
    alive, keep_alive = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(keep_alive)
        os.setpgid(0, 0)
        # Else a terminal could stop it for writing in the background.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
        _work_and_exit(work)
    os.close(alive)

    def pass_on(number: int, _: FrameType | None) -> None:
        os.kill(child, number)

    # What is ignored from the start (nohup) stays ignored.
    handled = [number for number in _PASSED_ON if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in handled}
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        # The child keeps its number until nobody sends signals to it.
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(keep_alive)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if 0 <= status <= 128 else killed(_explain(status))


def _work_and_exit(work: Callable[[], int]) -> NoReturn:
    status = 1
    try:
        status = work()
    except KeyboardInterrupt:
        # Told to the parent as what it is.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _end_with_parent(alive: int) -> None:
    # Gives nothing until the other end is closed.
    os.read(alive, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _explain(status: int) -> str:
    if status > 0:
        return f"It ended with status {status}."
    name = signal.Signals(-status).name
    if -status == signal.SIGKILL:
        return (
            f"It was killed ({name}). Memory is the usual reason: give the final job more (requestMemory) or "
            "fewer --processes."
        )
    if -status in _PASSED_ON:
        return f"It was stopped ({name}), as happens when its job is removed."
    return f"It died ({name})."
