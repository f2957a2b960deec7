# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A product certifies itself: stars of known flux are measured on its cutouts
with its own PSF, variance, mask and projection.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..campaign import write_atomically
from ..errors import UserError
from ..formats.cutout import Cutout
from ..formats.cutouts import Cutouts, open_cutouts
from ..manifest import (
    CERTIFICATE_NAME,
    CERTIFICATE_PICTURE_NAME,
    CHECKSUMS_NAME,
    file_sha256,
    read_manifest,
)
from ..masks import ALIASES
from .photometry import fit_star
from .star_selection import StarCatalog, read_star_catalog
from .star_statistics import BRIGHT, FAINTEST, LEAST_STARS, TOO_BRIGHT, BandResult, describe, judge_band

__all__ = ("Certificate", "certify", "write_certificate")

SCHEMA_VERSION = 1

_NEEDED = ("image", "variance", "mask", "psf")
_SPOILT = ("NO_DATA", "SATURATED", "BAD", "INTERPOLATED", "INEXACT_PSF")
"""Planes whose pixels are left out of the fits."""

_LEAST_LIGHT = 0.9
"""Part of a star's light that must be on the pixels that are left."""


_MOST_TRIED = 5
"""Rows that are tried for each star that is wanted."""
_SEED = 80326


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The verdict on a product."""

    product: str
    """Directory of the product."""

    request_id: str
    """Name of its request."""

    checksums: str
    """SHA-256 of its file of checksums: what the certificate is about."""

    settings: dict[str, Any]
    """What was asked, and how the stars were chosen."""

    bands: tuple[BandResult, ...]
    """One for each band with known fluxes."""

    without: tuple[str, ...]
    """Bands of the product for which no fluxes are known."""

    @property
    def passed(self) -> bool:
        """Whether all bands that have fluxes are as they should be."""
        return bool(self.bands) and all(band.passed for band in self.bands)

    def __str__(self) -> str:
        lines = [f"Photometry of stars in {self.product}"]
        for band in self.bands:
            lines.append(f"  {band.band}  {'ok' if band.passed else 'FAILED'}: {band.stars} stars")
            if band.stars < LEAST_STARS:
                lines.append(
                    f"    too few: {LEAST_STARS} isolated, unsaturated stars with PSF and variance are needed"
                )
            lines += [f"    {name:<15} {value}" for name, value in describe(band)]
        for name in self.without:
            lines.append(f"  {name}  not checked: the catalog has no fluxes in this band")
        lines.append("The photometry is certified." if self.passed else "The photometry is NOT certified.")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The certificate as it is written.

        Returns
        -------
        document
            For `json`; numbers that could not be measured are `None`.
        """

        def number(value: float) -> float | None:
            return float(f"{value:.6g}") if math.isfinite(value) else None

        return {
            "schema_version": SCHEMA_VERSION,
            "request_id": self.request_id,
            "sha256_of_SHA256SUMS": self.checksums,
            "passed": self.passed,
            "settings": self.settings,
            "bands": {
                band.band: {
                    "passed": band.passed,
                    "stars": band.stars,
                    **{
                        name: {
                            "value": number(quantity.value),
                            "error": number(quantity.error),
                            "expected": quantity.expected,
                            "limit": number(quantity.limit),
                            "passed": quantity.passed,
                        }
                        for name, quantity in band.quantities.items()
                    },
                }
                for band in self.bands
            },
            "bands_without_fluxes": list(self.without),
        }


def certify(
    product: str | Path,
    *,
    flux_column: str = "{band}_psfFlux",
    flux_unit: str | None = None,
    conditions: Sequence[str] | None = None,
    same_images: bool = False,
    most_stars: int = 1000,
    isolation_arcsec: float = 3.0,
) -> Certificate:
    """Measure stars of known flux on the cutouts of a product.

    Parameters
    ----------
    product
        Directory of the product.
    flux_column
        Carried columns with the fluxes, ``{band}`` in place of the band.
    flux_unit
        Unit of the fluxes; `None` for what the columns say.
    conditions
        What must hold of a star, as `~.star_selection.parse_condition` takes
        it; `None` for the usual ones where their columns are carried.
    same_images
        Whether the fluxes were measured on these same images, so that their
        noise is that of the cutouts and pulls may be narrower than 1.
    most_stars
        Number of stars in each band that is enough.
    isolation_arcsec
        Distance to the next row of the catalog that makes a star isolated.

    Returns
    -------
    certificate
        The verdict; nothing is written.

    Raises
    ------
    UserError
        Raised if the product lacks a plane or the column of fluxes.
    """
    directory = Path(product)
    manifest = read_manifest(directory)
    with open_cutouts(directory) as cutouts:
        _check_planes(cutouts, manifest.request.get("planes"))
        stars = read_star_catalog(
            cutouts,
            flux_column=flux_column,
            flux_unit=flux_unit,
            conditions=conditions,
            isolation_arcsec=isolation_arcsec,
        )
        measured = _measure(cutouts, stars, most_stars)
        scale = float(np.nanmedian(cutouts.reader(0).read("images/pixel_scale")))
    results = tuple(judge_band(band, measured[band], scale, same_images=same_images) for band in stars.bands)
    return Certificate(
        product=str(directory),
        request_id=manifest.request_id,
        checksums=file_sha256(directory / CHECKSUMS_NAME),
        settings={
            "flux_column": flux_column,
            "flux_unit": flux_unit or "as in the product",
            "conditions": list(stars.conditions),
            "isolation_arcsec": isolation_arcsec,
            "fluxes_from_same_images": same_images,
            "signal_to_noise_of_ratio_and_offset": [BRIGHT, None],
            "signal_to_noise_of_pulls": [FAINTEST, TOO_BRIGHT],
            "least_stars": LEAST_STARS,
        },
        bands=results,
        without=stars.without,
    )


