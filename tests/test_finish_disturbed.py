# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""``finish`` on a full disk, and killed in the middle, wherever that is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_sky import SIZE, TRACT, tiny_table

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.finish import COMPLETE, PARTIAL
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, run_here, write_request

PROGRAM = Path(__file__).with_name("disturbed_finish.py")


class Scene:
    """A campaign whose product lacks a patch that has been cut since, and
    what the product has to become.
    """

    def __init__(self, directory: Path, repo: SkyRepository) -> None:
        self.directory = directory
        self.out = directory / "rough" / "out"
        catalog = directory / "catalog.parquet"
        pq.write_table(tiny_table(repo), catalog)
        settings = {
            "size": SIZE,
            "partition": {"by": "patch"},
            "planes": ["image", "mask"],
            "coverage_map": True,
            "status_votable": True,
        }
        assert run_here(write_request(directory / "calm", repo, catalog, **settings))[1] == COMPLETE
        request = write_request(directory / "rough", repo, catalog, **settings)
        self.campaign: Campaign
        self.campaign, status = run_here(request, fail=[(TRACT, 1)])
        assert status == PARTIAL
        init_and_run(request)
        shutil.copytree(self.out, directory / "start")
        # What is not of the product itself.
        claim = ".bulkcutout-campaign.json"
        shutil.copytree(directory / "calm" / "out", directory / "good")
        shutil.copyfile(self.out / claim, directory / "good" / claim)

    def play(self, what: str, *arguments: str, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
        places = [self.campaign.root, self.out, self.directory / "start", self.directory / "good"]
        command = [*prefix, sys.executable, str(PROGRAM), what, *map(str, places), *arguments]
        # Threads do not go with a fork.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **({"MAY_MOUNT": "1"} if prefix else {})}
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=300, env=environment, check=False
        )
        assert run.returncode == 0, run.stderr
        report: dict[str, Any] = json.loads(run.stdout)
        report["said"] = run.stderr
        return report


@pytest.fixture
def scene(tmp_path: Path, tiny_repo: SkyRepository) -> Scene:
    return Scene(tmp_path, tiny_repo)


def test_failing_or_killed_at_any_place_leaves_nothing_half_made(scene: Scene) -> None:
    """No manifest over files that it does not describe, no half file under
    its own name; the next attempt makes the bytes of an undisturbed one.
    """
    report = scene.play("disturb", "5")
    assert report["faults"] == [], report["said"]
    # Every mkdir, open, write, rename and remove was one of them.
    assert report["places"]["once"] + report["places"]["kill"] > 20
    assert report["places"]["full"] > 5


def may_mount() -> bool:
    """Whether a file system of our own can be had here."""
    if shutil.which("unshare") is None:
        return False
    trial = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


def test_product_on_a_disk_that_is_too_small(scene: Scene) -> None:
    """It ends with 75 as often as space does not suffice, and once it does,
    with all bytes.  Where nothing can be mounted, files have a largest size.
    """
    prefix = ("unshare", "-rm") if may_mount() else ()
    report = scene.play("fill", prefix=prefix)
    assert report["faults"] == [], report["said"]
    assert report["mounted"] == bool(prefix)
    *before, last = report["statuses"]
    assert last == COMPLETE and len(before) >= 3 and set(before) == {75}
