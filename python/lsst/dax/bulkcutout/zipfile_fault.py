# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A fault of some Python releases that spoils the reading of quantum graphs.

In CPython 3.12.1, 3.13.0 and their neighbours ``zipfile._SharedFile.seek``
with ``SEEK_CUR`` moves from where any reader of the archive was last, not from
where this one is.  Reading quanta by identifier from a graph of a few hundred
fails with `EOFError`.  Newer patch releases are free of it.
"""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Iterator
from typing import Any

__all__ = ("has_zipfile_fault", "mend_zipfile")


def has_zipfile_fault() -> bool:
    """Tell whether this Python has the fault, by trying.

    Returns
    -------
    faulty
        Whether a relative seek goes wrong when two members are read in turn.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", b"0123456789")
        archive.writestr("b", b"0123456789")
    with zipfile.ZipFile(stream) as archive, archive.open("a") as one, archive.open("b") as other:
        shared: Any = one._fileobj  # type: ignore[attr-defined]
        before = shared.tell()
        other.read(5)
        return bool(shared.seek(0, os.SEEK_CUR) != before)


@contextlib.contextmanager
def mend_zipfile() -> Iterator[None]:
    """Mend the fault for a while, where this Python has it.

    Yields
    ------
    nothing
        Graphs can be read inside the context.
    """
    if not has_zipfile_fault():
        yield
        return
    shared_file: Any = zipfile._SharedFile  # type: ignore[attr-defined]
    faulty = shared_file.seek

    def seek(self: Any, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset, whence = self._pos + offset, os.SEEK_SET
        return int(faulty(self, offset, whence))

    shared_file.seek = seek
    try:
        yield
    finally:
        shared_file.seek = faulty
