# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Our engine alone on the tiles: `open_image` and `cut`, into one HDF5 file,
without campaign, manifest and checksums.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq

from lsst.dax.bulkcutout.extract.cut import cut
from lsst.dax.bulkcutout.readers import open_image

MEMORY_BYTES = 256 * 1024 * 1024


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    size, table = job["size"], pq.read_table(job["catalog"])
    ids, ra, dec = (table[name].to_numpy() for name in ("id", "ra", "dec"))
    with h5py.File(job["output"], "w", libver=("v110", "v110")) as file:
        flux = file.create_dataset("images/flux", (len(ids), len(job["tiles"]), size, size), np.float32)
        for number, path in enumerate(job["tiles"]):
            order = []
            with open_image(path) as image:
                x, y = image.wcs.sky_to_pixel(ra, dec)
                first_y, first_x = (np.ceil(np.round(p, 6) - size / 2).astype(np.int64) for p in (y, x))
                fill = {"image": np.float32(np.nan)}
                done = 0
                for block in cut(
                    image, first_y=first_y, first_x=first_x, size=size, fill=fill, memory_bytes=MEMORY_BYTES
                ):
                    stop = done + len(block.index)
                    flux[done:stop, number] = block.pixels["image"]
                    order.append(np.array(block.index))
                    done = stop
            index = np.concatenate(order)
            if number and not np.array_equal(file["catalog/object_id"][:], ids[index]):
                sys.exit("The tiles are not on one grid.")
            if not number:
                file["catalog/object_id"] = ids[index]


if __name__ == "__main__":
    main()
