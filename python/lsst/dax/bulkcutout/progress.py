# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ("Progress",)

LINE_INTERVAL_S = 10.0
BAR_INTERVAL_S = 0.1
BAR_WIDTH = 30


class Progress:
    """Shows how far some work is.

    Parameters
    ----------
    label
        What is being done.
    unit
        What is counted.
    stream
        Where to show it; standard error if `None`.
    """

    def __init__(self, label: str, unit: str = "rows", stream: TextIO | None = None) -> None:
        self._label = label
        self._unit = unit
        self._stream = stream or sys.stderr
        self._started = self._shown = time.monotonic()
        self._done = 0
        self._total = 0

    def add(self, count: int) -> None:
        """Count something done, of an amount that is not known.

        Parameters
        ----------
        count
            How many more are done.
        """
        self.set(self._done + count, 0)

    def set(self, done: int, total: int) -> None:
        """Say how much is done.

        Parameters
        ----------
        done
            How many are done.
        total
            How many there are; 0 if not known.
        """
        changed = (done, total) != (self._done, self._total)
        self._done, self._total = done, total
        now = time.monotonic()
        is_terminal = self._stream.isatty()
        if now - self._shown < (BAR_INTERVAL_S if is_terminal else LINE_INTERVAL_S):
            return
        if not is_terminal and not changed:
            return
        self._shown = now
        if is_terminal:
            self._stream.write(f"\r{self._bar()}{self._text()}\x1b[K")
        else:
            self._stream.write(self._text() + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Say that all is done."""
        end = "\r\x1b[K" if self._stream.isatty() else ""
        seconds = time.monotonic() - self._started
        if self._done:
            self._stream.write(f"{end}{self._label}: {self._done:,} {self._unit} in {seconds:.1f} s\n")
            self._stream.flush()

    def _text(self) -> str:
        seconds = time.monotonic() - self._started
        text = f"{self._label}: {self._done:,}"
        if self._total:
            text += f" of {self._total:,}"
        text += f" {self._unit}, {seconds:.0f} s"
        if self._total and self._done:
            text += f", {seconds * (self._total - self._done) / self._done:.0f} s left"
        return text

    def _bar(self) -> str:
        if not self._total:
            return ""
        filled = BAR_WIDTH * self._done // self._total
        return f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] "
