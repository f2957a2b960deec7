# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What an earlier ``finish`` has left in a product's directory."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from ..errors import CorruptInputError, UserError
from ..manifest import (
    CERTIFICATE_NAME,
    CERTIFICATE_PICTURE_NAME,
    CHECKSUMS_NAME,
    MANIFEST_NAME,
    Manifest,
    ProductFile,
    file_sha256,
    read_manifest,
)
from .product_files import ProductFilePlan

__all__ = ("EarlierProduct",)

_LEFT_OVER = re.compile(
    r"\.(manifest\.json|SHA256SUMS|README\.md|\.bulkcutout-campaign\.json)\.[0-9]+"
    r"|\.(status\.parquet|status\.vot|coverage\.moc\.fits)"
)
"""Names that small files have until they are whole."""


class EarlierProduct:
    """What is in a product's directory already.

    Parameters
    ----------
    directory
        The directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.manifest: Manifest | None = None
        """The manifest, if there is one that can be read."""
        with contextlib.suppress(UserError, CorruptInputError):
            self.manifest = read_manifest(directory)

    def is_made_from(
        self,
        request: Mapping[str, object],
        keys: Mapping[str, str],
        cancelled: Mapping[str, object] | None = None,
    ) -> bool:
        """Tell whether the whole product is there and would come out the same.

        Parameters
        ----------
        request
            The request, as a manifest has it.
        keys
            What each data file is made from, by its path.
        cancelled
            Who cancelled the campaign, if anybody did; a product that is
            complete all the same stays what it is.

        Returns
        -------
        same
            Whether there is nothing to do.
        """
        return (
            self.manifest is not None
            and self._sources == keys
            and (self.manifest.complete or self.manifest.execution.get("cancelled") == cancelled)
            and all(self._is_intact(file) for file in self.manifest.files)
            and self.manifest.request == request
        )

    def has(self, planned: ProductFilePlan) -> bool:
        """Tell whether there is a data file that may come out the same.

        Parameters
        ----------
        planned
            What is to go into it.

        Returns
        -------
        known
            Whether the manifest knows what it was made from.
        """
        return planned.path in self._sources

    def invalidate(self) -> None:
        """Take away what says that the directory holds a complete set.

        That is the manifest, and the certificate of what was there.
        """
        for name in (MANIFEST_NAME, CHECKSUMS_NAME, CERTIFICATE_NAME, CERTIFICATE_PICTURE_NAME):
            (self._directory / name).unlink(missing_ok=True)

    def reuse(self, planned: ProductFilePlan, key: str) -> ProductFile | None:
        """Find a data file that would come out the same.

        Parameters
        ----------
        planned
            What is to go into it.
        key
            What it is to be made from.

        Returns
        -------
        file
            Its entry in the manifest; `None` if it is not there.
        """
        if self.manifest is None or self._sources.get(planned.path) != key:
            return None
        found = [file for file in self.manifest.files if file.path == planned.path]
        return found[0] if found and self._is_intact(found[0]) else None

    def remove_all_but(self, paths: Collection[str]) -> None:
        """Remove data files that are of an earlier attempt only.

        What a killed one has left goes, too.

        Parameters
        ----------
        paths
            Data files that stay.
        """
        for path in sorted(self._directory.glob("size=*/**/*"), reverse=True):
            if path.is_dir():
                # Only of a pixel that has lost its last file.
                with contextlib.suppress(OSError):
                    path.rmdir()
            elif path.relative_to(self._directory).as_posix() not in paths:
                path.unlink()
        for path in self._directory.glob(".*"):
            if _LEFT_OVER.fullmatch(path.name):
                path.unlink()

    @property
    def _sources(self) -> Mapping[str, str]:
        if self.manifest is None:
            return {}
        sources: Mapping[str, str] = self.manifest.execution.get("sources", {})
        return sources

    def _is_intact(self, file: ProductFile) -> bool:
        path = self._directory / file.path
        try:
            return path.stat().st_size == file.bytes and file_sha256(path) == file.sha256
        except FileNotFoundError:
            return False
