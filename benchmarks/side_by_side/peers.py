# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The tools that users have today, each in an environment of its own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ("PEERS", "install")

REQUIREMENTS = Path(__file__).parents[1] / "peers"
PEERS = tuple(sorted(path.stem for path in REQUIREMENTS.glob("*.txt")))
"""Names of the environments: ``peers/NAME.txt`` says what is in them."""


def install(name: str, directory: Path) -> Path:
    """Make the environment of a peer, unless it is there.

    Parameters
    ----------
    name
        One of `PEERS`.
    directory
        Where the environments are.

    Returns
    -------
    python
        Its interpreter.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    wanted = hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()
    root = directory / name
    python, stamp = root / "bin" / "python", root / "installed-from"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"benchmark: installing {name} (once)", file=sys.stderr, flush=True)
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    log = directory / f"{name}.log"
    pip = ["-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    with open(log, "wb") as said:
        for command in (
            [sys.executable, "-m", "venv", str(root)],
            [str(python), *pip, "--requirement", str(requirements)],
        ):
            if subprocess.run(command, stdout=said, stderr=subprocess.STDOUT).returncode != 0:
                sys.exit(f"benchmark: installing {name} failed:\n{log.read_text()[-3000:]}")
    stamp.write_text(wanted)
    return python
