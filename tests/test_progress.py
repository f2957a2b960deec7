# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Progress: a bar where somebody watches, few plain lines elsewhere."""

from __future__ import annotations

import io

import pytest

from lsst.dax.bulkcutout import progress as module
from lsst.dax.bulkcutout.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time is what its one element says."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_are_few_and_whole(clock: list[float]) -> None:
    """A log file gets a line every ten seconds, and only for news."""
    stream = io.StringIO()
    progress = Progress("Packaging", stream=stream)
    for step in range(100):
        clock[0] += 1.0
        progress.set(1000 * min(step + 1, 40), 200_000)
    progress.close()
    assert stream.getvalue().splitlines() == [
        "Packaging: 10,000 of 200,000 rows, 10 s, 190 s left",
        "Packaging: 20,000 of 200,000 rows, 20 s, 180 s left",
        "Packaging: 30,000 of 200,000 rows, 30 s, 170 s left",
        "Packaging: 40,000 of 200,000 rows, 40 s, 160 s left",
        "Packaging: 40,000 rows in 100.0 s",
    ]


def test_quick_work_has_one_line(clock: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress("Locating targets", stream=stream)
    progress.add(1200)
    clock[0] += 0.25
    progress.add(34)
    progress.close()
    assert stream.getvalue() == "Locating targets: 1,234 rows in 0.2 s\n"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_nothing_done_is_not_worth_a_line(stream: io.StringIO) -> None:
    Progress("Cutting", "patches", stream).close()
    assert stream.getvalue() == ""


def test_bar_grows_in_place(clock: list[float]) -> None:
    """It is drawn ten times a second at most, and gone in the end."""
    stream = Terminal()
    progress = Progress("Cutting", "patches", stream)
    shown = []
    for done in range(13):
        clock[0] += 0.06
        progress.set(done, 12)
        shown.append(stream.getvalue())
        stream.seek(0)
        stream.truncate()
    drawn = [text for text in shown if text]
    assert len(drawn) == 6 and all(text.startswith("\r[") and text.endswith("\x1b[K") for text in drawn)
    assert "\n" not in "".join(drawn)
    bars = [text[text.index("[") + 1 : text.index("]")] for text in drawn]
    assert {len(bar) for bar in bars} == {module.BAR_WIDTH}
    filled = [bar.count("#") for bar in bars]
    assert filled == sorted(filled) and filled[-1] == module.BAR_WIDTH * 11 // 12
    assert " Cutting: 11 of 12 patches, 1 s, 0 s left" in drawn[-1]
    progress.close()
    assert stream.getvalue() == "\r\x1b[KCutting: 12 patches in 0.8 s\n"


def test_time_goes_on_without_news(clock: list[float]) -> None:
    """On a terminal, so that nobody takes it for dead."""
    stream = Terminal()
    progress = Progress("Cutting", "patches", stream)
    for _ in range(3):
        clock[0] += 1.0
        progress.set(1, 4)
    assert stream.getvalue().count("\r") == 3 and "3 s, 9 s left" in stream.getvalue()


def test_amount_that_is_not_known_has_no_bar(clock: list[float]) -> None:
    stream = Terminal()
    progress = Progress("Locating targets", stream=stream)
    clock[0] += 2.0
    progress.add(500)
    assert stream.getvalue() == "\rLocating targets: 500 rows, 2 s\x1b[K"


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    """What a command prints on standard output can be read by a program."""
    progress = Progress("Packaging")
    progress.set(3, 3)
    progress.close()
    assert capsys.readouterr() == ("", "Packaging: 3 rows in 0.0 s\n")
