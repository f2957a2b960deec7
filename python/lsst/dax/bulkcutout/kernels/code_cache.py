# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Where compiled kernels are kept, so that jobs do not compile them again.

It is numba's own cache, but for four things. What was compiled from other
sources is never used: numba asks for the age of one file, and a kernel is
made of several. Two processes that compile at the same time cannot mix up
their results. A directory that cannot be written can still be read. And
nothing that goes wrong here stops a job: then it compiles for itself.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core import caching

__all__ = ("CACHE_VARIABLE", "cache_directory", "keep_compiled")

CACHE_VARIABLE = "BULKCUTOUT_KERNEL_CACHE"
"""Environment variable that names another directory."""

_LOG = logging.getLogger(__name__)


@functools.cache
def cache_directory() -> Path:
    """Choose the directory for compiled kernels.

    Returns
    -------
    directory
        That of `CACHE_VARIABLE`; else one beside the kernels, if it is there
        or can be made; else one among the user's caches.
    """
    # One directory for each state of the sources.
    name = f"kernels-{_source_stamp()}"
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen) / name
    beside = Path(__file__).parent / "__pycache__" / name
    if beside.is_dir() or _can_write(beside):
        return beside
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "bulkcutout" / name


def keep_compiled(dispatcher: Any, function: Callable[..., object]) -> None:
    """Have compiled code of a function kept, and taken from where it is.

    Parameters
    ----------
    dispatcher
        What numba made of the function.
    function
        The function.
    """
    dispatcher._cache = _KernelCache(function)


@functools.cache
def _source_stamp() -> str:
    """A checksum of all sources of kernels."""
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:16]


def _can_write(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError:
        return False
    return True


# numba's classes have no types.
_Locator: Any = caching._CacheLocator
_Impl: Any = caching.CompileResultCacheImpl
_Files: Any = caching.IndexDataCacheFile
_Cache: Any = caching.FunctionCache


class _KernelLocator(_Locator):  # type: ignore[misc]
    def __init__(self, function: Callable[..., object]) -> None:
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, function: Callable[..., object], file: str) -> _KernelLocator:
        return cls(function)

    def get_cache_path(self) -> str:
        return str(cache_directory())

    def get_source_stamp(self) -> str:
        return _source_stamp()

    def get_disambiguator(self) -> str:
        return str(self._line)


class _KernelImpl(_Impl):  # type: ignore[misc]
    _locator_classes = [_KernelLocator]


class _KernelFiles(_Files):  # type: ignore[misc]
    def _load_index(self) -> Any:
        return self._or_nothing(super()._load_index) or {}

    def _load_data(self, name: str) -> Any:
        return self._or_nothing(super()._load_data, name)

    def _or_nothing(self, load: Callable[..., Any], *arguments: str) -> Any:
        try:
            return load(*arguments)
        except Exception:
            # Cut short by a full disk, or of another numba: whatever it is,
            # the kernel can be compiled.
            _LOG.warning("Compiled kernels in %s cannot be read.", self._cache_path, exc_info=True)
            return None

    def _data_name(self, number: int) -> str:
        # A number may be that of another process for another signature, and
        # code that is called with other types than its own is a crash.
        name: str = self._data_name_pattern.format(number=number)
        return f"{name.removesuffix('.nbc')}-{uuid.uuid4().hex}.nbc"


class _KernelCache(_Cache):  # type: ignore[misc]
    _impl_class = _KernelImpl

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)
        base = self._impl.filename_base
        self._cache_file = _KernelFiles(self._cache_path, base, self._impl.locator.get_source_stamp())

    def save_overload(self, signature: Any, compiled: Any) -> None:
        try:
            super().save_overload(signature, compiled)
        except OSError as error:
            _LOG.debug("Compiled kernels cannot be kept in %s: %s", self._cache_path, error)
