# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The data card: a README.md for each product, generated from its contents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from ..campaign import write_atomically
from ..formats.hdf5_reader import HDF5Reader
from ..formats.layout import SCHEMA_VERSION
from ..manifest import STATUS_NAME, Manifest, ProductFile
from ..planes import PLANES
from ..sky_files.coverage_map import COVERAGE_NAME
from ..sky_files.status_votable import STATUS_VOTABLE_NAME
from ..tables import DELIVERED, STATUS, field_description, field_unit
from .companion_section import companion_section
from .markdown import markdown_table
from .pixel_sections import pixel_sections

__all__ = ("CARD_NAME", "data_card", "write_data_card")

CARD_NAME = "README.md"


_MOST_FILES_LISTED = 40


def write_data_card(directory: Path, manifest: Manifest) -> Path:
    """Write the data card of a product.

    Parameters
    ----------
    directory
        Directory of the product, whose data files and ``status.parquet`` are
        there already.
    manifest
        Its manifest, which need not be written nor list the card itself.

    Returns
    -------
    path
        The card.
    """
    path = directory / CARD_NAME
    write_atomically(path, data_card(directory, manifest))
    return path


def data_card(directory: Path, manifest: Manifest) -> str:
    """Describe a product.

    Parameters
    ----------
    directory
        Directory of the product.
    manifest
        Its manifest.

    Returns
    -------
    text
        Markdown.  It depends on the contents of the product alone: no times,
        hosts or paths.
    """
    files = [file for file in manifest.files if file.size is not None]
    sections = [
        _head(manifest, files),
        _how_to_open(manifest, files),
        _rows(manifest),
        _files(manifest, files),
    ]
    labels = ""
    if files:
        sections += pixel_sections(directory, manifest, files)
        sections.append(companion_section(directory, manifest, files))
        with HDF5Reader(directory / files[0].path) as reader:
            sections.append(_columns(reader))
            labels = " ".join(label for name in ("survey", "release") if (label := reader.meta(name)))
    sections.append(_status_columns(directory))
    source = f"{labels}, where the images come from," if labels else "the survey that the images come from"
    sections.append(_CITATION.format(source=source, version=SCHEMA_VERSION))
    return "\n".join(section for section in sections if section)


def _head(manifest: Manifest, files: Sequence[ProductFile]) -> str:
    sizes = ", ".join(f"{size} x {size}" for size in sorted({file.size or 0 for file in files}))
    return _HEAD.format(
        request_id=manifest.request_id,
        delivered=manifest.counts.get(DELIVERED, 0),
        of_size=f" of {sizes} pixels" if sizes else "",
        dataset_type=manifest.request.get("dataset_type", "images"),
        bands=", ".join(manifest.bands),
        rows=manifest.rows,
        incomplete="" if manifest.complete else _INCOMPLETE,
    )


def _how_to_open(manifest: Manifest, files: Sequence[ProductFile]) -> str:
    if not files:
        return _HOW_TO_OPEN.format(last="print(len(cutouts))", plainly="")
    planes = manifest.request.get("planes", ())
    plane = next((plane for plane in planes if plane in PLANES), "image")
    last = f'print(cutouts[0].{plane}("{manifest.bands[0]}"), cutouts[0].wcs)'
    return _HOW_TO_OPEN.format(last=last, plainly=_PLAINLY.format(path=files[0].path))


def _rows(manifest: Manifest) -> str:
    rows = [
        (f"`{status}`", str(manifest.counts[status]), sentence)
        for status, sentence in STATUS.items()
        if status in manifest.counts
    ]
    rows.append(("all", str(manifest.rows), "Rows of the catalog."))
    fallback = _FALLBACK.format(n=manifest.fallback) if manifest.fallback else ""
    return _ROWS.format(table=markdown_table(("status", "rows", "meaning"), rows), fallback=fallback)


