# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Data files that several processes write, and what becomes of their ends."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from unittest import mock

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_sky import SIZE, TRACT, tiny_table

from lsst.dax.bulkcutout import finish as finish_module
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import COMPLETE, TRY_AGAIN, finish
from lsst.dax.bulkcutout.quantum_output import QuantumOutput, write_list
from lsst.dax.bulkcutout.quantum_outputs import read_outputs
from lsst.dax.bulkcutout.repackage import packagers
from lsst.dax.bulkcutout.repackage.product_files import ProductFiles
from lsst.dax.bulkcutout.repackage.shared_contents import find_shared, write_shared
from lsst.dax.bulkcutout.request import load_request
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, write_request
from lsst.dax.bulkcutout.verify.product import verify_product

N = 40


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory, tiny_repo: SkyRepository) -> Campaign:
    """A campaign whose quanta are done, for a dozen files."""
    directory = tmp_path_factory.mktemp("cut")
    catalog = directory / "catalog.parquet"
    table = tiny_table(tiny_repo, N)
    pq.write_table(table.append_column("note", pa.array(["x" * (row % 9) for row in range(3 * N)])), catalog)
    return init_and_run(
        write_request(
            directory,
            tiny_repo,
            catalog,
            catalog={"uri": str(catalog), "carry": ["note"]},
            size=SIZE,
            planes=["image", "variance", "mask", "psf"],
            partition={"max_rows_per_file": 11},
        )
    )


@pytest.fixture
def campaign(tmp_path: Path, cut: Campaign) -> Campaign:
    """A copy of it that writes elsewhere."""
    shutil.copytree(cut.root, tmp_path / "campaign")
    copy = Campaign(tmp_path / "campaign")
    text = copy.request.read_text()
    copy.request.write_text(text.replace(str(cut.root.parent / "out"), str(tmp_path / "out")))
    return copy


@pytest.fixture(autouse=True)
def small_products_have_processes() -> object:
    with mock.patch.object(finish_module, "BYTES_PER_PROCESS", 1):
        yield


def digests(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("size=*/*")}


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "packagers" in " ".join(child.cmdline())]


