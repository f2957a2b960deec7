# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What the data card says of the pixels: units, background, mask, PSF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..formats.hdf5_reader import HDF5Reader
from ..manifest import Manifest, ProductFile
from ..planes import BACKGROUND_NONE, BACKGROUND_STORED, EXTRA_PLANES
from ..precision import EXACT, steps_per_sigma
from ..tables import in_band_order
from .markdown import markdown_table

__all__ = ("pixel_sections",)


def pixel_sections(directory: Path, manifest: Manifest, files: Sequence[ProductFile]) -> list[str]:
    """Describe the pixels of a product.

    Parameters
    ----------
    directory
        Directory of the product.
    manifest
        Its manifest.
    files
        Its data files, at least one.

    Returns
    -------
    sections
        Markdown: units and projection, background, precision, variance and
        mask, noise and mask fractions, PSF; an empty text for what it does not
        have.
    """
    absent = _psf_notes(directory, files) if "psf" in manifest.request.get("planes", ()) else []
    with HDF5Reader(directory / files[0].path) as reader:
        return [
            _pixels(reader, _units(directory, files)),
            _background(directory, files),
            _precision(reader),
            _variance_and_mask(reader),
            _extra_planes(directory, files, manifest),
            _psf(reader, absent),
        ]


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
        rounded=", rounded as said below" if _precision(reader) else "",
    )


def _background(directory: Path, files: Sequence[ProductFile]) -> str:
    states: dict[str, list[str]] = {}
    requested = BACKGROUND_STORED
    silent: set[str] = set()
    for file in files:
        with HDF5Reader(directory / file.path) as reader:
            states.setdefault(reader.meta("background"), []).append(file.path)
            images = reader.read("provenance/dataset_uuid") != ""
            unknown = (images & (reader.read("provenance/background") == "")).any(axis=0)
            silent |= {band for band, is_so in zip(reader.bands, unknown, strict=True) if is_so}
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
    if silent and any(states):
        bands = ", ".join(in_band_order(silent))
        lines.append(f"- Some or all images in {bands} do not say which background model was subtracted.\n")
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


def _precision(reader: HDF5Reader) -> str:
    """Whether pixels are rounded; those of older versions never are."""
    precision = reader.meta("precision") if "meta/precision" in reader else EXACT
    if precision == EXACT:
        return ""
    n = steps_per_sigma(precision)
    noise = 100 * (math.sqrt(1 + 1 / (12 * n * n)) - 1)
    return _PRECISION.format(precision=precision, n=n, noise=f"{noise:.2g}", part=f"{100 / (4 * n):.2g}")


def _variance_and_mask(reader: HDF5Reader) -> str:
    if not reader.mask_planes:
        return _VARIANCE
    rows = [(f"`{plane.name}`", str(plane.bit), plane.description) for plane in reader.mask_planes]
    return _VARIANCE + _MASK.format(table=markdown_table(("plane", "bit", "meaning"), rows))


def _psf(reader: HDF5Reader, absent: Sequence[str]) -> str:
    if "images/psf" not in reader:
        return _NO_PSF.format(lines="".join(f"- {line}\n" for line in absent)) if absent else ""
    ky, kx = reader.read("meta/psf_shape").tolist()
    lines = "".join(f"\n- {line}" for line in absent) + "\n" * bool(absent)
    return _PSF.format(ky=ky, kx=kx, center=f"[{ky // 2}, {kx // 2}]") + lines


_PIXELS = """\
## Pixels, units and projection

- {unit}
- Pixels are {scale:.3g} arcsec wide and were never resampled: each value is that of the input image{rounded}.
- Arrays are indexed `[row, band, y, x]`; bands are in the order of `meta/band_order`.
- Pixel positions are zero-based, whole numbers at the centres of pixels. The target lies at `x_cutout`,
  `y_cutout`, within a pixel of the middle: for size `n` the first pixel is `ceil(x - n / 2)`.
- Projection: FITS `RA---TAN`, `DEC--TAN`, ICRS, degrees; `wcs/crval`, `wcs/crpix`, `wcs/cd` for each row. As
  in FITS, `crpix` counts from 1; `x`, `y` of the catalog are zero-based pixels of the tract.{projection}
- A cutout that leaves the image of its patch is completed from neighbouring patches of the tract:
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


_PRECISION = """\
## Precision

The request asked for `{precision}`: image, variance and noise are rounded, which saves room.

- Image and noise are rounded to the nearest multiple of `images/flux_step`, a power of two of at most
  sigma / {n} for each cutout and band; 0 says that they are exact. Sigma is the root of the median variance.
  This adds at most {noise} % to the noise, and no bias.
- Each variance is off by at most {part} % of itself.
"""


_EXTRA_PLANES = {
    "noise": "- `images/noise` holds {n} noise realizations: pictures of noise alone, in the image's unit.",
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
