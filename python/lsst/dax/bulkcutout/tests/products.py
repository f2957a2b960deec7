# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Small products, made without Butler and pipeline, and the images behind
them.

Two patches of one tract overlap; every pixel is a number of its own; some
targets stand at edges.  The cutting here is plain numpy on whole arrays.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import astropy.io.fits
import astropy.wcs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .. import manifest as manifests
from ..formats.hdf5 import HDF5Writer
from ..formats.layout import PatchProvenance, ProductLayout
from ..tables import MaskPlane, carried_fields, status_schema, target_schema, with_unit

__all__ = ("MASK_FRACTIONS", "N_NOISE", "PLANES", "SmallImage", "SmallProduct", "blank_columns", "seal")

PLANES = (
    MaskPlane("NO_DATA", 0, "No data was available for this pixel."),
    MaskPlane("COSMIC_RAY", 2, "A cosmic ray affected this pixel on at least one input image."),
    MaskPlane("SATURATED", 3, "At least one input was saturated here."),
    MaskPlane("DETECTED", 7, "Pixel was part of a detected source."),
)
"""Mask planes of the images and of the product."""

N_NOISE = 6
"""Noise realizations of the images of products with that plane; those of the
first band have one less."""

MASK_FRACTIONS = ("clipped", "odd", "rejected", "spotty")
"""Mask fractions of the images of products with that plane."""

_TRACT = 7
_SCALE = 0.2 / 3600
_CRVAL = (150.1, 2.2)
_CRPIX = (300.0, 250.0)
_TEXT_IDS = ("α-1", "b", "a longer name", "d", "e", "f", "g", "h", "i", "j", "k", "l")

CARRIED = (
    with_unit(pa.field("flux_r", pa.float32()), unit="nJy", description="Flux in the catalog."),
    with_unit(pa.field("n_visits", pa.int16()), unit="", description="Number of visits."),
    with_unit(pa.field("is_star", pa.bool_()), unit="", description="Whether it is a star."),
    with_unit(pa.field("note", pa.string()), unit="", description="What somebody wrote."),
)
"""Columns that are carried from the catalog."""


