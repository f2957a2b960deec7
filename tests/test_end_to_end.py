# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Requests through ``bps submit`` on Parsl, as a user or an operator does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from lsst.dax.bulkcutout.submit import CONFIG_DIRECTORY
from lsst.dax.bulkcutout.tests import hsc_repo, real_data
from lsst.dax.bulkcutout.tests.campaigns import write_request
from lsst.dax.bulkcutout.tests.sabotage import Fault, write_faults

PROGRAMS = Path(sys.executable).parent


def run(program: str, *arguments: str | Path, status: int = 0, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [PROGRAMS / program, *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        cwd=cwd,
        env={
            "PATH": f"{PROGRAMS}:/usr/bin:/bin",
            "HOME": str(cwd or Path.cwd()),
            "BULKCUTOUT_CAMPAIGNS": os.environ["BULKCUTOUT_CAMPAIGNS"],
        },
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.glob("size=*/*"))
    }


def test_submit_verify_preview_and_bps_submit(coded_request: Path, tmp_path: Path) -> None:
    """The commands of the README in their order; then the same request as an
    operator submits it, with the package's configuration included.
    """
    assert "complete: 4 of 4 quanta done" in run("bulkcutout", "submit", coded_request, cwd=tmp_path)
    out = tmp_path / "out"
    assert "complete" in run("bulkcutout", "status", out)
    state = json.loads(run("bulkcutout", "status", "--json", tmp_path / "out.campaign"))
    assert state["done"] == 4 and sum(state["counts"].values()) == state["rows"]
    run("bulkcutout", "verify", out, "--sample", "30")
    run("bulkcutout", "preview", out)
    assert (out / "preview.png").stat().st_size > 10_000
    checked = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, check=False)
    assert checked.returncode == 0
    # Nothing was left where the command was given.
    assert {path.name for path in tmp_path.iterdir()} == {"request.json", "out", "out.campaign"}

    operator = tmp_path / "operator"
    operator.mkdir()
    request = json.loads(coded_request.read_text()) | {"output": str(operator / "out")}
    (operator / "request.json").write_text(json.dumps(request))
    includes = [CONFIG_DIRECTORY / "bulkcutout_bps.yaml", CONFIG_DIRECTORY / "sites" / "local.yaml"]
    config = {
        "includeConfigs": [str(path) for path in includes],
        "campaignDir": str(operator / "campaign"),
        "requestFile": str(operator / "request.json"),
        "operator": "somebody",
    }
    (operator / "bps.yaml").write_text(yaml.safe_dump(config))
    run("bps", "submit", operator / "bps.yaml", cwd=operator)
    assert digests(operator / "out") == digests(out)


def test_prepared_campaign_is_submitted_by_bps(coded_request: Path, tmp_path: Path) -> None:
    """With a first job that is killed, and a restart."""
    said = run("bulkcutout", "submit", coded_request, "--prepare-only", cwd=tmp_path)
    campaign = tmp_path / "out.campaign"
    assert f"bps submit {campaign / 'bps.yaml'}" in said
    config = yaml.safe_load((campaign / "bps.yaml").read_text())
    write_faults(tmp_path / "faults.json", [Fault("die", str(tmp_path / "died"), where="after_cutouts")])
    config["runQuantumCommand"] = (
        f"{sys.executable} -m lsst.dax.bulkcutout.tests.sabotage {tmp_path}/faults.json run-quanta "
        "{butlerConfig} {qgraphFile} --qgraph-node-id {qgraphNodeId}"
    )
    config["site"] = {"local": {"retries": 0}}
    # Another job than the one that dies.
    config["packing"] = {"maxQuanta": 2}
    (campaign / "bps.yaml").write_text(yaml.safe_dump(config))
    # BPS on Parsl has no better word for a final job that exits with 2.
    run("bps", "submit", campaign / "bps.yaml", cwd=tmp_path, status=1)
    assert json.loads(run("bulkcutout", "status", "--json", campaign, status=2))["state"] == "partial"
    assert (tmp_path / "died.0").exists()
    answers = Counter(pq.read_table(tmp_path / "out" / "status.parquet")["status"].to_pylist())
    assert answers["not_processed"] and answers["delivered"]
    assert "complete: 4 of 4" in run("bulkcutout", "restart", campaign, cwd=tmp_path)
    answers = Counter(pq.read_table(tmp_path / "out" / "status.parquet")["status"].to_pylist())
    assert not answers["not_processed"]
    run("bulkcutout", "verify", tmp_path / "out", "--sample", "20")


def test_real_hsc_images(tmp_path: Path) -> None:
    """Stars and galaxies that were detected in real g, r and i images, cut
    out of the same images as cell coadds.
    """
    folder = real_data("hsc_slug")
    if folder is None:
        pytest.skip("the real test data are not beside the project")
    repo, catalog = hsc_repo(tmp_path / "repo", folder)
    path = tmp_path / "catalog.parquet"
    pq.write_table(catalog, path)
    request = write_request(
        tmp_path, repo, path, catalog={"uri": str(path), "carry": "all"}, size=40,
        labels={"survey": "HSC-SSP", "instrument": "HSC", "release": "S18A"},
    )  # fmt: skip
    run("bulkcutout", "submit", request, cwd=tmp_path)
    out = tmp_path / "out"
    answers = Counter(pq.read_table(out / "status.parquet")["status"].to_pylist())
    assert answers["delivered"] == len(catalog) > 50
    run("bulkcutout", "verify", out, "--sample", "100")
    run("bulkcutout", "preview", out)
