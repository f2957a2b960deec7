# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Mask planes by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.masks import mask_dtype, merge_mask_planes, reencode_mask
from lsst.dax.bulkcutout.tables import MaskPlane

NAMES = ["NO_DATA", "SATURATED", "CLIPPED", "DETECTED", "INEXACT_PSF", "REJECTED", "COSMIC_RAY"]
plane_tables = st.permutations(NAMES).flatmap(
    lambda names: st.integers(0, len(names)).map(
        lambda n: tuple(MaskPlane(name, 2 * bit + 1, "") for bit, name in enumerate(names[:n]))
    )
)


@given(st.lists(plane_tables, min_size=1, max_size=4), st.integers(0, 2**31 - 1))
def test_reencoding_keeps_every_plane_by_name(tables: list[tuple[MaskPlane, ...]], seed: int) -> None:
    merged = merge_mask_planes(tables)
    bits = {plane.name: plane.bit for plane in merged}
    assert len(set(bits.values())) == len(bits) and "NO_DATA" in bits
    assert set(bits) == {"NO_DATA"}.union(*({plane.name for plane in table} for table in tables))
    # The first table's bits stay.
    assert all(bits[plane.name] == plane.bit for plane in tables[0])
    for table in tables:
        mask = np.random.default_rng(seed).integers(0, 2**14, size=(3, 5)).astype(np.int32)
        known = sum(1 << plane.bit for plane in table)
        mask &= known
        result = reencode_mask(mask, table, merged)
        for plane in table:
            expected = (mask // 2**plane.bit) % 2
            assert (((result // 2 ** bits[plane.name]) % 2) == expected).all()
        # Nothing else is set.
        others = [bits[name] for name in bits if name not in {plane.name for plane in table}]
        assert not any(((result >> bit) & 1).any() for bit in others)


def test_more_than_31_planes_need_64_bits() -> None:
    planes = [MaskPlane(f"P{bit}", bit, "") for bit in range(31)]
    assert mask_dtype(planes) == np.int32
    merged = merge_mask_planes([planes])
    assert mask_dtype(merged) == np.int64 and merged[-1].name == "NO_DATA"
    mask = np.full((2, 3), 1 << 30, dtype=np.int32)
    assert reencode_mask(mask, planes, merged) == pytest.approx(2**30)
