# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Compare pixels of a product with its input images.

A second opinion: this module, `pixel_inputs`, `pixel_extras` and `input_hdus`
read with h5py and astropy (background models: lsst.images), do their own
arithmetic, and import nothing else of this package.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import astropy.io.fits
import astropy.wcs
import h5py
import numpy as np

from .pixel_extras import STORED_FLUX, Wanted
from .pixel_inputs import InputImage, to_pixels, to_sky, wcs_of

__all__ = ("PixelComparison", "PixelFault", "compare_pixels")

_TOLERANCE_PIXELS = 1e-6
_GRID_TOLERANCE_PIXELS = 0.01
_MOST_OPEN = 16
_BAND_NO_DATASET, _BAND_READ_FAILED = 1, 3


@dataclasses.dataclass(frozen=True)
class PixelFault:
    """Something that is not as the input images have it."""

    dataset: str
    """Dataset of the product file, or the path of an input image."""

    row: int | None
    """Row of the user's catalog; `None` where it is about a whole image."""

    message: str
    """What is wrong."""


@dataclasses.dataclass(frozen=True)
class PixelComparison:
    """What came of a comparison."""

    faults: tuple[PixelFault, ...]
    """All that is wrong."""

    pixels: int
    """Number of pixels that were compared, all planes counted."""


def compare_pixels(
    product_file: str, indices: Sequence[int], inputs: Mapping[str, str], *, background: str = "stored"
) -> PixelComparison:
    """Compare some cutouts of a file with the images that they came from.

    Parameters
    ----------
    product_file
        Data file of a product.
    indices
        Zero-based rows of the file.
    inputs
        Path of the input image by dataset UUID.
    background
        Background that was asked for: ``stored``, ``none`` or the name of a
        model.

    Returns
    -------
    comparison
        Faults and number of pixels.
    """
    faults: list[PixelFault] = []
    pixels = 0
    with (
        h5py.File(product_file, "r") as file,
        _Inputs(inputs, _companions(file), _wanted(file, background)) as others,
    ):
        targets = [_Target(file, index) for index in sorted(indices)]
        for uuid, members in _by_input(targets).items():
            if uuid is None:
                for target, band in members:
                    faults += target.check_absent(band)
                continue
            if uuid not in inputs:
                faults.append(PixelFault(uuid, None, "The manifest does not say where this input image is."))
                continue
            try:
                with contextlib.closing(others.open(uuid)) as image:
                    for target, band in members:
                        found, compared = target.compare(band, image, others)
                        faults += found
                        pixels += compared
            except Exception as error:
                # Whatever goes wrong with an image is what we came to find.
                message = f"The input image cannot be compared: {type(error).__name__}: {error}"
                faults.append(PixelFault(inputs[uuid], None, message))
        for target in targets:
            faults += target.check_place()
    return PixelComparison(tuple(faults), pixels)


class _Inputs:
    """Images of neighbouring patches, some of which are kept open."""

    def __init__(
        self, paths: Mapping[str, str], companions: Mapping[str, Mapping[str, Any]], wanted: Wanted
    ) -> None:
        self._paths = paths
        self._wanted = wanted
        self._companions = companions
        self._open: dict[str, InputImage] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def __getitem__(self, uuid: str) -> InputImage:
        if uuid not in self._open:
            if uuid not in self._paths:
                raise ValueError(f"the manifest does not say where input image {uuid} of a neighbour is")
            self._open[uuid] = self.open(uuid)
            if len(self._open) > _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
        return self._open[uuid]

    def open(self, uuid: str) -> InputImage:
        """Open an image, with what belongs to it."""
        companions = {
            kind: {**companion, "path": self._paths[companion["uuid"]]}
            for kind, companion in self._companions.get(uuid, {}).items()
        }
        return InputImage(self._paths[uuid], companions, self._wanted)


