# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""End to end: from a catalog to a finished HDF5 product."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .check import check_cutouts, check_product
from .data import BANDS, HDUS, Data
from .measure import measure, warm_memory
from .patch_work import TOOLS_DIRECTORY
from .peers import install
from .targets import SIZE, patch_targets, save_targets
from .tools.work import PLANES
from .workplace import Workplace

__all__ = ("CASE", "TOOLS", "measure_product")

CASE = "end-to-end"

TOOLS = {
    "bulkcutout": "plan, quanta and finish in one process",
    "bulkcutout-submit": "`bulkcutout submit`: the same with all its processes, by BPS and Parsl",
    "limit": "decodes the touched tiles of all images, writes as many bytes as the pixels have",
    "fitsio-planes": "fitsio: whole planes and slices, h5py",
    "astropy": "astropy: whole planes and Cutout2D, h5py",
}
"""What each does."""

SCRIPTS = {"fitsio-planes": "product_fitsio", "astropy": "product_astropy", "limit": "limit_product"}
OUR_NAMES = {"image": "flux", "variance": "variance", "mask": "mask"}
"""Names of the planes in our product."""


class _Job:
    """The same targets, as each of the tools wants them."""

    def __init__(self, directory: Path, data: Data, n: int) -> None:
        self.directory, self.data = directory, data
        directory.mkdir()
        shares = np.diff(np.linspace(0, n, len(data.patches) + 1).astype(int)).tolist()
        self.targets = {
            patch: patch_targets(data, patch, share)
            for patch, share in zip(data.patches, shares, strict=True)
        }
        together = {
            name: np.concatenate([each[name] for each in self.targets.values()])
            for name in ("ra", "dec", "first_y", "first_x")
        }
        self.patch = np.repeat(data.patches, shares)
        # As catalogs are: not in the order of the patches.
        shuffled = np.random.default_rng(4).permutation(n)
        self.first_y, self.first_x = together["first_y"], together["first_x"]
        self.catalog = directory / "catalog.parquet"
        columns = {"id": shuffled, "ra": together["ra"][shuffled], "dec": together["dec"][shuffled]}
        pq.write_table(pa.table(columns | {"patch": self.patch[shuffled]}), self.catalog)
        self.bytes = n * len(BANDS) * SIZE**2 * sum(np.dtype(dtype).itemsize for dtype in PLANES.values())
        request = {
            "schema_version": 1,
            "request_id": "benchmark",
            "catalog": {"uri": str(self.catalog), "id_column": "id"},
            "butler": str(data.repository),
            "collections": ["coadds"],
            "dataset_type": "deep_coadd",
            "bands": list(BANDS),
            "size": SIZE,
            "planes": list(PLANES),
            "output": str(directory / "out"),
        }
        (directory / "request.json").write_text(json.dumps(request))

    def ours(self) -> dict[str, Any]:
        return {"request": str(self.directory / "request.json"), "bytes": self.bytes}

    def of_peer(self, storage: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "catalog": str(self.catalog),
            "images": {
                str(patch): {band: self.data.paths[self.data.key(band, patch)] for band in BANDS}
                for patch in self.data.patches
            },
            "planes": HDUS,
            "bands": list(BANDS),
            "size": SIZE,
            "storage": storage,
            "output": str(self.directory / "product.h5"),
            "bytes": self.bytes,
        }

    def of_limit(self) -> dict[str, Any]:
        parts = []
        for patch, targets in self.targets.items():
            path = save_targets(self.directory / f"{patch}.npz", targets)
            for band in BANDS:
                part = {"path": self.data.paths[self.data.key(band, patch)], "planes": HDUS, "size": SIZE}
                part |= {"origin": self.data.inner[str(patch)][:2], "targets": path, "threads": 1}
                output = str(self.directory / f"raw-{patch}-{band}")
                parts.append({**part, "n": len(targets["ra"]), "output": output})
        return {"parts": parts, "bytes": self.bytes}

    def product(self) -> Path:
        (path,) = (self.directory / "out").rglob("*.hdf5")
        return path

    def clear(self) -> None:
        """Remove what a run has left."""
        for path in self.directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix not in (".parquet", ".npz", ".json"):
                path.unlink()


def measure_product(
    place: Workplace,
    data: Data,
    small: Data,
    *,
    n: int,
    tools: Sequence[str],
    peers: bool,
    round_number: int,
    keep: Callable[[dict[str, Any]], None],
) -> None:
    """Run every tool once; parameters as `measure_patch`."""
    shutil.rmtree(place.scratch / "product", ignore_errors=True)
    (place.scratch / "product").mkdir()
    job = _Job(place.scratch / "product" / "main", data, n)
    few = _Job(place.scratch / "product" / "warm-up", small, 6)
    storage: dict[str, Any] = {}
    for tool in tools:
        python, env = sys.executable, place.own_environment()
        env["XDG_STATE_HOME"] = str(place.scratch / "state")
        if tool == "bulkcutout":
            contents = {**job.ours(), "warm_up": few.ours()}
        elif tool == "limit":
            contents = {**job.of_limit(), "warm_up": few.of_limit()}
        else:
            contents = {**job.of_peer(storage), "warm_up": few.of_peer(storage)}
            if peers and tool in SCRIPTS:
                python = str(install(tool.removesuffix("-planes"), place.environments))
                env = place.peer_environment()
        report, path = place.scratch / "report.json", place.scratch / "job.json"
        path.write_text(json.dumps({**contents, "report": str(report)}))
        command = [python, str(TOOLS_DIRECTORY / f"{SCRIPTS.get(tool, 'campaign_steps')}.py"), str(path)]
        if tool == "bulkcutout-submit":
            request = str(job.directory / "request.json")
            command = [python, "-m", "lsst.dax.bulkcutout.cli", "submit", "--site", "local", request]
        # Ours writes everything twice.
        warm_memory(place.scratch / "warm", 2 * job.bytes)
        (place.scratch / "warm").unlink()
        figures: dict[str, Any] = measure(command, log=place.scratch / "log", report=report, env=env)
        figures["bytes"] = job.bytes
        if tool == "bulkcutout":
            storage = _storage(job.product())
        if round_number == 0:
            _check(tool, job, contents)
        job.clear()
        few.clear()
        keep({"tool": tool, "case": CASE, "n": n, "round": round_number, **figures})


def _storage(product: Path) -> dict[str, Any]:
    """How our product keeps its planes, in the words of h5py."""
    settings = {}
    with h5py.File(product) as file:
        for plane, name in OUR_NAMES.items():
            stored = file[f"images/{name}"]
            settings[plane] = {
                name: value
                for name, value in (
                    ("chunks", stored.chunks),
                    ("compression", stored.compression),
                    ("compression_opts", stored.compression_opts),
                    ("shuffle", stored.shuffle or None),
                )
                if value is not None
            }
    return settings


def _check(tool: str, job: _Job, contents: Mapping[str, Any]) -> None:
    if tool == "limit":
        for part in contents["parts"]:
            check_cutouts(part, pixels=False)
        return
    ours = tool.startswith("bulkcutout")
    images = [
        {band: job.data.paths[job.data.key(band, patch)] for band in BANDS} for patch in job.patch.tolist()
    ]
    check_product(
        job.product() if ours else Path(contents["output"]),
        ids="catalog/object_id" if ours else "catalog/id",
        planes={plane: f"images/{OUR_NAMES[plane] if ours else plane}" for plane in PLANES},
        hdus=HDUS,
        images=images,
        first_y=job.first_y,
        first_x=job.first_x,
    )
