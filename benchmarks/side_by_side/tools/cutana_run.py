# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Cutana on its own kind of work: tiles of four channels, as they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cutana import Orchestrator, get_default_config


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    config = get_default_config()
    config.source_catalogue = job["catalog"]
    config.output_dir = job["output"]
    config.output_format = "zarr"
    config.data_type = "float32"
    config.target_resolution = job["size"]
    config.normalisation_method = "none"
    config.apply_flux_conversion = False
    channels = job["channels"]
    config.selected_extensions = [{"name": name, "ext": "PrimaryHDU"} for name in channels]
    config.channel_weights = {name: [float(other == name) for other in channels] for name in channels}
    result = Orchestrator(config).run()
    if result.get("status") != "completed":
        sys.exit(f"Cutana ended so: {result}")


if __name__ == "__main__":
    main()
