# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The data card: a README.md for each product, generated from its contents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from .campaign import write_atomically
from .formats.hdf5_reader import HDF5Reader
from .formats.layout import SCHEMA_VERSION
from .manifest import STATUS_NAME, Manifest, ProductFile
from .planes import BACKGROUND_NONE, BACKGROUND_STORED, EXTRA_PLANES, PLANES
from .tables import DELIVERED, STATUS, field_description, field_unit

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
    sections = [_head(manifest, files), _how_to_open(manifest, files), _rows(manifest), _files(files)]
    labels = ""
    if files:
        absent = _psf_notes(directory, files) if "psf" in manifest.request.get("planes", ()) else []
        with HDF5Reader(directory / files[0].path) as reader:
            sections += [
                _pixels(reader, _units(directory, files)),
                _background(directory, files),
                _variance_and_mask(reader),
                _extra_planes(directory, files, manifest),
                _psf(reader, absent),
                _columns(reader),
            ]
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
    return _ROWS.format(table=_table(("status", "rows", "meaning"), rows), fallback=fallback)


def _files(files: Sequence[ProductFile]) -> str:
    rows = [(f"`{file.path}`", str(file.rows), str(file.bytes)) for file in files[:_MOST_FILES_LISTED]]
    table = _table(("file", "rows", "bytes"), rows) + "\n" if rows else ""
    if len(files) > len(rows):
        table += f"and {len(files) - len(rows)} more, which `manifest.json` lists.\n\n"
    return _FILES.format(table=table)


def _units(directory: Path, files: Sequence[ProductFile]) -> list[str]:
    """Units of image pixels in the product."""
    units: set[str] = set()
    for file in files:
        with HDF5Reader(directory / file.path) as reader:
            units.update(reader.meta("flux_unit").split(",") if "meta/flux_unit" in reader else ["nJy"])
    return sorted(units)


def _psf_notes(directory: Path, files: Sequence[ProductFile]) -> list[str]:
    """Why images have no PSF, a sentence for each group of bands."""
    bands_of: dict[str, set[str]] = {}
    for file in files:
        with HDF5Reader(directory / file.path) as reader:
            if "provenance/psf_note" not in reader:
                continue
            for notes in reader.read("provenance/psf_note").tolist():
                for band, note in zip(reader.read("meta/band_order").tolist(), notes, strict=True):
                    if note:
                        bands_of.setdefault(note, set()).add(band)
    return [
        f"PSF: absent, because {note} (bands {', '.join(sorted(bands))})."
        for note, bands in sorted(bands_of.items())
    ]


def _pixels(reader: HDF5Reader, units: Sequence[str]) -> str:
    linear = "wcs/exact" in reader and not reader.read("wcs/exact").all()
    unit = _NANOJANSKY if units == ["nJy"] else _OTHER_UNITS.format(units=", ".join(f"`{u}`" for u in units))
    return _PIXELS.format(
        unit=unit,
        scale=float(reader.read("images/pixel_scale", (0, 0))) if reader.n_rows else 0.0,
        projection=_LINEAR_TERMS if linear else "",
    )


def _background(directory: Path, files: Sequence[ProductFile]) -> str:
    states: dict[str, list[str]] = {}
    requested = BACKGROUND_STORED
    for file in files:
        with HDF5Reader(directory / file.path) as reader:
            states.setdefault(reader.meta("background"), []).append(file.path)
            if "meta/background_requested" in reader:
                requested = reader.meta("background_requested")
    lines = []
    for state, paths in sorted(states.items()):
        where = "All files" if len(states) == 1 else ", ".join(f"`{path}`" for path in paths)
        if not state:
            said = "the input images do not say which background model was subtracted."
        elif "," in state:
            said = f"the input images differ: subtracted are {state.replace(',', ', ')}."
        elif state == BACKGROUND_NONE:
            said = "none of the background models of the input images is subtracted."
        else:
            said = f"the background model `{state}` has been subtracted."
        lines.append(f"- {where}: {said}\n")
    if requested != BACKGROUND_STORED:
        lines.append(_NOT_STORED.format(requested=requested))
    return _BACKGROUND.format(lines="".join(lines))


def _extra_planes(directory: Path, files: Sequence[ProductFile], manifest: Manifest) -> str:
    """Noise and mask fractions, and where the images have none."""
    kinds = [kind for kind in EXTRA_PLANES if kind in manifest.request.get("planes", ())]
    without: dict[str, set[str]] = {kind: set() for kind in kinds}
    numbers: dict[str, int] = {}
    names = ""
    for file in files if kinds else ():
        with HDF5Reader(directory / file.path) as reader:
            there = reader.read("provenance/extra_planes")
            images = reader.read("provenance/dataset_uuid") != ""
            for kind in kinds:
                has = np.char.find(np.char.add(",", there.astype(str)), f",{kind}/") >= 0
                lacks = (images & ~has).any(axis=0)
                without[kind] |= {band for band, lack in zip(reader.bands, lacks, strict=True) if lack}
                if f"images/{kind}" in reader:
                    numbers[kind] = reader.kind(f"images/{kind}")[1][2]
            if "meta/mask_fractions" in reader:
                names = ", ".join(f"`{name}`" for name in reader.read("meta/mask_fractions").tolist())
    lines = []
    for kind in kinds:
        if kind not in numbers:
            lines.append(f"- `{kind}` was asked for, but none of the input images has it.\n")
            continue
        bands = ", ".join(band for band in manifest.bands if band in without[kind])
        lacking = f" Some or all images in {bands} have none: it is NaN there." if bands else ""
        lines.append(_EXTRA_PLANES[kind].format(n=numbers[kind], names=names) + lacking + "\n")
    return "## Noise and mask fractions\n\n" + "".join(lines) if lines else ""


