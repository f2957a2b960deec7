# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Check a product: checksums, row accounting, and pixels of a sample."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import CorruptInputError, UserError
from ..manifest import (
    CALLBACK_SPOOL_NAME,
    CERTIFICATE_NAME,
    CERTIFICATE_PICTURE_NAME,
    CHECKSUMS_NAME,
    MANIFEST_NAME,
    STATUS_NAME,
    Manifest,
    file_sha256,
    read_checksums,
    read_manifest,
)
from .pixel_check import compare_pixels
from .row_accounting import Problem, check_data_file, read_status

__all__ = ("Problem", "VerifyReport", "verify_product")

_NOT_LISTED = (MANIFEST_NAME, CHECKSUMS_NAME, CERTIFICATE_NAME, CERTIFICATE_PICTURE_NAME, "preview.png")

_MOST_SHOWN = 20
"""Problems of one check that a report prints."""

_SEED = 20326


@dataclasses.dataclass(frozen=True)
class VerifyReport:
    """What `verify_product` found."""

    product: str
    """Directory of the product."""

    problems: tuple[Problem, ...]
    """All that is wrong."""

    checked: tuple[tuple[str, str], ...]
    """Name of each check, and what it looked at."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"Product {self.product}"]
        for check, what in self.checked:
            found = [problem for problem in self.problems if problem.check == check]
            lines.append(f"  {check:<10} {f'{len(found)} PROBLEMS' if found else 'ok'}: {what}")
            lines += [f"    {problem}" for problem in found[:_MOST_SHOWN]]
            if len(found) > _MOST_SHOWN:
                lines.append(f"    and {len(found) - _MOST_SHOWN} more")
        lines.append("All is well." if self.ok else "This product is NOT as it should be.")
        return "\n".join(lines)


def verify_product(out: str | Path, sample: int = 200, *, seed: int = _SEED) -> VerifyReport:
    """Check a product.

    Parameters
    ----------
    out
        Directory of the product.
    sample
        Number of cutouts whose pixels are compared with the input images; 0
        to leave that out, for instance where the images are not at hand.
    seed
        Chooses them: the same seed, the same cutouts.

    Returns
    -------
    report
        What was checked and what is wrong.

    Raises
    ------
    UserError
        Raised if there is no product to check, or it is of a newer version.

    Notes
    -----
    Three checks.  ``checksums``: every file has the size and checksum that
    both ``SHA256SUMS`` and the manifest say, and no file is too many.
    ``rows``: ``status.parquet`` has every row of the catalog once, its counts
    are the manifest's, and the data files hold the delivered rows, each in
    its place.  ``pixels``: a random sample, against the input images.
    """
    directory = Path(out)
    try:
        manifest = read_manifest(directory)
    except CorruptInputError as error:
        broken = Problem("checksums", MANIFEST_NAME, message=str(error))
        return VerifyReport(str(directory), (broken,), (("checksums", "the manifest cannot be read"),))
    total = sum(file.bytes for file in manifest.files)
    problems = [*_check_checksums(directory, manifest)]
    checked = [("checksums", f"{len(manifest.files)} files, {total / 1e6:.1f} MB")]
    delivered, found = _check_rows(directory, manifest)
    problems += found
    refused = sum(manifest.counts.values()) - manifest.counts.get("delivered", 0)
    checked.append(("rows", f"{manifest.rows} rows, {manifest.rows - refused} delivered, {refused} refused"))
    if sample > 0:
        n, pixels, found = _check_pixels(directory, manifest, delivered, sample, seed)
        problems += found
        checked.append(("pixels", f"{n} cutouts, {pixels} pixels compared with the input images"))
    else:
        checked.append(("pixels", "left out"))
    return VerifyReport(str(directory), tuple(problems), tuple(checked))


def _check_checksums(directory: Path, manifest: Manifest) -> Iterable[Problem]:
    try:
        sums = dict(read_checksums(directory))
    except (UserError, CorruptInputError) as error:
        yield Problem("checksums", CHECKSUMS_NAME, message=str(error))
        sums = {file.path: file.sha256 for file in manifest.files}
    for file in manifest.files:
        path = directory / file.path
        if sums.pop(file.path, None) != file.sha256:
            yield Problem("checksums", file.path, message=f"{CHECKSUMS_NAME} and the manifest differ")
        if not path.is_file():
            yield Problem("checksums", file.path, message="the file is missing")
        elif path.stat().st_size != file.bytes:
            size = path.stat().st_size
            yield Problem("checksums", file.path, message=f"has {size} bytes, should have {file.bytes}")
        elif file_sha256(path) != file.sha256:
            yield Problem("checksums", file.path, message="its contents are not those of its checksum")
    for name in sums:
        yield Problem("checksums", name, message=f"is in {CHECKSUMS_NAME}, not in the manifest")
    listed = {file.path for file in manifest.files}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        hidden = any(part.startswith(".") for part in Path(name).parts)
        waiting = Path(name).parts[0] == CALLBACK_SPOOL_NAME
        if path.is_file() and name not in listed and name not in _NOT_LISTED and not hidden and not waiting:
            yield Problem("checksums", name, message="does not belong to the product")


def _check_rows(directory: Path, manifest: Manifest) -> tuple[dict[str, int], list[Problem]]:
    """Account for the rows; gives the number of usable rows by data file."""
    problems: list[Problem] = []
    try:
        status = read_status(directory / STATUS_NAME, problems)
    except (OSError, CorruptInputError) as error:
        return {}, [*problems, Problem("rows", STATUS_NAME, message=str(error))]
    counts = Counter(status.counts)
    if sum(counts.values()) != manifest.rows:
        message = f"has {sum(counts.values())} rows, the catalog {manifest.rows}"
        problems.append(Problem("rows", STATUS_NAME, message=message))
    for name in sorted(counts.keys() | manifest.counts.keys()):
        if counts[name] != manifest.counts.get(name, 0):
            message = f"{counts[name]} rows are {name}, the manifest says {manifest.counts.get(name, 0)}"
            problems.append(Problem("rows", STATUS_NAME, message=message))
    delivered: dict[str, int] = {}
    data_files = [file for file in manifest.files if file.size is not None]
    for file in data_files:
        try:
            delivered[file.path] = check_data_file(directory, file, manifest.bands, status, problems)
        except (OSError, CorruptInputError, UserError) as error:
            problems.append(Problem("rows", file.path, message=str(error)))
    for name in sorted(set(status.files) - {file.path for file in data_files}):
        problems.append(Problem("rows", name, message=f"{STATUS_NAME} names it, the manifest does not"))
    return delivered, problems


def _check_pixels(
    directory: Path, manifest: Manifest, delivered: dict[str, int], sample: int, seed: int
) -> tuple[int, int, list[Problem]]:
    stops = np.cumsum(list(delivered.values()), dtype=np.int64)
    n_all = int(stops[-1]) if len(stops) else 0
    inputs = manifest.execution.get("inputs")
    if n_all and not isinstance(inputs, dict):
        message = "does not say where the input images are: verify with a sample of 0 to leave pixels out"
        return 0, 0, [Problem("pixels", MANIFEST_NAME, message=message)]
    chosen = np.sort(np.random.default_rng(seed).choice(n_all, size=min(sample, n_all), replace=False))
    problems: list[Problem] = []
    pixels = 0
    for name, start, stop in zip(delivered, [0, *stops], stops, strict=False):
        indices = (chosen[(chosen >= start) & (chosen < stop)] - start).tolist()
        if not indices:
            continue
        try:
            comparison = compare_pixels(
                str(directory / name),
                indices,
                inputs or {},
                background=manifest.request.get("background", "stored"),
            )
        except (OSError, KeyError, RuntimeError) as error:
            problems.append(Problem("pixels", name, message=f"cannot be read: {error}"))
            continue
        pixels += comparison.pixels
        problems += [
            Problem("pixels", name, dataset=fault.dataset, row=fault.row, message=fault.message)
            for fault in comparison.faults
        ]
    return len(chosen), pixels, problems
