# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""While one thing is used, the next is made."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

__all__ = ("ahead",)


def ahead[T](things: Iterator[T], *, threads: int) -> Iterator[T]:
    """Have the next thing made by another thread.

    Parameters
    ----------
    things
        Where they come from; one at a time is asked for.
    threads
        With 1 there is no other thread.

    Yields
    ------
    thing
        The same things in the same order; an error comes at its place.
    """
    if threads == 1:
        yield from things
        return
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming = pool.submit(next, things, end)
        while (thing := coming.result()) is not end:
            coming = pool.submit(next, things, end)
            yield thing  # type: ignore[misc]
