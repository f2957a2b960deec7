# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The demonstration: a repository, a catalog, a request, and the whole way of
the data on this machine.

Run it as ``python -m lsst.dax.bulkcutout.tests.demo``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import yaml

from ..manifest import MANIFEST_NAME, Manifest, read_manifest
from ..progress import Progress
from ..skymap.rings import KNOWN_SKYMAPS
from .layouts import Layout, rings_layout
from .repositories import SkyRepository, make_repo
from .sky import Sky
from .stars import add_isolated_stars
from .targets import make_targets

__all__ = ("demo_layout", "main", "make_demo")

_MARKER = ".made-by-bulkcutout-demo"
_SIZE = 48
_LARGE_SIZE = 288
_LARGE_ID = 9_000
_POSITION = (150.1, 2.2)
_CERTIFICATE_STARS = 400


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration.

    Parameters
    ----------
    arguments
        Command line; by default that of the process.

    Returns
    -------
    status
        0 if all went well, else the status of the command that failed.
    """
    parser = argparse.ArgumentParser(prog="demo", description="Make a small sky and cut it up.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="directory [default: demo]")
    parser.add_argument("--site", default="local", help="site of the submission [default: local]")
    parser.add_argument(
        "--prepare-only", action="store_true", help="make repository, catalog and request only"
    )
    options = parser.parse_args(arguments)
    folder = options.out.absolute()
    started = time.monotonic()
    if not _clear(folder):
        return 1
    make_demo(folder)
    if options.prepare_only:
        return 0
    out = folder / "out"
    for title, command in (
        ("Cutting", ("submit", str(folder / "request.yaml"), "--site", options.site)),
        ("Verifying", ("verify", str(out), "--photometry")),
        ("Drawing a preview", ("preview", str(out))),
    ):
        print(f"{title}: bulkcutout {' '.join(command)}", flush=True)
        status = subprocess.run([sys.executable, "-m", "lsst.dax.bulkcutout.cli", *command]).returncode
        if status != 0:
            print(f"`bulkcutout {command[0]}` ended with status {status}.", file=sys.stderr)
            return status
    _summarize(out, time.monotonic() - started)
    return 0


def make_demo(folder: Path) -> SkyRepository:
    """Make the repository, the catalog and the request.

    Parameters
    ----------
    folder
        Where; ``repo``, ``catalog.parquet`` and ``request.yaml`` are made.

    Returns
    -------
    repository
        The repository.
    """
    started = time.monotonic()
    layout = demo_layout()
    tract, patch = layout.images[0]
    missing_cells = {(tract, patch, band): {(4, 5), (4, 6)} for band in "gri"}
    missing_cells[(*layout.images[3], "g")] = {(2, 7)}
    sky = Sky(seed=2026, stars_per_arcmin2=15.0, galaxies_per_arcmin2=90.0)
    # Enough stars to certify the photometry by: those of the sky are blended.
    sky = add_isolated_stars(sky, layout, _CERTIFICATE_STARS)
    progress = Progress("Drawing the sky", unit="images")
    repository = make_repo(
        folder / "repo",
        layout=layout,
        bands=("g", "r", "i"),
        compression="rice",
        sky=sky,
        missing={(*layout.images[-1], "g")},
        missing_cells=missing_cells,
        processes=min(4, len(os.sched_getaffinity(0))),
        progress=progress.set,
    )
    progress.close()
    targets = make_targets(repository, n_sources=1800, n_near=1000, n_random=800, n_outside=60, size=_SIZE)
    catalog = _with_large_cutouts(targets.table, repository)
    pyarrow.parquet.write_table(catalog, folder / "catalog.parquet")
    request = {
        "schema_version": 1,
        "request_id": "demo",
        "catalog": {
            "uri": "catalog.parquet",
            "id_column": "id",
            "ra_column": "ra",
            "dec_column": "dec",
            "carry": "all",
        },
        "butler": "repo",
        "collections": [repository.collection],
        "dataset_type": repository.dataset_type,
        "bands": "all",
        "size": {"column": "size"},
        "planes": ["image", "variance", "mask", "psf"],
        "output": "out",
        "labels": {"survey": "Made-up sky", "instrument": "DemoCam", "release": "demo"},
    }
    (folder / "request.yaml").write_text(yaml.safe_dump(request, sort_keys=False))
    print(
        f"Made {len(repository.refs)} coadds of {len(layout.images)} patches in {len(layout.tracts)} tracts "
        f"and a catalog of {len(catalog):,} rows in {time.monotonic() - started:.0f} s.",
        flush=True,
    )
    return repository


def demo_layout() -> Layout:
    """Four patches in each of two tracts, on both sides of their border.

    Returns
    -------
    layout
        Part of the map ``bulkcutout_demo_v1``.
    """
    skymap = KNOWN_SKYMAPS["bulkcutout_demo_v1"]
    west = int(skymap.find_tract(*_POSITION))
    east = west + 1
    (ra_west, dec), (ra_east, _) = skymap.tract_center(west), skymap.tract_center(east)
    images = {}
    for tract in (west, east):
        x, y = skymap.wcs(tract).sky_to_pixel((ra_west + ra_east) / 2, dec)
        patch = int(skymap.find_patch(x, y))
        row, column = divmod(patch, skymap.n_patches)
        # Right ascension grows to the left, so the border is on the left of
        # the western tract.
        neighbour = column + (1 if tract == west else -1)
        images[tract] = [r * skymap.n_patches + c for r in (row, row + 1) for c in (column, neighbour)]
    return rings_layout(skymap, images)


def _with_large_cutouts(catalog: pa.Table, repository: SkyRepository) -> pa.Table:
    """Add a size, and large cutouts around the corners of patches."""
    layout = repository.layout
    rows: list[dict[str, Any]] = []
    for tract, patch in layout.images:
        # Near a corner of the inner region, another one in each tract.
        box = layout.patch(tract, patch).inner
        y, x = box.y1 - 25.6, box.x1 - 18.1
        if tract != layout.images[0][0]:
            y, x = box.y0 + 20.3, box.x0 + 31.8
        ra, dec = layout.tracts[tract].pixel_to_sky(x, y)
        row = {"id": _LARGE_ID + len(rows), "ra": float(ra) % 360.0, "dec": float(dec)}
        rows.append(row | {"kind": "large", "size": _LARGE_SIZE})
    field = pa.field("size", pa.int32(), metadata={"unit": "pixel", "description": "Side of the cutout."})
    catalog = catalog.append_column(field, pa.array([_SIZE] * len(catalog), pa.int32()))
    return pa.concat_tables([catalog, pa.Table.from_pylist(rows, schema=catalog.schema)])


def _clear(folder: Path) -> bool:
    """Make an empty directory; only a former demonstration is removed."""
    if folder.exists():
        if not (folder / _MARKER).is_file() and any(folder.iterdir()):
            print(f"{folder} is not of a former demonstration: name another one with --out.", file=sys.stderr)
            return False
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARKER).write_text("The demonstration removes this directory when it runs again.\n")
    return True


def _summarize(out: Path, seconds: float) -> None:
    manifest: Manifest = read_manifest(out)
    delivered = manifest.counts.get("delivered", 0)
    cutouts = [file for file in manifest.files if file.size is not None]
    print(f"\nrows       {manifest.rows:>8,}")
    print(f"delivered  {delivered:>8,}")
    for status, count in sorted(manifest.counts.items()):
        if status != "delivered" and count:
            print(f"refused    {count:>8,}  {status}")
    print(
        f"files      {len(cutouts):>8,}  with {sum(file.bytes for file in cutouts) / 1e6:,.1f} MB of cutouts"
    )
    print(f"seconds    {seconds:>8.0f}")
    print(f"\nproduct    {out}")
    for name in (
        MANIFEST_NAME,
        "status.parquet",
        "SHA256SUMS",
        "README.md",
        "certificate.png",
        "preview.png",
    ):
        if (out / name).exists():
            print(f"           {out / name}")


if __name__ == "__main__":
    sys.exit(main())
