# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Pieces of work become jobs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.packing import pack

SECONDS = st.lists(st.floats(0.1, 100.0) | st.just(0.1) | st.floats(500.0, 2000.0), min_size=1, max_size=300)


def lengths(seconds: list[float], jobs: list[slice]) -> list[float]:
    return [sum(seconds[job]) for job in jobs]


@given(SECONDS, st.floats(1.0, 900.0), st.integers(1, 50), st.integers(1, 40))
def test_every_piece_is_in_one_job_and_bounds_are_kept(
    seconds: list[float], most_seconds: float, most_pieces: int, slots: int
) -> None:
    jobs = pack(
        np.array(seconds), most_seconds=most_seconds, most_pieces=most_pieces, slots=slots, start_seconds=2.5
    )
    numbers = list(range(len(seconds)))
    # In their order, so that neighbours are together.
    assert [number for job in jobs for number in numbers[job]] == numbers
    for job, length in zip(jobs, lengths(seconds, jobs), strict=True):
        n = job.stop - job.start
        assert 1 <= n <= most_pieces
        # To a microsecond for each piece.
        assert n == 1 or length <= most_seconds + 1e-6 * n


@given(SECONDS, st.floats(1.0, 900.0), st.integers(1, 40))
def test_longest_job_exceeds_the_mean_by_one_piece_at_most(
    seconds: list[float], most_seconds: float, slots: int
) -> None:
    """With the number of pieces unbounded; so with many small pieces jobs are
    equal, and with pieces of half a job imbalance is below two.
    """
    jobs = pack(
        np.array(seconds),
        most_seconds=most_seconds,
        most_pieces=len(seconds),
        slots=slots,
        start_seconds=2.5,
    )
    mean = sum(seconds) / len(jobs)
    assert max(lengths(seconds, jobs)) <= mean + max(seconds) + 1e-3


@given(SECONDS, st.floats(1.0, 900.0), st.integers(1, 50))
def test_no_fewer_jobs_would_keep_the_bounds(
    seconds: list[float], most_seconds: float, most_pieces: int
) -> None:
    """Told by counting: the fewest jobs for the first n pieces, for each n."""
    fewest = [0]
    for stop in range(1, len(seconds) + 1):
        starts = [
            start
            for start in range(max(0, stop - most_pieces), stop)
            if start == stop - 1 or sum(seconds[start:stop]) <= most_seconds
        ]
        fewest.append(1 + min(fewest[start] for start in starts))
    jobs = pack(
        np.array(seconds), most_seconds=most_seconds, most_pieces=most_pieces, slots=1, start_seconds=1e9
    )
    # One slot, for which more and shorter jobs are made of much work only.
    assert len(jobs) <= max(fewest[-1], 4)


def test_small_campaign_is_divided_among_the_slots() -> None:
    minute = np.full(60, 1.0)
    bounds = {"most_seconds": 900.0, "most_pieces": 500, "start_seconds": 2.5}
    assert len(pack(minute, slots=1, **bounds)) == 2
    assert len(pack(minute, slots=8, **bounds)) == 8
    # A start of 2.5 s is not spent on less than five seconds.
    assert len(pack(minute, slots=1000, **bounds)) == 12
    assert len(pack(minute[:3], slots=1000, **bounds)) == 1
    assert pack(minute[:0], slots=8, **bounds) == []


def test_large_campaign_has_jobs_of_the_length_that_was_asked_for() -> None:
    jobs = pack(np.full(100_000, 1.8), most_seconds=900.0, most_pieces=500, slots=8, start_seconds=2.5)
    assert len(jobs) == 200 and {job.stop - job.start for job in jobs} == {500}


def test_large_piece_does_not_lengthen_other_jobs() -> None:
    seconds = np.array([1.0] * 40 + [3000.0] + [1.0] * 40)
    jobs = pack(seconds, most_seconds=20.0, most_pieces=500, slots=1, start_seconds=2.5)
    assert [job.stop - job.start for job in jobs] == [20, 20, 1, 20, 20]


def test_a_million_patches_are_packed_at_once() -> None:
    random = np.random.default_rng(4)
    seconds = random.lognormal(-1.0, 1.5, 1_000_000)
    jobs = pack(seconds, most_seconds=900.0, most_pieces=500, slots=500, start_seconds=2.5)
    assert len(jobs) == pytest.approx(2000, rel=0.1)
    totals = np.add.reduceat(seconds, [job.start for job in jobs])
    assert totals.max() / totals.mean() < 2
