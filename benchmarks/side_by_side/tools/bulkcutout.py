# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Our own: `open_image` and `cut`, as a quantum uses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from work import Sink, carry_out

from lsst.dax.bulkcutout.extract.cut import cut as cut_image
from lsst.dax.bulkcutout.readers import open_image

FILL = {"image": np.float32(np.nan), "variance": np.float32(np.nan), "mask": np.int32(0)}
MEMORY_BYTES = 256 * 1024 * 1024


def cut(job: Mapping[str, Any], targets: dict[str, np.ndarray], sink: Sink) -> None:
    y0, x0 = job["origin"]
    more = {"threads": job["threads"]} if job["threads"] > 1 else {}
    with open_image(job["path"]) as image:
        for block in cut_image(
            image,
            first_y=targets["first_y"] + y0,
            first_x=targets["first_x"] + x0,
            size=job["size"],
            fill=FILL,
            memory_bytes=MEMORY_BYTES,
            **more,
        ):
            if block.damaged.any():
                raise RuntimeError("Damaged tiles in a file that this benchmark has made.")
            sink.write(block.index, block.pixels)


if __name__ == "__main__":
    carry_out(cut)
