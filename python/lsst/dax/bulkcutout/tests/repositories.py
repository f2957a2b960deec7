# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Butler repositories of the made-up sky, with everything known about them."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import astropy.wcs
import numpy as np
import pyarrow as pa

from lsst.daf.butler import Butler, DatasetRef
from lsst.images.serialization import ButlerInfo
from lsst.sphgeom import LonLat, NormalizedAngle, UnitVector3d

from .coadds import COMPRESSIONS, Planes, build_coadd, sky_planes, write_coadd
from .layouts import Layout, rings_layout
from .pixel_code import MASK_PLANES, PixelCode
from .repository_writer import ImageKey, RepositoryWriter
from .sky import Sky, Sources

__all__ = ("SkyRepository", "make_repo")


@dataclasses.dataclass(frozen=True)
class SkyRepository:
    """A repository and what is in it."""

    root: Path
    """The repository."""

    collection: str
    """CHAINED collection with the coadds."""

    run: str
    """The RUN collection in that chain."""

    dataset_type: str
    """Dataset type of the coadds."""

    layout: Layout
    """The sky map."""

    bands: tuple[str, ...]
    """Bands, in order of wavelength."""

    paths: Mapping[ImageKey, Path]
    """File of each image."""

    refs: Mapping[ImageKey, DatasetRef]
    """Dataset of each image."""

    missing_cells: Mapping[ImageKey, frozenset[tuple[int, int]]]
    """Cells ``(row, column)`` without data of each image."""

    sky: Sky | None = None
    """What the images show; `None` for real ones."""

    code: PixelCode | None = None
    """What pixel values mean, where ``pixels="coordinates"`` was asked for."""

    mask_planes: Mapping[ImageKey, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Mask planes of each image in the order of their bits."""

    @property
    def skymap(self) -> str:
        """Name of the sky map."""
        return self.layout.name

    @property
    def wcs(self) -> dict[int, astropy.wcs.WCS]:
        """Projection of each tract; origin 0 means zero-based tract pixels."""
        return {tract: where.wcs for tract, where in self.layout.tracts.items()}

    @functools.cached_property
    def truth(self) -> pa.Table:
        """Sources within any image: `Sources.to_arrow` with ``tract``,
        ``patch`` (where the observatory would put them; null outside), ``x``
        and ``y`` (pixels of that tract).
        """
        if self.sky is None:
            raise ValueError("The truth about a real sky is not known.")
        parts = [
            self.sky.sources(self.layout.tracts[tract], self.layout.patch(tract, patch).outer, margin=0)
            for tract, patch in self.layout.images
        ]
        sources = Sources.concatenate(parts)
        sources = sources[np.unique(sources.id, return_index=True)[1]]
        table = sources.to_arrow()
        homes = [self.home(ra, dec) for ra, dec in zip(sources.ra, sources.dec, strict=True)]
        columns = zip(*(home or (None, None, None, None) for home in homes), strict=True)
        kinds = (pa.int32(), pa.int32(), pa.float64(), pa.float64())
        for name, values, kind in zip(("tract", "patch", "x", "y"), columns, kinds, strict=True):
            table = table.append_column(name, pa.array(values, kind))
        return table

    def home(self, ra: float, dec: float) -> tuple[int, int, float, float] | None:
        """Where a position belongs, worked out without the package's code.

        Parameters
        ----------
        ra, dec
            ICRS degrees.

        Returns
        -------
        home
            Tract, patch and tract pixels ``x, y``; `None` if no tract with
            records in the repository has it.
        """
        if not (np.isfinite(ra) and abs(dec) <= 90):
            return None
        tract = self._home_tract(ra, dec)
        if tract is None:
            return None
        where = self.layout.tracts[tract]
        if _separation_deg((ra, dec), where.crval) > 80:
            # The tangent plane has no place for the other half of the sky.
            return None
        x, y = (float(value) for value in where.sky_to_pixel(ra, dec))
        row, column = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
        for patch in where.patches.values():
            if patch.inner.y0 <= row < patch.inner.y1 and patch.inner.x0 <= column < patch.inner.x1:
                return tract, patch.id, x, y
        return None

    def _home_tract(self, ra: float, dec: float) -> int | None:
        """The tract in whose ring and stretch of right ascension the position
        lies; on other maps the nearest tract centre.
        """
        best = None
        rings = self.layout.rings
        for tract, where in self.layout.tracts.items():
            if rings is None:
                distance = _separation_deg((ra, dec), where.crval)
                if best is None or distance < best[0]:
                    best = (distance, tract)
                continue
            to_next = (rings.tract_center(tract + 1)[0] - where.crval[0]) % 360.0
            d_ra = (ra - where.crval[0] + 180.0) % 360.0 - 180.0
            in_ring = abs(dec - where.crval[1]) < 90.0 / (rings.num_rings + 1)
            if in_ring and abs(d_ra) < to_next / 2:
                return tract
        return best[1] if best is not None else None

    def offset(self, tract: int, patch: int, band: str) -> float:
        """The constant by which an image is brighter than the sky, nJy.

        Parameters
        ----------
        tract, patch, band
            The image; no two have the same constant.

        Returns
        -------
        offset
            In nJy.
        """
        if self.sky is None or self.code is not None:
            return 0.0
        return _offset(self.layout, self.bands, self.sky, (tract, patch, band))

    def expected_pixel(self, plane: str, tract: int, patch: int, band: str, y: Any, x: Any) -> np.ndarray:
        """Pixel values of a repository made with ``pixels="coordinates"``.

        Parameters
        ----------
        plane
            ``image``, ``variance`` or ``mask``.
        tract, patch, band
            The image.
        y, x
            Tract pixels, within the image and outside its missing cells.

        Returns
        -------
        values
            See `PixelCode.expected_pixel`.
        """
        if self.code is None:
            raise ValueError("Only pixels='coordinates' says which pixel has which value.")
        return self.code.expected_pixel(plane, tract, patch, band, y, x)

    def planes(self, tract: int, patch: int, band: str) -> Planes:
        """Pixels of an image as they were before they were written.

        Parameters
        ----------
        tract, patch, band
            The image.

        Returns
        -------
        planes
            The same as those that were written.
        """
        if self.sky is None:
            raise ValueError("Real images are not drawn again: read the file.")
        return sky_planes(
            self.layout,
            tract,
            patch,
            band,
            sky=self.sky,
            offset=self.offset(tract, patch, band),
            code=self.code,
            missing_cells=self.missing_cells[tract, patch, band],
        )

    def butler(self) -> Butler:
        """A read-only Butler on the collection; close it after use.

        Returns
        -------
        butler
            Without a default run.
        """
        return Butler.from_config(str(self.root), collections=self.collection)


def make_repo(
    root: str | Path,
    *,
    layout: Layout | None = None,
    bands: Sequence[str] = ("g", "r", "i"),
    dataset_type: str = "deep_coadd",
    collection: str = "coadds",
    compression: str = "gzip",
    sky: Sky | None = None,
    pixels: str = "sky",
    missing: Collection[ImageKey] = (),
    missing_cells: Mapping[ImageKey, Collection[tuple[int, int]]] | None = None,
    mask_planes: Mapping[ImageKey, Sequence[str]] | None = None,
    psf_shape: tuple[int, int] = (21, 21),
    full: bool = False,
    n_noise: Mapping[ImageKey, int] | None = None,
    no_backgrounds: Collection[ImageKey] = (),
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SkyRepository:
    """Make a Butler repository with coadds of the made-up sky.

    Parameters
    ----------
    root
        A directory that does not exist yet, or is empty.
    layout
        Sky map and patches; by default two neighbouring small patches of the
        map ``bulkcutout_demo_v1``.
    bands
        Bands.
    dataset_type, collection
        Names; the datasets are in a RUN ``<collection>/run``.
    compression
        ``gzip`` (lossless) or ``rice`` (quantized image and variance).
    sky
        What the images show; the default sky if not given.
    pixels
        ``sky``, or ``coordinates`` for values that name their pixel (see
        `SkyRepository.expected_pixel`).
    missing
        Images that are not made.
    missing_cells
        Cells ``(row, column)`` without data, by image.
    mask_planes
        Mask planes in the order of their bits, by image; others have DP2's.
    psf_shape
        Rows and columns of the PSF kernels.
    full
        Whether images have all the further parts that DP2's have.
    n_noise
        Number of noise realizations by image, where not 1; see `build_coadd`.
    no_backgrounds
        Images that have no background models.
    processes
        Number of processes that draw and write images.
    progress
        Called with the number of images written and of all images.

    Returns
    -------
    repository
        The repository and what is in it.
    """
    if pixels not in ("sky", "coordinates") or compression not in COMPRESSIONS:
        raise ValueError(f"Unknown kind of pixels or compression: {pixels!r}, {compression!r}.")
    root = Path(root).absolute()
    where = layout or rings_layout("bulkcutout_demo_v1", {500_000: (27, 28)})
    shown = sky or Sky()
    keys = [
        (tract, patch, band)
        for tract, patch in where.images
        for band in bands
        if (tract, patch, band) not in missing
    ]
    code = None
    if pixels == "coordinates":
        code = PixelCode(tuple(keys), tuple(where.patch(tract, patch).outer for tract, patch, _ in keys))
    planes = {key: tuple((mask_planes or {}).get(key, MASK_PLANES)) for key in keys}
    jobs = {}
    staging = root / "staging"
    for key in keys:
        arguments = {
            "sky": shown,
            "code": code,
            "offset": 0.0 if code else _offset(where, tuple(bands), shown, key),
            "missing_cells": tuple((missing_cells or {}).get(key, ())),
            "psf_shape": psf_shape,
        }
        path = staging / "{}_{}_{}.fits".format(*key)
        contents = {
            "mask_planes": planes[key],
            "full": full,
            "n_noise": (n_noise or {}).get(key, 1),
            "backgrounds": key not in no_backgrounds,
        }
        jobs[key] = (where, key, arguments, contents, path, compression)
    lost: dict[ImageKey, frozenset[tuple[int, int]]] = {}
    with RepositoryWriter(root, where, bands, keys, dataset_type, collection) as target:
        staging.mkdir()
        if processes > 1:
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
                pending = {
                    pool.submit(_write_image, *job, target.info(key)): key for key, job in jobs.items()
                }
                for n, future in enumerate(concurrent.futures.as_completed(pending), start=1):
                    lost[pending[future]] = future.result()
                    if progress is not None:
                        progress(n, len(keys))
        else:
            for n, (key, job) in enumerate(jobs.items(), start=1):
                lost[key] = _write_image(*job, target.info(key))
                if progress is not None:
                    progress(n, len(keys))
        paths = target.ingest({key: job[4] for key, job in jobs.items()})
    shutil.rmtree(staging)
    return SkyRepository(
        root=root,
        collection=collection,
        run=target.run,
        dataset_type=dataset_type,
        layout=where,
        bands=tuple(bands),
        paths=paths,
        refs=target.refs,
        missing_cells=lost,
        sky=shown,
        code=code,
        mask_planes=planes,
    )


def _separation_deg(a: tuple[float, float], b: tuple[float, float]) -> float:
    vectors = [UnitVector3d(LonLat.fromDegrees(ra % 360.0, dec)) for ra, dec in (a, b)]
    return NormalizedAngle(*vectors).asDegrees()


def _offset(layout: Layout, bands: tuple[str, ...], sky: Sky, key: ImageKey) -> float:
    rank = layout.images.index(key[:2]) * len(bands) + bands.index(key[2])
    return (1 + rank) * sky.offset_step_njy


def _write_image(
    layout: Layout,
    key: ImageKey,
    arguments: dict[str, Any],
    contents: dict[str, Any],
    path: Path,
    compression: str,
    butler_info: str,
) -> frozenset[tuple[int, int]]:
    """Draw and write one image; in a process of its own if need be."""
    planes = sky_planes(layout, *key, **arguments)
    coadd = build_coadd(layout, *key, planes, **contents)
    write_coadd(coadd, path, compression, butler_info=ButlerInfo.model_validate_json(butler_info))
    return planes.missing