def _variance_and_mask(reader: HDF5Reader) -> str:
    if not reader.mask_planes:
        return _VARIANCE
    rows = [(f"`{plane.name}`", str(plane.bit), plane.description) for plane in reader.mask_planes]
    return _VARIANCE + _MASK.format(table=_table(("plane", "bit", "meaning"), rows))


def _psf(reader: HDF5Reader, absent: Sequence[str]) -> str:
    if "images/psf" not in reader:
        return _NO_PSF.format(lines="".join(f"- {line}\n" for line in absent)) if absent else ""
    ky, kx = reader.read("meta/psf_shape").tolist()
    lines = "".join(f"\n- {line}" for line in absent) + "\n" * bool(absent)
    return _PSF.format(ky=ky, kx=kx, center=f"[{ky // 2}, {kx // 2}]") + lines


def _columns(reader: HDF5Reader) -> str:
    rows = []
    for group in ("catalog", "images", "wcs", "carried"):
        for name in reader.names(group):
            path = f"{group}/{name}"
            kind, shape = reader.kind(path)
            of_row = f" {shape[1:]}" if shape[1:] else ""
            attributes = reader.attributes(path)
            rows.append((f"`{path}`", kind + of_row, attributes.get("unit", ""), attributes["description"]))
    return _COLUMNS.format(table=_table(("dataset", "type of a row", "unit", "meaning"), rows))


def _status_columns(directory: Path) -> str:
    schema = pq.read_schema(directory / STATUS_NAME)
    rows = [
        (f"`{field.name}`", str(field.type), field_unit(field), field_description(field)) for field in schema
    ]
    return f"## Columns of {STATUS_NAME}\n\n" + _table(("column", "type", "unit", "meaning"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(text) for text in row) + " |" for row in rows]
    return "".join(f"{line}\n" for line in lines)


def _cell(text: str) -> str:
    # Names and descriptions are the user's: they must not end the cell.
    return " ".join(text.split()).replace("|", "\\|")


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
"""

_PIXELS = """\
## Pixels, units and projection

- {unit}
- Pixels are {scale:.3g} arcsec wide and were never resampled: each value is that of the input image.
- Arrays are indexed `[row, band, y, x]`; bands are in the order of `meta/band_order`.
- Pixel positions are zero-based, whole numbers at the centres of pixels. The target lies at `x_cutout`,
  `y_cutout`, within a pixel of the middle: for size `n` the first pixel is `ceil(x - n / 2)`.
- Projection: FITS `RA---TAN`, `DEC--TAN`, ICRS, degrees; `wcs/crval`, `wcs/crpix`, `wcs/cd` for each row. As
  in FITS, `crpix` counts from 1; `x`, `y` of the catalog are zero-based pixels of the tract.{projection}
- A cutout that is larger than the image of its patch is completed from neighbouring patches of the tract:
  `images/stitched` and `images/n_patches` say where. The PSF is always that of the patch.
- A cutout at an edge is delivered: where no image reaches, image and variance are NaN and the mask is
  `NO_DATA`. `valid_fraction` is the part of the pixels that are finite and not `NO_DATA`.
- `band_present` is false where there is no image in a band; a hole in an image is another matter, see
  `band_status`.
"""

_NANOJANSKY = "Images are in nJy. AB magnitudes are `31.4 - 2.5 * log10(flux)`: the zero point is 31.4."

_OTHER_UNITS = (
    "Units of the images: {units}. Units other than nJy are those of the input, kept as they are because no "
    "zero point is known; `provenance/unit` names that of each patch and band. AB magnitudes are "
    "`31.4 - 2.5 * log10(flux)` where the unit is nJy, and nowhere else."
)

_LINEAR_TERMS = """
- The images have another projection: where `wcs/exact` is false these are its linear terms at the target. The
  exact one is in `provenance/wcs`, as header cards in pixels of the tract, and `cutout.wcs` gives it."""

_BACKGROUND = """\
## Background

{lines}
`provenance/background` says it for each patch and band. Rubin's model `object` oversubtracts extended light
on purpose.
"""

_NOT_STORED = """\
- The request asked for `{requested}`: these are not the pixels of the files, but those with the background
  models that are in the files taken out or put in.
"""

_EXTRA_PLANES = {
    "noise": "- `images/noise` holds {n} noise realizations: pictures of the noise alone, in nJy.",
    "mask_fraction": (
        "- `images/mask_fraction` holds, in the order of `meta/mask_fractions` ({names}), the weight of the "
        "inputs that had that mask plane."
    ),
}

_VARIANCE = """\
## Variance and mask

Variance is in the square of the image's unit and holds no covariance. The pixels of a coadd are correlated,
so the noise of a sum of pixels is larger than the variances tell.
"""

_MASK = """
The mask is a number of bits, listed here. On a coadd `SATURATED` (`SAT`) or `COSMIC_RAY` (`CR`) mean that
some input image had it at this place, not that the value is bad. Bits differ from release to release: go by
names.

{table}"""

_NO_PSF = """\
## PSF

{lines}"""

_PSF = """\
## PSF

The kernel ({ky} x {kx} pixels) of the cell that holds the target, its sum as stored, its centre at
`{center}`, not shifted to the target's place in its pixel. It is NaN and `psf_valid` is false where the cell
has none. PSF and noise jump at the borders between cells: `n_cells` says how many a cutout touches,
`inexact_psf_fraction` in what part of the pixels the inputs are not those of the PSF.
"""

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