@dataclasses.dataclass
class SmallImage:
    """One patch in one band."""

    path: Path
    """FITS file, in the layout of lsst.images."""

    uuid: str
    """Dataset identifier."""

    x0: int
    """First column, tract pixels."""

    y0: int
    """First row, tract pixels."""

    image: np.ndarray
    """nJy."""

    variance: np.ndarray
    """nJy squared."""

    mask: np.ndarray
    """Bits as in `PLANES`."""

    extra: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """Planes of noise and mask fractions by the name of their HDU."""

    def cut(self, x: int, y: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cut a box out, padded where it leaves the image.

        Parameters
        ----------
        x, y
            First pixel, tract pixels.
        size
            Side in pixels.

        Returns
        -------
        image, variance, mask
            Each of shape ``(size, size)``.
        """
        image = np.full((size, size), np.nan, dtype="f4")
        variance, mask = image.copy(), np.ones((size, size), dtype="i4")
        for row in range(max(y, self.y0), min(y + size, self.y0 + self.image.shape[0])):
            for column in range(max(x, self.x0), min(x + size, self.x0 + self.image.shape[1])):
                there, here = (row - self.y0, column - self.x0), (row - y, column - x)
                image[here], variance[here] = self.image[there], self.variance[there]
                mask[here] = self.mask[there]
        return image, variance, mask

    def cut_extra(self, name: str, x: int, y: int, size: int) -> np.ndarray:
        """Cut a box out of a plane of noise or mask fractions.

        Parameters
        ----------
        name
            Name of its HDU.
        x, y
            First pixel, tract pixels.
        size
            Side in pixels.

        Returns
        -------
        pixels
            Shape ``(size, size)``; NaN outside, and if there is no such plane.
        """
        if name not in self.extra:
            return np.full((size, size), np.nan, dtype="f4")
        wide = np.pad(self.extra[name], size, constant_values=np.nan)
        row, column = y - self.y0 + size, x - self.x0 + size
        return wide[row : row + size, column : column + size]


@dataclasses.dataclass
class SmallProduct:
    """Makes a product of about a dozen rows."""

    root: Path
    """Directory for the images, and for ``out``, the product."""

    bands: tuple[str, ...] = ("g", "r", "i")
    """Band axis; the last of several has no image in patch 4."""

    sizes: tuple[int, ...] = (16,)
    """Sizes that the rows of the catalog have in turn."""

    planes: tuple[str, ...] = ("image", "variance", "mask", "psf")
    """Planes that were requested."""

    precision: str = "exact"
    """Precision that was requested."""

    text_ids: bool = False
    """Whether identifiers are text."""

    empty: bool = False
    """Whether all rows are refused, so that there is no data file."""

    images: dict[tuple[int, str], SmallImage] = dataclasses.field(default_factory=dict)
    """The images by patch and band, once they are made."""

    @property
    def out(self) -> Path:
        """Directory of the product."""
        return self.root / "out"

    @property
    def wcs(self) -> astropy.wcs.WCS:
        """Projection of the tract, zero-based pixels with origin 0."""
        wcs = astropy.wcs.WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval, wcs.wcs.crpix = _CRVAL, (_CRPIX[0] + 1, _CRPIX[1] + 1)
        wcs.wcs.cd = [[-_SCALE, 0], [0, _SCALE]]
        wcs.wcs.radesys = "ICRS"
        return wcs

    def make(self) -> SmallProduct:
        """Write images and product.

        Returns
        -------
        product
            This object.
        """
        for patch, (y0, x0) in {3: (100, 200), 4: (100, 260)}.items():
            for number, band in enumerate(self.bands):
                # The last band has no image in patch 4.
                if patch == 3 or len(self.bands) == 1 or number < len(self.bands) - 1:
                    self.images[patch, band] = self._make_image(patch, band, y0, x0)
        rows = self._rows()
        self.out.mkdir(parents=True)
        files = []
        for size in self.sizes:
            of_size = [row for row in rows if row["size_pixels"] == size and row["status"] == "delivered"]
            if not of_size:
                continue
            of_size.sort(key=lambda row: (row["patch"], row["row"]))
            path = f"size={size}/cutouts_size{size}_tract{_TRACT}_0000.hdf5"
            self._write_file(path, size, of_size)
            files.append(manifests.describe_file(self.out, path, rows=len(of_size), size=size, tract=_TRACT))
        schema = status_schema(self._id_type, CARRIED)
        table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema)
        pq.write_table(table, self.out / "status.parquet", compression="zstd")
        counts: dict[str, int] = {}
        for row in rows:
            counts[row["status"]] = counts.get(row["status"], 0) + 1
        draft = manifests.Manifest(
            request_id="small",
            request={"dataset_type": "deep_coadd", "planes": list(self.planes), "precision": self.precision},
            bands=self.bands,
            rows=len(rows),
            counts=counts,
            complete=True,
            files=tuple(files),
            execution={"inputs": {image.uuid: str(image.path) for image in self.images.values()}},
        )
        seal(self.out, draft)
        return self

    @property
    def _id_type(self) -> pa.DataType:
        return pa.string() if self.text_ids else pa.int64()

    def _make_image(self, patch: int, band: str, y0: int, x0: int) -> SmallImage:
        ny, nx = 70, 90
        y, x = np.mgrid[y0 : y0 + ny, x0 : x0 + nx]
        # The patch is in the value: overlapping patches differ.
        image = (1000 * patch + 100 * self.bands.index(band) + x * 0.25 + y * 0.0625).astype("f4")
        variance = (image * 0.5 + 1).astype("f4")
        mask = (((x % 7 == 0) << 7) | ((y % 11 == 0) << 3) | ((x + y) % 13 == 0) << 2).astype("i4")
        # A missing cell, as cell coadds have them.
        image[40:50, 60:70] = variance[40:50, 60:70] = np.nan
        mask[40:50, 60:70] = 1
        extra: dict[str, np.ndarray] = {}
        if "noise" in self.planes:
            n = N_NOISE - (band == self.bands[0])
            extra |= {f"NOISE_REALIZATIONS/{k}": (image - (k + 1) * variance).astype("f4") for k in range(n)}
        if "mask_fraction" in self.planes:
            for k, name in enumerate(MASK_FRACTIONS):
                extra[f"MASK_FRACTIONS/{name.upper()}"] = (variance / (5000.0 * (k + 1))).astype("f4")
        path = self.root / f"image_{patch}_{band}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = SmallImage(
            path, f"{patch:08x}-0000-4000-8000-{ord(band[0]):012x}", x0, y0, image, variance, mask, extra
        )
        small_header = self.wcs.deepcopy()
        small_header.wcs.crpix = (_CRPIX[0] + 1 - x0, _CRPIX[1] + 1 - y0)
        header = small_header.to_header()
        header.update({"CTYPE1A": "LINEAR", "CTYPE2A": "LINEAR", "CRPIX1A": 1.0, "CRPIX2A": 1.0})
        header.update({"CRVAL1A": float(x0), "CRVAL2A": float(y0), "CUNIT1A": "PIXEL", "CUNIT2A": "PIXEL"})
        hdus = [astropy.io.fits.PrimaryHDU()]
        contents = [("IMAGE", image, "nJy"), ("MASK", mask, ""), ("VARIANCE", variance, "nJy2")]
        for name, data, unit in [*contents, *((name, data, None) for name, data in extra.items())]:
            own = header.copy()
            if unit:
                own["BUNIT"] = unit
            elif name == "MASK":
                for number, plane in enumerate(PLANES):
                    own[f"MSKN{number:04d}"] = plane.name
                    own[f"MSKM{number:04d}"] = 1 << plane.bit
                    own[f"MSKD{number:04d}"] = plane.description
            hdus.append(
                astropy.io.fits.CompImageHDU(
                    data, own, name=name, compression_type="GZIP_2", tile_shape=(10, 10), quantize_level=0
                )
            )
        astropy.io.fits.HDUList(hdus).writeto(path)
        return small

    def _rows(self) -> list[dict[str, Any]]:
        # (x, y) in the tract; None for a row that is refused.
        places: list[tuple[float, float] | None] = [
            (270.3, 130.7),
            (205.0, 104.5),
            None,
            (286.25, 166.0),
            (340.0, 140.49),
            (224.5, 120.5),
            (268.8, 148.2),
            None,
            (310.125, 101.0),
        ]
        rows = []
        for number, place in enumerate(places):
            x, y = place or (0.0, 0.0)
            ra, dec = self.wcs.all_pix2world(x, y, 0)
            row: dict[str, Any] = {
                "row": number,
                "target_id": _TEXT_IDS[number] if self.text_ids else 9_000_000_000 + 7 * number,
                "ra": float(ra),
                "dec": float(dec),
                "size_pixels": self.sizes[number % len(self.sizes)],
                "fallback": False,
                "status": "outside_footprint",
                "reason": "The position lies outside.",
                "flux_r": None if number == 1 else 1.5 * number,
                "n_visits": None if number == 3 else number,
                "is_star": None if number == 4 else number % 2 == 0,
                "note": None if number == 5 else f"nöte {number}" * (number % 3),
            }
            if place and not self.empty:
                row |= {"status": "delivered", "reason": None, "tract": _TRACT, "patch": 3 if x < 275 else 4}
                row |= {"x": x, "y": y, "fallback": x >= 275}
            rows.append(row)
        counters: dict[int, int] = {}
        for row in sorted(rows, key=lambda row: (row.get("patch", 0), row["row"])):
            if row["status"] == "delivered":
                size = row["size_pixels"]
                row["file"] = f"size={size}/cutouts_size{size}_tract{_TRACT}_0000.hdf5"
                row["index"] = counters.get(size, 0)
                row["bands"] = ",".join(band for band in self.bands if (row["patch"], band) in self.images)
                row["valid_fraction"] = 1.0
                counters[size] = row["index"] + 1
        return rows

    def _write_file(self, path: str, size: int, rows: Sequence[dict[str, Any]]) -> None:
        layout = self.layout(size)
        with HDF5Writer(self.out / path, layout, len(rows)) as writer:
            columns = self.columns(size, rows)
            writer.write(0, {name: values for name, values in columns.items() if name in layout.columns})

    def _extra_names(self, patch: int, band: str) -> tuple[str, ...]:
        image = self.images.get((patch, band))
        kinds = {"NOISE_REALIZATIONS": "noise", "MASK_FRACTIONS": "mask_fraction"}
        hdus = [hdu.split("/") for hdu in image.extra] if image else []
        return tuple(f"{kinds[kind]}/{name.lower()}" for kind, name in hdus)

    def layout(self, size: int) -> ProductLayout:
        """Describe a file.

        Parameters
        ----------
        size
            Side of the cutouts in pixels.

        Returns
        -------
        layout
            What the writer takes.
        """
        return ProductLayout(
            size=size,
            bands=self.bands,
            planes=self.planes,
            psf_shape=(5, 7),
            n_noise=N_NOISE if "noise" in self.planes else 0,
            mask_fractions=MASK_FRACTIONS if "mask_fraction" in self.planes else (),
            mask_planes=PLANES,
            id_type=self._id_type,
            carried=carried_fields(target_schema(self._id_type, CARRIED)),
            dataset_type="deep_coadd",
            precision=self.precision,
            skymap="small_skymap",
            request_id="small",
            survey="LSST",
            release="DP9",
            provenance=tuple(
                PatchProvenance(
                    tract=_TRACT,
                    patch=patch,
                    dataset_uuids=tuple(
                        self.images[patch, band].uuid if (patch, band) in self.images else ""
                        for band in self.bands
                    ),
                    extra_planes=tuple(self._extra_names(patch, band) for band in self.bands),
                    backgrounds=tuple(
                        "object" if (patch, band) in self.images else "" for band in self.bands
                    ),
                )
                for patch in (3, 4)
            ),
        )

    def columns(self, size: int, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make all that the writer takes.

        Parameters
        ----------
        size
            Side of the cutouts in pixels.
        rows
            What is known of each target.

        Returns
        -------
        columns
            Arrays by path.
        """
        n = len(rows)
        columns = blank_columns(self.layout(size), n)
        schema = target_schema(self._id_type, CARRIED)
        for field in carried_fields(schema):
            columns[f"carried/{field.name}"] = pa.array([row[field.name] for row in rows], field.type)
        columns["catalog/object_id"] = pa.array([row["target_id"] for row in rows], self._id_type)
        for number, row in enumerate(rows):
            first_x, first_y = (math.ceil(round(row[axis], 6) - size / 2) for axis in "xy")
            for name in ("row", "ra", "dec", "tract", "patch", "fallback", "x", "y"):
                columns[f"catalog/{name}"][number] = row[name]
            columns["catalog/x_cutout"][number] = row["x"] - first_x
            columns["catalog/y_cutout"][number] = row["y"] - first_y
            columns["wcs/crval"][number] = _CRVAL
            columns["wcs/crpix"][number] = (_CRPIX[0] - first_x + 1, _CRPIX[1] - first_y + 1)
            columns["wcs/cd"][number] = [[-_SCALE, 0], [0, _SCALE]]
            columns["wcs/exact"][number] = True
            for band_number, band in enumerate(self.bands):
                here = (number, band_number)
                image = self.images.get((row["patch"], band))
                columns["images/band_present"][here] = image is not None
                columns["images/band_status"][here] = 0 if image else 1
                columns["images/pixel_scale"][here] = 0.2
                columns["images/n_patches"][here] = image is not None
                pixels = image.cut(first_x, first_y, size) if image else None
                planes = zip(("flux", "variance", "mask"), pixels or (np.nan, np.nan, 1), strict=True)
                for plane, values in planes:
                    if f"images/{plane}" in columns:
                        columns[f"images/{plane}"][here] = values
                for kind, hdus in (
                    ("noise", [f"NOISE_REALIZATIONS/{k}" for k in range(N_NOISE)]),
                    ("mask_fraction", [f"MASK_FRACTIONS/{name.upper()}" for name in MASK_FRACTIONS]),
                ):
                    if f"images/{kind}" in columns:
                        columns[f"images/{kind}"][here] = (
                            [image.cut_extra(hdu, first_x, first_y, size) for hdu in hdus]
                            if image
                            else np.nan
                        )
                if pixels:
                    columns["images/valid_fraction"][here] = np.isfinite(pixels[0]).mean()
                if "images/psf" in columns:
                    columns["images/psf"][here] = np.eye(5, 7) if image else np.nan
                columns["images/psf_valid"][here] = image is not None
        if self.precision != "exact":
            self._round(columns)
        return columns

    def _round(self, columns: dict[str, Any]) -> None:
        """Round as the request says; needs image and variance."""
        n = int(self.precision.removeprefix("sigma/"))
        variance = columns["images/variance"].astype(float)
        median = np.full(variance.shape[:2], np.nan)
        some = np.isfinite(variance).any(axis=(2, 3))
        median[some] = np.nanmedian(variance[some], axis=(1, 2))
        steps = np.nan_to_num(2.0 ** np.floor(np.log2(np.sqrt(median) / n)))
        columns["images/flux_step"] = steps.astype("f4")
        columns["images/variance_step"][:] = 0.5 / n
        flux = columns["images/flux"]
        flux[some] = np.round(flux[some] / steps[some][:, None, None]) * steps[some][:, None, None]
        digits = 2.0 ** (np.floor(np.log2(variance)) - np.log2(2 * n))
        columns["images/variance"] = (np.round(variance / digits) * digits).astype("f4")


def blank_columns(layout: ProductLayout, n_rows: int) -> dict[str, Any]:
    """Make zeros for all that a writer takes.

    Parameters
    ----------
    layout
        What the file holds.
    n_rows
        Number of rows.

    Returns
    -------
    columns
        Arrays by path, without those that the writer makes itself.
    """
    derived = ("images/band", "catalog/healpix")
    return {
        path: np.zeros((n_rows, *column.shape), dtype=column.dtype or object)
        for path, column in layout.columns.items()
        if path not in derived and not path.startswith("carried_null/")
    }


def seal(out: Path, manifest: manifests.Manifest) -> None:
    """Write checksums and manifest anew for what lies in a product.

    Parameters
    ----------
    out
        Directory of the product.
    manifest
        Its manifest, whose checksums need not be right.
    """
    known = {file.path: file for file in manifest.files}
    names = sorted(
        path.relative_to(out).as_posix()
        for path in out.rglob("*")
        if path.is_file() and path.name not in (manifests.MANIFEST_NAME, manifests.CHECKSUMS_NAME)
    )
    files = []
    for name in names:
        old = known.get(name)
        described = manifests.describe_file(out, name)
        if old is not None:
            described = described.model_copy(update={"rows": old.rows, "size": old.size, "tract": old.tract})
        files.append(described)
    manifests.write_checksums(out, files)
    manifests.write_manifest(out, manifest.model_copy(update={"files": tuple(files)}))