class _Target:
    """One row of the product file."""

    def __init__(self, file: h5py.File, index: int) -> None:
        self._file = file
        self._index = index
        self.row = int(file["catalog/row"][index])
        self._sky = (float(file["catalog/ra"][index]), float(file["catalog/dec"][index]))
        self._x, self._y, self._x_cutout, self._y_cutout = (
            float(file[f"catalog/{name}"][index]) for name in ("x", "y", "x_cutout", "y_cutout")
        )
        self._size = int(file["meta/image_shape"][0])
        self._status = file["images/band_status"][index]
        self._bands = [name.decode() for name in file["meta/band_order"][()]]
        self._tangent = astropy.wcs.WCS(naxis=2)
        self._tangent.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        self._tangent.wcs.crval = file["wcs/crval"][index]
        self._tangent.wcs.crpix = file["wcs/crpix"][index]
        self._tangent.wcs.cd = file["wcs/cd"][index]
        self._tangent.wcs.radesys = "ICRS"
        self._tangent.wcs.set()
        self._wcs = self._tangent
        if "wcs/exact" in file and not file["wcs/exact"][index]:
            self._wcs = self._wcs_of_cards()

    def inputs(self) -> Iterator[tuple[str | None, int]]:
        """Dataset UUID and number of each band to compare; `None` where there
        is no image.
        """
        places = self._places()
        tract, patch = self._file["catalog/tract"][self._index], self._file["catalog/patch"][self._index]
        for band, status in enumerate(self._status):
            if status == _BAND_NO_DATASET:
                yield None, band
            elif status != _BAND_READ_FAILED:
                known = len(places) > 0
                uuid = self._file["provenance/dataset_uuid"][int(places[0]), band] if known else b""
                yield uuid.decode() or f"no UUID (tract {tract}, patch {patch})", band

    def check_place(self) -> Iterator[PixelFault]:
        """The product's projection sends the target to its place."""
        for dataset, wcs in {"wcs": self._tangent, "provenance/wcs": self._wcs}.items():
            x, y = to_pixels(wcs, *(np.array([value]) for value in self._sky))[0].tolist()
            if not math.hypot(x - self._x_cutout, y - self._y_cutout) <= _TOLERANCE_PIXELS:
                place = f"({self._x_cutout:.7f}, {self._y_cutout:.7f})"
                yield self._fault(dataset, f"sends the target to ({x:.7f}, {y:.7f}), not to {place}")
            if wcs is self._wcs:
                break

    def check_absent(self, band: int) -> Iterator[PixelFault]:
        """A band without an image is empty."""
        for name in ("flux", "variance", "noise", "mask_fraction"):
            if (pixels := self._pixels(name, band)) is not None and not np.isnan(pixels).all():
                yield self._fault(f"images/{name}", "has pixels, though there is no input image", band)
        if (mask := self._pixels("mask", band)) is not None:
            for name, plane in self._planes(mask).items():
                if not (plane == (name == "NO_DATA")).all():
                    yield self._fault("images/mask", f"is wrong in {name}: there is no input image", band)

    def neighbors(self, band: int) -> list[str]:
        """Dataset UUIDs of the images of other patches that complete it, that
        of the lowest patch first.
        """
        if "provenance/neighbors" not in self._file:
            return []
        table = {name: values[()] for name, values in self._file["provenance/neighbors"].items()}
        mine = np.array([name.decode() == self._bands[band] for name in table["band"]], dtype=bool)
        for name in ("tract", "patch"):
            mine &= table[name] == self._file[f"catalog/{name}"][self._index]
        found = zip(table["neighbor"][mine].tolist(), table["dataset_uuid"][mine], strict=True)
        return [uuid.decode() for _, uuid in sorted(found)]

    def compare(self, band: int, image: InputImage, others: _Inputs) -> tuple[list[PixelFault], int]:
        """All planes of a band, and its place, against the input."""
        faults = []
        x, y = image.place(*self._sky)
        if not math.hypot(x - self._x, y - self._y) <= _TOLERANCE_PIXELS:
            message = f"is ({self._x:.7f}, {self._y:.7f}), by the input image ({x:.7f}, {y:.7f})"
            faults.append(self._fault("catalog/x and y", message, band))
        first_x, first_y = (math.ceil(round(value, 6) - self._size / 2) for value in (x, y))
        ours = (self._x - self._x_cutout, self._y - self._y_cutout)
        if not math.hypot(ours[0] - first_x, ours[1] - first_y) <= _TOLERANCE_PIXELS:
            message = f"say that the first pixel is {ours}, it should be ({first_x}, {first_y})"
            faults.append(self._fault("catalog/x_cutout and y_cutout", message, band))
        faults += self._compare_projection(band, image, first_x, first_y)
        if (unit := self._unit(band)) != image.unit:
            message = f"is {unit!r}, by the input image {image.unit!r}"
            faults.append(self._fault("provenance/unit", message, band))
        if image.subtracted is not None and (found := self._text("background", band)) != image.subtracted:
            message = f"is {found!r}, by the input image and the request {image.subtracted!r}"
            faults.append(self._fault("provenance/background", message, band))
        floats, planes, has = image.cut(first_x, first_y, self._size)
        n_patches = n_home = int(has.any())
        for uuid in () if has.all() else self.neighbors(band):
            try:
                other = others[uuid]
                # The same pixel may have another number in another image.
                shift = np.subtract(other.place(*self._sky), (x, y))
                dx, dy = (round(float(value)) for value in shift)
                if not np.hypot(*(shift - (dx, dy))) <= _GRID_TOLERANCE_PIXELS or other.unit != image.unit:
                    continue
                other_floats, other_planes, other_has = other.cut(first_x + dx, first_y + dy, self._size)
            except Exception:
                # A damaged one gives nothing: if the product has pixels of
                # it, these are what will be found wrong.
                continue
            # Every pixel is the first image's that has it.
            taken = other_has & ~has
            has |= other_has
            n_patches += int(taken.any())
            for name, values in floats.items():
                values[taken] = other_floats[name][taken]
            for name in planes.keys() | other_planes.keys():
                plane = planes.setdefault(name, np.zeros(has.shape, dtype=bool))
                plane[taken] = other_planes[name][taken] if name in other_planes else False
        faults += self._compare_counts(band, n_patches=n_patches, stitched=n_patches > n_home)
        faults += self._compare_step(band, floats.get("variance"))
        compared = 0
        for name, expected in floats.items():
            if (pixels := self._pixels(name, band)) is None:
                continue
            compared += pixels.size
            wrong = ~_same_floats(pixels, expected, exact=image.is_exact)
            if name == "flux" and STORED_FLUX in floats:
                # The last digit of sums of numbers of this size.
                most = 3e-7 * (np.abs(floats[STORED_FLUX]) + np.abs(expected))
                wrong &= ~(np.abs(pixels - expected) <= most)
            wrong &= ~(np.abs(pixels - expected) <= self._most_rounding(name, band, expected))
            if wrong.any():
                faults.append(self._fault(f"images/{name}", _first_wrong(wrong, pixels, expected), band))
        if (mask := self._pixels("mask", band)) is not None:
            compared += mask.size
            ours_by_name = self._planes(mask)
            nothing = np.zeros(mask.shape, dtype=bool)
            for name in ours_by_name.keys() | planes.keys():
                mine, expected = ours_by_name.get(name, nothing), planes.get(name, nothing)
                if (wrong := mine != expected).any():
                    message = f"plane {name} {_first_wrong(wrong, mine, expected)}"
                    faults.append(self._fault("images/mask", message, band))
        return faults, compared

    def _compare_counts(self, band: int, **counts: int) -> Iterator[PixelFault]:
        for name, expected in counts.items():
            path = f"images/{name}"
            if path in self._file and (found := self._file[path][self._index, band]) != expected:
                yield self._fault(path, f"is {found}, by the input images {expected}", band)

    def _compare_step(self, band: int, variance: np.ndarray | None) -> Iterator[PixelFault]:
        """What was rounded was rounded no more than was asked for."""
        path = "images/flux_step"
        step = self._step("flux", band)
        if not step:
            return
        if math.frexp(step)[0] != 0.5:
            yield self._fault(path, f"is {step}, no power of two", band)
        # Without variances sigma is an estimate.
        if variance is None or "images/variance" not in self._file:
            return
        known = variance[(variance > 0) & np.isfinite(variance)].astype(float)
        most = math.sqrt(float(np.median(known))) / self._steps_per_sigma() if known.size else math.inf
        if not step <= most * (1 + 1e-6):
            yield self._fault(path, f"is {step:g}, by the input image at most {most:g}", band)

    def _steps_per_sigma(self) -> float:
        """The number N of the precision ``sigma/N``."""
        word = self._file["meta/precision"][()].decode() if "meta/precision" in self._file else "exact"
        return float(word.removeprefix("sigma/")) if word != "exact" else math.inf

    def _step(self, name: str, band: int) -> float:
        path = f"images/{name}_step"
        return float(self._file[path][self._index, band]) if path in self._file else 0.0

    def _most_rounding(self, name: str, band: int, expected: np.ndarray) -> np.ndarray | float:
        """Half a step, for what was rounded; 0 for what was not."""
        if name == "flux" or name.startswith("noise/"):
            return self._step("flux", band) / 2
        if name == "variance" and (step := self._step("variance", band)):
            # Not more than was asked for, whatever the file says.
            return min(step, 0.5 / self._steps_per_sigma()) / 2 * np.abs(expected)
        return 0.0

    def _compare_projection(
        self, band: int, image: InputImage, first_x: int, first_y: int
    ) -> Iterator[PixelFault]:
        # A wrong matrix may still send the target itself to its place.
        corners = np.array([(0, 0), (0, self._size - 1), (self._size - 1, 0)], dtype=float)
        there = to_pixels(image.wcs, *to_sky(self._wcs, corners))
        there += [image.x0 - first_x, image.y0 - first_y]
        off = float(np.abs(there - corners).max())
        if not off <= _TOLERANCE_PIXELS:
            yield self._fault("wcs", f"differs from the input image's by {off:.2g} px", band)

    def _wcs_of_cards(self) -> astropy.wcs.WCS:
        texts = self._file["provenance/wcs"][()][self._places()].ravel().tolist()
        cards = next((text.decode() for text in texts if text), "")
        header = astropy.io.fits.Header.fromstring(cards, sep="\n")
        header["CRPIX1"] -= round(self._x - self._x_cutout)
        header["CRPIX2"] -= round(self._y - self._y_cutout)
        return wcs_of(header)

    def _unit(self, band: int) -> str:
        return self._text("unit", band) if "provenance/unit" in self._file else "nJy"

    def _text(self, name: str, band: int) -> str:
        """What the provenance says of a band."""
        texts = self._file[f"provenance/{name}"][()][self._places(), band]
        return str(texts[0].decode()) if len(texts) else ""

    def _places(self) -> np.ndarray:
        """Where the provenance of this row is."""
        tract, patch = self._file["catalog/tract"][self._index], self._file["catalog/patch"][self._index]
        same = (self._file["provenance/tract"][()] == tract) & (self._file["provenance/patch"][()] == patch)
        return np.asarray(np.nonzero(same)[0])

    def _pixels(self, name: str, band: int) -> np.ndarray | None:
        kind, _, plane = name.partition("/")
        path = f"images/{kind}"
        if path not in self._file:
            return None
        if not plane:
            return np.asarray(self._file[path][self._index, band])
        number = int(plane) if kind == "noise" else _fractions(self._file).index(plane)
        return np.asarray(self._file[path][self._index, band, number])

    def _planes(self, mask: np.ndarray) -> dict[str, np.ndarray]:
        table = self._file["meta/mask_planes"]
        return {
            name.decode(): (mask >> bit) & 1 != 0
            for name, bit in zip(table["name"][()], table["bit"][()].tolist(), strict=True)
        }

    def _fault(self, dataset: str, message: str, band: int | None = None) -> PixelFault:
        where = dataset if band is None else f"{dataset} in {self._bands[band]}"
        return PixelFault(where, self.row, message)