def write_certificate(certificate: Certificate) -> tuple[Path, Path]:
    """Write the certificate beside the manifest.

    Parameters
    ----------
    certificate
        What `certify` has found.

    Returns
    -------
    document, picture
        The JSON file and the PNG file.

    Notes
    -----
    Neither is listed in the manifest or in ``SHA256SUMS``, which stay as they
    are: the certificate names their checksum instead.
    """
    from .picture import draw_certificate

    directory = Path(certificate.product)
    document, picture = directory / CERTIFICATE_NAME, directory / CERTIFICATE_PICTURE_NAME
    draw_certificate(certificate, picture)
    write_atomically(document, json.dumps(certificate.to_json(), indent=1) + "\n")
    return document, picture


def _check_planes(cutouts: Cutouts, requested: object) -> None:
    if not len(cutouts):
        raise UserError("The product has no cutouts, so no stars to measure: see its status.parquet.")
    reader = cutouts.reader(0)
    datasets = reader.names("images")
    missing = [plane for plane in _NEEDED if {"image": "flux"}.get(plane, plane) not in datasets]
    if missing == ["psf"] and isinstance(requested, list) and "psf" in requested:
        path = "provenance/psf_note"
        notes = sorted({str(note) for note in reader.read(path).ravel() if note} if path in reader else ())
        why = f": {'; '.join(notes)}" if notes else ", because the images have none that can be read"
        raise UserError(f"The product has no psf, which photometry needs{why}.")
    if missing:
        raise UserError(
            f"The product has no {' and no '.join(missing)}, which photometry needs. Name them in a "
            f"request: planes: [{', '.join(_NEEDED)}]."
        )
    for file in range(len(cutouts.files)):
        unit = cutouts.reader(file).attributes("images/flux").get("unit", "nJy")
        if unit != "nJy":
            raise UserError(
                f"The unit of the images in {cutouts.files[file].name} is {unit!r}, not nJy: their fluxes "
                "cannot be compared with those of a catalog."
            )


def _measure(cutouts: Cutouts, stars: StarCatalog, most: int) -> dict[str, dict[str, np.ndarray]]:
    """Fit the stars of all bands, in an order that chance has given."""
    order = np.random.default_rng(_SEED).permutation(len(stars.number))[: _MOST_TRIED * most]
    found: dict[str, list[tuple[float, ...]]] = {band: [] for band in stars.bands}
    for start in range(0, len(order), most):
        # Those of a file after each other, so that it is opened once.
        for k in np.sort(order[start : start + most]).tolist():
            cutout = cutouts[int(stars.number[k])]
            for column, band in enumerate(stars.bands):
                truth = float(stars.flux[k, column])
                if math.isfinite(truth) and len(found[band]) < most:
                    star = _measure_one(cutout, band, truth)
                    if star is not None:
                        found[band].append((float(stars.number[k]), *star))
        if all(len(rows) >= most for rows in found.values()):
            break
    names = ("number", "truth", "flux", "sigma", "dx", "dy", "offset_sigma", "d_ra", "d_dec")
    return {
        band: dict(zip(names, np.array(rows, dtype=np.float64).reshape(-1, len(names)).T, strict=True))
        for band, rows in found.items()
    }


def _measure_one(cutout: Cutout, band: str, truth: float) -> tuple[float, ...] | None:
    mask = cutout.mask(band)
    bits = {ALIASES.get(plane.name, plane.name): plane.bit for plane in cutout.mask_planes}
    spoilt = np.zeros(mask.shape, dtype=bool)
    for name in _SPOILT:
        if name in bits:
            spoilt |= (mask >> bits[name]) & 1 != 0
    x, y = cutout.target_xy
    kernel = cutout.psf(band)
    fit = fit_star(cutout.image(band), cutout.variance(band), spoilt, kernel, y=y, x=x)
    if fit is None or fit.light < _LEAST_LIGHT:
        return None
    flux, sigma = (value * float(kernel.sum()) for value in (fit.flux, fit.flux_sigma))
    ra, dec = (float(value) for value in cutout.pixel_to_sky(x + fit.dx, y + fit.dy))
    d_ra = ((ra - cutout.ra + 180.0) % 360.0 - 180.0) * math.cos(math.radians(cutout.dec)) * 3600.0
    d_dec = (dec - cutout.dec) * 3600.0
    return (truth, flux, sigma, fit.dx, fit.dy, fit.offset_sigma, d_ra, d_dec)
