# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Writes what Cutana has made as one array, for the check."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import zarr


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    ids, pixels = [], []
    for batch in sorted(Path(job["output"]).glob("batch_*")):
        table = pd.read_parquet(batch / "images_metadata.parquet")
        images = zarr.open(str(batch / "images.zarr"), mode="r")["images"][:]
        ids.append(table["source_id"].to_numpy().astype(np.int64))
        # The channel is the last axis.
        pixels.append(np.moveaxis(images, 3, 1))
    np.savez(job["result"], ids=np.concatenate(ids), pixels=np.concatenate(pixels))


if __name__ == "__main__":
    main()
