# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The status of campaigns, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .listing import CampaignLine
from .status import CampaignStatus

__all__ = ("describe_list", "describe_state", "describe_status")

MOST_HELD = 5
"""Reasons for being held that are shown, each once."""


def describe_status(status: CampaignStatus) -> str:
    """Tell how far a campaign is.

    Parameters
    ----------
    status
        How far it is.

    Returns
    -------
    text
        Some lines.
    """
    lines = [describe_state(status)]
    where = " ".join(
        filter(None, (status.site and f"at {status.site}", status.run and f"as run {status.run}"))
    )
    lines[0] += f" ({where})" if where else ""
    if len(status.quanta_by_state) > 1 or status.done < status.quanta:
        lines.append(f"quanta: {_counts(status.quanta_by_state)}")
    if status.jobs:
        lines.append(f"jobs: {_counts(status.jobs)}")
    lines += _held_lines(status.held)
    if status.provisioning:
        lines.append(status.provisioning)
    if status.rows:
        lines.append(f"rows: {sum(status.counts.values()):,} of {status.rows:,} are answered")
        lines += [f"  {count:>12,}  {name}" for name, count in status.counts.items()]
    if status.bytes:
        lines.append(f"left by quanta: {_bytes(status.bytes)}")
    if status.rows_per_s is not None and status.bytes_per_s is not None:
        rate = f"rate: {_number(status.rows_per_s)} rows/s, {_bytes(status.bytes_per_s)}/s"
        left = status.seconds_left
        lines.append(rate + (f"; {_duration(left)} left" if left is not None else ""))
    if status.message:
        lines.append(f"message: {status.message}")
    product = f": {status.files:,} files, {_bytes(status.product_bytes)}" if status.files else ""
    lines.append(f"output: {status.output}{product}")
    if status.finished:
        lines.append(f"finished: {status.finished}")
    return "\n".join(lines)


def describe_state(status: CampaignStatus) -> str:
    """Tell the state of a campaign, and how much of it is done.

    Parameters
    ----------
    status
        How far it is.

    Returns
    -------
    text
        The beginning of a line.
    """
    if not status.quanta:
        return f"{status.state}: no quanta"
    return f"{status.state}: {status.done:,} of {status.quanta:,} quanta done"


def describe_list(campaigns: Sequence[CampaignLine]) -> str:
    """Make a table of campaigns.

    Parameters
    ----------
    campaigns
        The campaigns.

    Returns
    -------
    text
        A line for each, and one above.
    """
    table = [("REQUEST", "SITE", "STATE", "QUANTA", "ROWS", "AGE", "OPERATOR", "OUTPUT")]
    for each in campaigns:
        table.append(
            (
                each.request_id or "?",
                each.site or "?",
                f"{each.state}, purged" if each.purged else each.state,
                f"{each.done:,}/{each.quanta:,}" if each.quanta else "-",
                f"{each.rows:,}" if each.rows else "-",
                _duration(each.age_s),
                each.operator or "?",
                each.output or each.campaign,
            )
        )
        if each.message:
            table[-1] = (*table[-1][:-1], f"{table[-1][-1]} ({each.message})")
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]) - 1)]
    numbers = (3, 4, 5)
    lines = []
    for row in table:
        cells = [f"{row[n]:>{w}}" if n in numbers else f"{row[n]:<{w}}" for n, w in enumerate(widths)]
        lines.append("  ".join([*cells, row[-1]]))
    return "\n".join(lines)


def _held_lines(held: Mapping[str, str]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for name, reason in held.items():
        reasons.setdefault(reason or "no reason is known", []).append(name)
    ordered = sorted(reasons.items(), key=lambda each: -len(each[1]))
    lines = [f"held: {names[0]}{_others(len(names) - 1)}: {reason}" for reason, names in ordered[:MOST_HELD]]
    if len(ordered) > MOST_HELD:
        lines.append(f"held: for {len(ordered) - MOST_HELD} more reasons")
    return lines


def _others(n: int) -> str:
    return f" and {n:,} others" if n > 1 else " and another one" if n else ""


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items())


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _bytes(n: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}" if unit != "bytes" else f"{n:.0f} bytes"
        n /= 1000
    return f"{n:,.3g} TB" if n < 1000 else f"{n:,.0f} TB"


def _duration(seconds: float) -> str:
    for length, unit, next_length in ((1, "s", 60), (60, "min", 3600), (3600, "h", 86400)):
        if seconds < 2 * next_length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
