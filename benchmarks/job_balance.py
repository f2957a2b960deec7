# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Length of jobs by BPS's own clustering and by ours, for made-up catalogs.

    python benchmarks/job_balance.py

Estimated from the measured costs in estimate/cost.py: a DP2 patch has three
images of 23 MB, and a row 50 kB of the product (64 px, image and mask).
Imbalance is the longest job over the mean one.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np

from lsst.dax.bulkcutout.estimate.cost import SECONDS_PER_JOB, quantum_seconds
from lsst.dax.bulkcutout.packing import pack

Rows = Mapping[tuple[int, int], int]


def clumped(random: np.random.Generator) -> Rows:
    """A million galaxies in 40 tracts, in clumps: a deep field has most."""
    density = random.lognormal(0.0, 1.8, (40, 100)) * random.lognormal(0.0, 1.0, (40, 1))
    return _nonzero(random.poisson(1e6 * density / density.sum()))


def all_sky(random: np.random.Generator) -> Rows:
    """Twenty thousand positions, evenly over 15,000 tracts of 100 patches."""
    return _nonzero(random.poisson(20_000 / 1_500_000, (15_000, 100)))


def both(random: np.random.Generator) -> Rows:
    """A sparse catalog with one crowded field in it."""
    rows = random.poisson(0.05, (5000, 100))
    rows[2000] += random.poisson(20_000, 100)
    return _nonzero(rows)


def _nonzero(rows: np.ndarray) -> Rows:
    return {(int(tract), int(patch)): int(rows[tract, patch]) for tract, patch in np.argwhere(rows)}


def by_bps(places: list[tuple[int, int]], most: int, *, within_tracts: bool) -> list[list[int]]:
    """BPS's dimension_clustering: so many patches, of one tract or of any."""
    groups: dict[int, list[int]] = {}
    for number, (tract, _) in enumerate(places):
        groups.setdefault(tract if within_tracts else 0, []).append(number)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(
        f"{'catalog':<10}{'jobs by':<22}{'jobs':>7}{'mean s':>8}{'longest':>9}{'imbalance':>11}{'starts':>8}"
    )
    for make in (clumped, all_sky, both):
        rows = make(np.random.default_rng(11))
        places = sorted(rows)
        seconds = np.array(
            [
                quantum_seconds(rows=n, images=3, image_bytes=69_000_000, product_bytes=50_000 * n)
                for n in (rows[place] for place in places)
            ]
        )
        numbers = list(range(len(places)))
        packed = pack(seconds, most_seconds=900.0, most_pieces=500, slots=64, start_seconds=SECONDS_PER_JOB)
        for name, jobs in (
            ("tract, 25 patches", by_bps(places, 25, within_tracts=True)),
            ("tract,patch, 100", by_bps(places, 100, within_tracts=False)),
            ("pack_quanta", [numbers[job] for job in packed]),
        ):
            lengths = np.array([SECONDS_PER_JOB + seconds[job].sum() for job in jobs])
            starts = SECONDS_PER_JOB * len(jobs) / lengths.sum()
            print(
                f"{make.__name__:<10}{name:<22}{len(jobs):>7}{lengths.mean():>8.1f}{lengths.max():>9.1f}"
                f"{lengths.max() / lengths.mean():>11.1f}{100 * starts:>7.0f}%"
            )


if __name__ == "__main__":
    main()