def _by_input(targets: Sequence[_Target]) -> dict[str | None, list[tuple[_Target, int]]]:
    # So that each image is opened once.
    members: dict[str | None, list[tuple[_Target, int]]] = {}
    for target in targets:
        for uuid, band in target.inputs():
            members.setdefault(uuid, []).append((target, band))
    return members


def _wanted(file: h5py.File, background: str) -> Wanted:
    """What a file has beside image, variance and mask."""
    n_noise = file["images/noise"].shape[2] if "images/noise" in file else 0
    planes = [f"noise/{number}" for number in range(n_noise)]
    if "images/mask_fraction" in file:
        planes += [f"mask_fraction/{name}" for name in _fractions(file)]
    return Wanted(background, tuple(planes))


def _fractions(file: h5py.File) -> list[str]:
    return [name.decode() for name in file["meta/mask_fractions"][()]]


def _companions(file: h5py.File) -> dict[str, dict[str, Any]]:
    """Companions of each image, by its UUID."""
    found: dict[str, dict[str, Any]] = {}
    if "provenance/companions" in file:
        for text in filter(None, file["provenance/companions"][()].tolist()):
            found |= json.loads(text)
    return found


def _same_floats(ours: np.ndarray, expected: np.ndarray, *, exact: bool) -> np.ndarray:
    """Bit for bit, except that one NaN is as good as another; or to the last
    digit, after arithmetic.
    """
    if not exact:
        return np.asarray(np.isclose(ours, expected, rtol=3e-7, atol=0, equal_nan=True))
    same = ours.astype("<f4").view("<u4") == expected.astype("<f4").view("<u4")
    return np.asarray(same | (np.isnan(ours) & np.isnan(expected)))


def _first_wrong(wrong: np.ndarray, ours: np.ndarray, expected: np.ndarray) -> str:
    y, x = (int(value) for value in np.argwhere(wrong)[0])
    return f"differs in {wrong.sum()} pixels, first [{y}, {x}]: {ours[y, x]}, in the input {expected[y, x]}"