def _files(manifest: Manifest, files: Sequence[ProductFile]) -> str:
    rows = [(f"`{file.path}`", str(file.rows), str(file.bytes)) for file in files[:_MOST_FILES_LISTED]]
    table = markdown_table(("file", "rows", "bytes"), rows) + "\n" if rows else ""
    if len(files) > len(rows):
        table += f"and {len(files) - len(rows)} more, which `manifest.json` lists.\n\n"
    there = {file.path for file in manifest.files}
    others = "".join(f"- `{name}`: {what}\n" for name, what in _SKY_FILES.items() if name in there)
    return _FILES.format(table=table, others=f"\n{others}" * bool(others))


def _columns(reader: HDF5Reader) -> str:
    rows = []
    for group in ("catalog", "images", "wcs", "carried"):
        for name in reader.names(group):
            path = f"{group}/{name}"
            kind, shape = reader.kind(path)
            of_row = f" {shape[1:]}" if shape[1:] else ""
            attributes = reader.attributes(path)
            rows.append((f"`{path}`", kind + of_row, attributes.get("unit", ""), attributes["description"]))
    return _COLUMNS.format(table=markdown_table(("dataset", "type of a row", "unit", "meaning"), rows))


def _status_columns(directory: Path) -> str:
    schema = pq.read_schema(directory / STATUS_NAME)
    rows = [
        (f"`{field.name}`", str(field.type), field_unit(field), field_description(field)) for field in schema
    ]
    return f"## Columns of {STATUS_NAME}\n\n" + markdown_table(("column", "type", "unit", "meaning"), rows)


_HEAD = """\
# Cutouts of {request_id}

{delivered} cutouts{of_size} from `{dataset_type}`, in the bands {bands}, for a catalog of {rows} rows.
One row of a file is one target with all its bands.
{incomplete}"""


_INCOMPLETE = """
**This product is incomplete**: some jobs did not finish. A restart of the campaign may deliver the rows that
are `not_processed` below.
"""


_HOW_TO_OPEN = """\
## How to open it

```python
from lsst.dax.bulkcutout import open_cutouts
cutouts = open_cutouts(".")
{last}
```

`cutouts[i]` counts cutouts, `cutouts.by_row(n)` takes a row of the catalog (from 0), `cutouts.by_id(id)` an
identifier, `cutouts.near(ra, dec, radius_arcsec)` a position. A cutout has `image`, `variance`, `mask` and
`psf` by band, `mask_plane(name, band)`, `wcs`, `target_xy`, `status` and `carried`.
{plainly}"""


_PLAINLY = """
Without this package the files are plain HDF5: `h5py.File("{path}")` has the datasets listed below.
"""


_ROWS = """\
## What became of the rows

{table}
`status.parquet` says it for each row of the catalog, with the file and the row in it.
{fallback}"""


_FALLBACK = """
Of the delivered rows {n} are cut from another patch than the one that the sky map's rule gives them, because
that one has no image in any band: `fallback` is true for them. The patch that is used is the one that covers
the position best; its pixels are not those that the row of an object table was measured on.
"""


_FILES = """\
## Files

{table}Rows are in the order of tract, patch and catalog. `manifest.json` holds the request, the counts and
all files; `sha256sum -c SHA256SUMS` checks them.
{others}"""

_SKY_FILES = {
    COVERAGE_NAME: "what the cutouts cover, a MOC (IVOA, ICRS), for Aladin, TOPCAT and mocpy.",
    STATUS_VOTABLE_NAME: "`status.parquet` as a VOTable, with the footprint of each cutout (`s_region`).",
}


_COLUMNS = """\
## Columns of the data files

{table}
The first axis of all of them is the row, the second, in `images`, the band. `carried_null` marks the nulls of
the carried catalog columns. `provenance` names the input datasets of each patch.
"""


_CITATION = """\
## Citation

Cite {source} as its documentation asks, and name dax_bulkcutout. The files follow version {version} of the
layout in DMTN-326 (https://dmtn-326.lsst.io). Read the known issues of the release too; on Rubin coadds some
objects at patch edges appear in its catalog more than once.
"""
