# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Deleting what is in a directory, and nothing that a link leads to."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

__all__ = ("Deletion",)


class Deletion:
    """Deletes files and directories, and counts their bytes.

    Parameters
    ----------
    inside
        Directory that all of them must be in.
    dry_run
        Whether to count only.
    """

    def __init__(self, inside: Path, *, dry_run: bool) -> None:
        self._inside = inside
        self._dry_run = dry_run
        self.bytes = 0
        """Bytes that were deleted."""
        self.left: list[str] = []
        """What was left alone, and why."""

    def delete(self, path: Path) -> None:
        """Delete a file or a directory with all that is in it.

        Parameters
        ----------
        path
            Its place; nothing happens if there is nothing.
        """
        if not os.path.lexists(path):
            return
        # Its parents may be links, too.
        if not path.parent.resolve().is_relative_to(self._inside.resolve()) or ".." in path.parts:
            self.left.append(f"{path} leads out of {self._inside}")
        elif path.is_symlink():
            self.left.append(f"{path} is a link to {path.readlink()}")
        elif path.is_dir():
            self.bytes += _bytes_below(path)
            if not self._dry_run:
                # Removes links that it meets, and does not follow them.
                shutil.rmtree(path)
        else:
            self.bytes += path.lstat().st_size
            if not self._dry_run:
                path.unlink(missing_ok=True)

    def delete_empty(self, directory: Path) -> None:
        """Delete a directory if nothing is in it.

        Parameters
        ----------
        directory
            The directory.
        """
        if not self._dry_run and not directory.is_symlink():
            with contextlib.suppress(OSError):
                directory.rmdir()


def _bytes_below(directory: Path) -> int:
    return sum(
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, names in os.walk(directory)
        for name in names
    )
