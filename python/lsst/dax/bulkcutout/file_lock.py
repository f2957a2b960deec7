# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Files that are locked as long as a process is at work on something.

However the process ends, its locks end with it.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

__all__ = ("is_locked", "locked")


def is_locked(path: Path) -> bool | None:
    """Tell whether a process has locked a file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    locked
        `None` if that cannot be known: nobody has ever locked it, or the
        file system has no locks.
    """
    try:
        with path.open() as stream:
            # Shared, so that those who look do not see each other.
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[TextIO]:
    """Lock a file, or fail at once.

    Parameters
    ----------
    path
        The file; made if need be, and left empty.

    Yields
    ------
    stream
        The open file, which has the lock.

    Raises
    ------
    BlockingIOError
        Raised if another process has locked it.
    """
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield stream
