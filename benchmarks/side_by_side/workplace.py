# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The directories of the benchmark, and what processes get to see."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

__all__ = ("Workplace",)

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclasses.dataclass(frozen=True)
class Workplace:
    """Everything is below one directory, which git does not see."""

    root: Path

    @property
    def environments(self) -> Path:
        """Environments of the peers."""
        return self.root / "environments"

    @property
    def data(self) -> Path:
        """Images, kept from run to run."""
        return self.root / "data"

    @property
    def scratch(self) -> Path:
        """What runs write, removed afterwards."""
        return self.root / f"scratch-{os.getpid()}"

    def own_environment(self) -> dict[str, str]:
        """Environment variables of our own tools."""
        return {**os.environ, **ONE_THREAD}

    def peer_environment(self) -> dict[str, str]:
        """Those of the peers, who see nothing of ours."""
        own = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        return {name: value for name, value in self.own_environment().items() if name not in own}
