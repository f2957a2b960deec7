# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later
"""A sky of 44 patches for campaigns on the pool, and what has to be true of a
campaign on it whatever happened: `Stage.check`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import astropy.io.fits
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pool import Pool

from lsst.dax.bulkcutout.submit import CONFIG_DIRECTORY
from lsst.dax.bulkcutout.tests import SkyRepository, make_repo, tangent_layout, tangent_tract
from lsst.dax.bulkcutout.tests.campaigns import write_request
from lsst.dax.bulkcutout.tests.sabotage import Fault, write_faults

__all__ = ("CheckedSky", "Stage", "damaged", "make_sky", "mend", "run_id")

PROGRAMS = Path(sys.executable).parent
N_PATCHES = 44
ROWS_PER_PATCH = 3
# So that a damaged image costs its rows one band, or all.
WITH_TWO_BANDS = ((3, 8), (8, 12))
# Another session may keep the machine busy.
DEADLINE_S = 300.0


@dataclasses.dataclass(frozen=True)
class CheckedSky:
    """A repository, a catalog, and the answer that each row should get."""

    folder: Path
    """All of it is below, and nothing else."""

    repo: SkyRepository
    """Two tracts of 24 and 20 patches, 50 x 60 and 60 x 50 pixels."""

    catalog: Path
    """Three rows in each patch, and some bad ones."""

    answers: tuple[str, ...]
    """Status of each row if nothing is wrong with the images."""

    places: tuple[tuple[int, int] | None, ...]
    """Tract and patch of each row."""


def make_sky(folder: Path) -> CheckedSky:
    """Make the sky, in some seconds."""
    tracts = [
        tangent_tract(
            3,
            center=(150.0, 2.2),
            n_patches=(4, 6),
            inner=(30, 40),
            border=(10, 10),
            cell=(10, 10),
            rotation_deg=20.0,
        ),
        tangent_tract(
            8,
            center=(150.1, 2.2),
            n_patches=(5, 4),
            inner=(40, 30),
            border=(10, 10),
            cell=(10, 10),
            origin=(-70, 4000),
        ),
    ]
    layout = tangent_layout(tracts)
    assert len(layout.images) == N_PATCHES
    repo = make_repo(
        folder / "repo",
        layout=layout,
        bands=("g", "r"),
        pixels="coordinates",
        psf_shape=(5, 7),
        missing=[(*place, "g") for place in layout.images if place not in WITH_TWO_BANDS],
    )
    rng = np.random.default_rng(4)
    rows: list[tuple[float, float, str, tuple[int, int] | None]] = []
    for tract, patch in layout.images:
        box = layout.patch(tract, patch).inner
        x, y = (
            rng.uniform(low, high - 1, ROWS_PER_PATCH) for low, high in ((box.x0, box.x1), (box.y0, box.y1))
        )
        sky = zip(*layout.tracts[tract].pixel_to_sky(x, y), strict=True)
        rows += [(float(ra), float(dec), "delivered", (tract, patch)) for ra, dec in sky]
    rows += [(10.0, -80.0, "outside_footprint", None), (float("nan"), 2.2, "invalid_position", None)]
    # In no order, as catalogs are.
    rows = [rows[number] for number in rng.permutation(len(rows))]
    ra, dec, answers, places = zip(*rows, strict=True)
    path = folder / "catalog.parquet"
    pq.write_table(pa.table({"id": np.arange(len(rows)) * 7, "ra": ra, "dec": dec}), path)
    return CheckedSky(folder, repo, path, answers, places)


class Stage:
    """The place of one campaign: what it may write, and all around it.

    Parameters
    ----------
    folder
        A directory for it alone.
    sky
        What is cut.
    pool
        Where it runs; `None` for Parsl on this machine.
    """

    def __init__(self, folder: Path, sky: CheckedSky, pool: Pool | None) -> None:
        self.folder = folder
        self.sky = sky
        self.pool = pool
        self.out = folder / "place" / "out"
        """Directory of the product."""
        self.campaign = folder / "place" / "out.campaign"
        """Directory of the campaign."""
        self.around = folder / "around"
        """Home, working directory and request: nothing may be written."""
        self.notes = folder / "notes"
        """The test's own files: faults, site, register of campaigns."""
        for path in (self.out.parent, self.around / "home", self.notes):
            path.mkdir(parents=True)
        self.request = self.write_request()
        self.before = self.surroundings()

    def write_request(self, **fields: Any) -> Path:
        """Write the request, with other fields if need be."""
        fields = {"size": 9, "output": str(self.out), "partition": {"max_rows_per_file": 50}, **fields}
        return write_request(self.around, self.sky.repo, self.sky.catalog, **fields)

    def surroundings(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of all that no campaign may touch."""
        found = {}
        for root in (self.around, self.sky.folder):
            for path in [root, *root.rglob("*")]:
                status = path.lstat()
                found[str(path)] = (status.st_size, status.st_mtime_ns)
        return found

    # -- commands ------------------------------------------------------------

    def run(
        self,
        program: str,
        *arguments: str | Path,
        status: int | None = 0,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Run a program of this installation as the campaign's owner, with
        more variables if need be; gives what it has printed.
        """
        environment = self.pool.env if self.pool else dict(os.environ)
        own = {"HOME": str(self.around / "home"), "BULKCUTOUT_CAMPAIGNS": str(self.notes / "campaigns")}
        own["PATH"] = f"{PROGRAMS}:{environment['PATH']}"
        environment = {key: value for key, value in environment.items() if not key.startswith("XDG_")}
        done = subprocess.run(
            [PROGRAMS / program, *map(str, arguments)],
            env=environment | own | dict(variables or {}),
            cwd=self.around,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE_S,
        )
        if status is not None:
            assert done.returncode == status, done.stdout
        return done.stdout

    def bulkcutout(self, *arguments: str | Path, status: int | None = 0) -> str:
        """Run ``bulkcutout``; gives what it has printed."""
        return self.run("bulkcutout", *arguments, status=status)

    def site(self, faults: Iterable[Fault] = (), *, jobs: int = 2, **changes: Any) -> Path:
        """Write a site file as an operator writes it: the package's, changes,
        and here faults of the jobs.

        Starting a job costs three seconds: so there are two with quanta,
        unless a test needs more.
        """
        config: dict[str, Any] = {
            "includeConfigs": [str(CONFIG_DIRECTORY / "sites" / "htcondor.yaml")],
            "memoryLimit": 8000,
            "requestMemory": 1000,
            "pipetask": {"pipetaskInit": {"requestMemory": 1000}, "extractCutouts": {"requestMemory": 1000}},
            "packing": {"slots": jobs, "maxQuanta": -(-N_PATCHES // jobs)},
            "finalJob": {"requestCpus": 1, "requestMemory": 1000},
            # How long HTCondor hopes that a lost node comes back: 40 minutes
            # by default.
            "site": {"htcondor": {"profile": {"condor": {"+JobLeaseDuration": 20}}}},
        }
        if faults := list(faults):
            self.set_faults(faults)
            sabotage = f"{sys.executable} -m lsst.dax.bulkcutout.tests.sabotage {self.notes / 'faults.json'}"
            config["runQuantumCommand"] = (
                f"{sabotage} run-quanta {{butlerConfig}} {{fileDistributionEndPoint}}{{qgraphFile}} "
                "--qgraph-node-id {qgraphNodeId} {extraRunQuantumOptions}"
            )
            config["finalJob"]["command1"] = f"{sabotage} -v finish {{campaignDir}}"
        path = self.notes / "site.yaml"
        path.write_text(yaml.safe_dump(_merged(config, changes)))
        return path

    def set_faults(self, faults: Iterable[Fault]) -> None:
        """Say what goes wrong in jobs that start from now on."""
        write_faults(self.notes / "faults.json", faults)

    def submit(self, site: str | Path, *arguments: str | Path, status: int = 0) -> str:
        """Submit the request; gives DAGMan's id, or nothing with Parsl."""
        said = self.bulkcutout("submit", self.request, "--site", site, *arguments, status=status)
        return run_id(said)

    def wait(self, run: str) -> int:
        """Wait for the end of the run; gives the DAG's exit status."""
        assert self.pool is not None
        return int(self.pool.wait_for_job(run, deadline_s=DEADLINE_S).get("ExitCode", -1))

    def jobs(self, run: str) -> list[dict[str, Any]]:
        """ClassAds of the jobs of a run, ended or not, in the order in which
        they were submitted.
        """
        assert self.pool is not None
        constraint = f"DAGManJobId == {run.partition('.')[0]}"
        ads = [*self.pool.jobs(constraint), *self.pool.history(constraint)]
        return sorted({ad["Id"]: ad for ad in ads}.values(), key=lambda ad: ad["ClusterId"])

    # -- checks --------------------------------------------------------------

    def check(
        self,
        reference: Mapping[str, str] | None = None,
        *,
        read_failed: Iterable[tuple[int, int]] = (),
        not_processed: Iterable[tuple[int, int]] = (),
    ) -> None:
        """Hold a product against all that must be true of it.

        Parameters
        ----------
        reference
            `digests` of the product of an undisturbed run, if this product
            shall be that.
        read_failed, not_processed
            Patches whose rows have these answers.
        """
        other = dict.fromkeys(read_failed, "read_failed") | dict.fromkeys(not_processed, "not_processed")
        answers = [
            other.get(place, answer) if place else answer
            for answer, place in zip(self.sky.answers, self.sky.places, strict=True)
        ]
        self.every_row_is_answered_once(answers)
        self.checksums_hold()
        assert self.surroundings() == self.before, "something outside the campaign was written"
        if reference is not None:
            assert self.digests() == reference

    def unprocessed(self) -> set[tuple[int, int]]:
        """Patches with rows that the product has no answer for yet."""
        table = pq.read_table(self.out / "status.parquet", filters=[("status", "=", "not_processed")])
        return {place for row in table["row"].to_pylist() if (place := self.sky.places[row]) is not None}

    def every_row_is_answered_once(self, answers: list[str]) -> None:
        """Look for each row in status.parquet and in the data files, with no
        code of ours.
        """
        table = pq.read_table(self.out / "status.parquet")
        assert table["row"].to_pylist() == list(range(len(answers)))
        assert Counter(table["status"].to_pylist()) == Counter(answers)
        assert table["status"].to_pylist() == answers
        in_files: Counter[int] = Counter()
        for path in self.out.glob("size=*/*"):
            with h5py.File(path) as file:
                in_files.update(file["catalog/row"][:].tolist())
        assert in_files == {row: 1 for row, answer in enumerate(answers) if answer == "delivered"}
        manifest = json.loads((self.out / "manifest.json").read_text())
        assert manifest["counts"] == Counter(answers)
        assert manifest["complete"] == ("not_processed" not in answers)

    def checksums_hold(self) -> None:
        """Have coreutils and our own command check the product."""
        subprocess.run(
            ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=self.out, check=True
        )
        listed = {line.split("  ", 1)[1] for line in (self.out / "SHA256SUMS").read_text().splitlines()}
        others = {"manifest.json", "SHA256SUMS", ".bulkcutout-campaign.json"}
        assert listed == {str(path.relative_to(self.out)) for path in _files(self.out)} - others
        self.bulkcutout("verify", self.out, "--sample", "10")

    def digests(self) -> dict[str, str]:
        """Checksums of all that may not depend on how the product was made:
        every file, and the manifest without its account of the execution.
        """
        found = {}
        for path in _files(self.out):
            name = str(path.relative_to(self.out))
            content = path.read_bytes()
            if name == ".bulkcutout-campaign.json":
                continue
            if name == "manifest.json":
                manifest = json.loads(content)
                del manifest["execution"]
                # Where things are, and who is told.
                for field in ("output", "butler", "catalog", "notify"):
                    manifest["request"].pop(field, None)
                content = json.dumps(manifest, sort_keys=True).encode()
            found[name] = hashlib.sha256(content).hexdigest()
        return found


def run_id(said: str) -> str:
    """Find DAGMan's id in what submit or restart has printed."""
    found = re.findall(r"Run Id: (\S+)", said) or re.findall(r"Run (\d+\.\d+) goes on", said)
    assert len(found) == 1, said
    return str(found[0])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _merged(config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes, key by key at all levels."""
    merged = dict(config)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged


def damaged(sky: CheckedSky, folder: Path, images: Iterable[tuple[int, int, str]]) -> CheckedSky:
    """Copy a sky, and overwrite pixels in some of its images.

    Parameters
    ----------
    sky
        The sky.
    folder
        Where the copy goes.
    images
        Tract, patch and band of the images.
    """
    shutil.copytree(sky.folder, folder)
    paths = {key: folder / path.relative_to(sky.folder) for key, path in sky.repo.paths.items()}
    for image in images:
        with astropy.io.fits.open(paths[image], disable_image_compression=True) as hdus:
            header, where = hdus["IMAGE"].header, hdus["IMAGE"].fileinfo()["datLoc"]
        with paths[image].open("r+b") as stream:
            # The compressed tiles come after the table that says where they
            # are.
            stream.seek(where + header["NAXIS1"] * header["NAXIS2"])
            stream.write(b"Z" * header["PCOUNT"])
    repo = dataclasses.replace(sky.repo, root=folder / "repo", paths=paths)
    return dataclasses.replace(sky, folder=folder, repo=repo, catalog=folder / sky.catalog.name)


def mend(sky: CheckedSky, good: CheckedSky) -> None:
    """Put good images in the place of all images of a copy."""
    for key, path in sky.repo.paths.items():
        shutil.copyfile(good.repo.paths[key], path)