def test_several_processes_give_the_bytes_of_one(tmp_path: Path, campaign: Campaign) -> None:
    seen = []
    assert finish(campaign) == COMPLETE
    expected = digests(tmp_path / "out")
    assert len(expected) == 11
    shutil.rmtree(tmp_path / "out")

    def note(done: int, total: int) -> None:
        assert len(children()) == 3
        seen.append((done, total))

    assert finish(campaign, processes=3, progress=note) == COMPLETE
    assert digests(tmp_path / "out") == expected
    assert seen[-1] == (3 * N, 3 * N) and [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert not children()
    assert verify_product(tmp_path / "out", sample=20).ok


def test_one_file_more_needs_one_process(tmp_path: Path, campaign: Campaign) -> None:
    assert finish(campaign, processes=2) == COMPLETE
    path = sorted((tmp_path / "out").glob("size=*/*"))[3]
    path.unlink()
    with mock.patch.object(finish_module, "Packagers", side_effect=AssertionError):
        assert finish(campaign, processes=2) == COMPLETE
    assert path.exists() and verify_product(tmp_path / "out", sample=0).ok


def test_killed_process_means_try_again(tmp_path: Path, campaign: Campaign) -> None:
    """As the kernel does when memory is short."""
    done = []

    def kill(rows: int, _: int) -> None:
        if not done:
            os.kill(children()[0].pid, signal.SIGKILL)
        done.append(rows)

    assert finish(campaign, processes=2, progress=kill) == TRY_AGAIN
    said = json.loads(campaign.finish_log.read_text())["message"]
    assert "was killed by signal 9" in said and "requestMemory" in said and f"tract{TRACT}" in said
    assert not children() and not list((tmp_path / "out").rglob("*.part"))
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert finish(campaign, processes=2) == COMPLETE
    assert verify_product(tmp_path / "out", sample=0).ok


def test_errors_of_a_process_keep_their_class(tmp_path: Path, campaign: Campaign) -> None:
    """A file where a directory should be is the user's to remove."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".bulkcutout-campaign.json").write_text(json.dumps({"campaign": str(campaign.root)}))
    (tmp_path / "out" / f"size={SIZE}").write_text("in the way")
    with pytest.raises(UserError, match=f"size={SIZE}"):
        finish(campaign, processes=2)
    assert not children()


def test_lost_cutouts_are_an_error_that_says_which(campaign: Campaign) -> None:
    """What goes away after it was found is for another try."""
    original = packagers.write_list

    def write_and_lose(path: Path, outputs: list[QuantumOutput]) -> None:
        original(path, [dataclasses.replace(each, path=path.with_name("gone.hdf5")) for each in outputs])

    with mock.patch.object(packagers, "write_list", write_and_lose):
        assert finish(campaign, processes=2) == TRY_AGAIN
    assert "FileNotFoundError" in json.loads(campaign.finish_log.read_text())["message"]
    assert not children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_end_of_the_first_process_ends_the_others(
    tmp_path: Path, campaign: Campaign, number: signal.Signals
) -> None:
    """Ctrl-C, a cancelled job, or worse: no half file under its name, nobody
    left who writes, and the next attempt does not find the lock taken.
    """
    code = f"""
        import time
        from pathlib import Path
        from lsst.dax.bulkcutout import finish as module
        from lsst.dax.bulkcutout.campaign import Campaign
        module.BYTES_PER_PROCESS = 1
        def slowly(done, total):
            print(done, flush=True)
            time.sleep(0.4)
        module.finish(Campaign(Path({str(campaign.root)!r})), processes=2, progress=slowly)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    process.stdout.readline()
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    process.send_signal(number)
    assert process.wait(20) != 0
    process.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    out = tmp_path / "out"
    assert not (out / "manifest.json").exists() and not list(out.rglob("*.part"))
    assert finish(campaign, processes=2) == COMPLETE
    assert verify_product(out, sample=0).ok


def test_process_clears_away_what_it_was_writing(tmp_path: Path, campaign: Campaign) -> None:
    """Its input ends in the middle of a file."""
    out = tmp_path / "out"
    code = f"""
        import sys, time
        from lsst.dax.bulkcutout.repackage import packagers
        from lsst.dax.bulkcutout.formats.hdf5 import HDF5Writer
        original = HDF5Writer.write
        def write(self, *given):
            original(self, *given)
            print("begun", file=sys.stderr, flush=True)
            time.sleep(30)
        HDF5Writer.write = write
        sys.argv = ["packagers", {str(campaign.root)!r}, {str(tmp_path / "outputs.json")!r},
                    {str(tmp_path / "shared.json")!r}, {str(out)!r}]
        packagers.main()
    """
    outputs = read_outputs(campaign).values()
    write_list(tmp_path / "outputs.json", outputs)
    write_shared(tmp_path / "shared.json", find_shared(outputs))
    file = next(iter(ProductFiles(load_request(campaign.request), campaign.read_plan(), campaign)))
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write(json.dumps(dataclasses.asdict(file)) + "\n")
    process.stdin.flush()
    while "begun" not in process.stderr.readline():
        assert process.poll() is None
    assert len(list(out.rglob("*.part"))) == 1
    begun = time.monotonic()
    process.communicate()
    assert time.monotonic() - begun < 15 and process.returncode == 128 + signal.SIGTERM
    assert not list(out.rglob("*.*"))


def test_workers_need_no_butler(campaign: Campaign) -> None:
    """They start in half a second then, and are small."""
    code = (
        "import sys, lsst.dax.bulkcutout.repackage.packagers; print([n for n in sys.modules if 'lsst.' in n])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "lsst.dax.bulkcutout.repackage.repackager" in found
    assert "lsst.daf" not in found and "lsst.pipe" not in found


def test_number_of_processes_has_a_bound() -> None:
    assert 1 <= packagers.available_cores() <= 4
