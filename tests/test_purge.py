# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Deleting campaigns whose time is over, and nothing else."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.cli import cli
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import finish
from lsst.dax.bulkcutout.policy.active import building
from lsst.dax.bulkcutout.policy.lifetime import Lifetime
from lsst.dax.bulkcutout.policy.purge import Purged, purge, purge_all
from lsst.dax.bulkcutout.quantum_graph_builder import build_graph
from lsst.dax.bulkcutout.restart import restart
from lsst.dax.bulkcutout.submit import prepare
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.verify.product import verify_product
from lsst.dax.bulkcutout.watch.status import read_status

MONTH = Lifetime(intermediates=30, products=60)
RECORD = {"request.yaml", "plan.json", "finish.json", "purged.json", "campaign-butler.yaml"}


@pytest.fixture
def campaign(tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path) -> Campaign:
    """A complete one."""
    made, status = run_here(write_request(tmp_path, tiny_repo, tiny_catalog, size=9))
    assert status == 0
    return made


def out(campaign: Campaign) -> Path:
    return campaign.root.parent / "out"


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def n_bytes(directory: Path) -> int:
    return sum(len(value) for value in contents(directory).values())


def after(days: float, campaign: Campaign, lifetime: Lifetime = MONTH, **options: Any) -> Purged:
    """Purge it some days from now."""
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    return purge(campaign, lifetime, now=now, **options)


def test_intermediates_go_and_the_record_stays(campaign: Campaign) -> None:
    """The bytes are those that are no longer there; the product is untouched,
    and the campaign complete as before.
    """
    product, before = contents(out(campaign)), n_bytes(campaign.root)
    dry = after(31, campaign, dry_run=True)
    assert n_bytes(campaign.root) == before and not campaign.purged.exists()
    done = after(31, campaign)
    assert done.bytes == dry.bytes > 10_000 and not done.kept and not done.left
    note = len(campaign.purged.read_bytes())
    assert n_bytes(campaign.root) == before - done.bytes + note
    assert RECORD <= {path.name for path in campaign.root.iterdir()}
    assert not any(path.is_dir() for path in campaign.root.iterdir())
    assert contents(out(campaign)) == product and verify_product(out(campaign), sample=3).ok
    status = read_status(campaign)
    assert status.state == "complete" and status.rows == 18
    assert "purged" in status.message
    again = after(32, campaign)
    assert "as it was purged on" in again.kept and again.bytes == 0


def test_nothing_goes_on_with_a_purged_campaign(campaign: Campaign, tmp_path: Path) -> None:
    """Above all: the product stays as it is, and so does the note of how the
    campaign ended.
    """
    after(31, campaign)
    product, note = contents(out(campaign)), campaign.finish_log.read_text()
    request = tmp_path / "request.json"
    refused = [
        lambda: finish(campaign),
        lambda: restart(campaign),
        lambda: restart(campaign, request),
        lambda: prepare(request, site="local", directory=campaign.root),
        lambda: build_graph(campaign, tmp_path / "new.qg", output_run="u/x/9"),
    ]
    for go_on in refused:
        with pytest.raises(UserError, match="was purged on .*its product is what it was.*another output"):
            go_on()
    graph = ["build-graph", str(campaign.root), "--graph", str(tmp_path / "g.qg"), "--output-run", "u/x/9"]
    assert isinstance(CliRunner().invoke(cli, graph).exception, UserError)
    assert contents(out(campaign)) == product and campaign.finish_log.read_text() == note


def test_what_is_young_or_has_no_lifetime_is_kept(campaign: Campaign) -> None:
    before = contents(campaign.root)
    end = datetime.datetime.fromisoformat(json.loads(campaign.finish_log.read_text())["time"])
    assert f"until {end + datetime.timedelta(days=30):%Y-%m-%d}" in after(29, campaign).kept
    assert "--older-than DAYS" in after(9999, campaign, Lifetime(None, None)).kept
    assert contents(campaign.root) == before


def test_links_are_not_followed(campaign: Campaign, tmp_path: Path) -> None:
    """A directory that is a link is left alone; links inside are removed, and
    what they lead to is not.
    """
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("do not touch")
    shutil.move(campaign.targets, elsewhere / "targets")
    campaign.targets.symlink_to(elsewhere / "targets")
    (campaign.datastore / "link").symlink_to(elsewhere)
    before = contents(elsewhere)
    done = after(31, campaign)
    assert done.left == (f"{campaign.targets} is a link to {elsewhere / 'targets'}",)
    assert not campaign.datastore.exists() and contents(elsewhere) == before


def test_product_whose_files_are_elsewhere_loses_only_its_own(campaign: Campaign, tmp_path: Path) -> None:
    (sized,) = out(campaign).glob("size=*")
    shutil.move(sized, tmp_path / "moved")
    sized.symlink_to(tmp_path / "moved")
    before = contents(tmp_path / "moved")
    done = after(61, campaign, products=True)
    assert contents(tmp_path / "moved") == before
    assert len([text for text in done.left if "leads out of" in text]) == len(before)


def test_product_whose_manifest_is_damaged_is_left_alone(campaign: Campaign, tmp_path: Path) -> None:
    """Here it names a file elsewhere."""
    stranger = tmp_path / "stranger.txt"
    stranger.write_text("not ours")
    manifest = json.loads((out(campaign) / "manifest.json").read_text())
    manifest["files"].append({**manifest["files"][0], "path": "../stranger.txt"})
    (out(campaign) / "manifest.json").write_text(json.dumps(manifest))
    assert "its product is not there" in after(61, campaign, products=True).kept
    product = contents(out(campaign))
    done = after(61, campaign, products=True, incomplete=True)
    assert "nobody can tell what belongs to it" in done.left[0]
    assert stranger.exists() and contents(out(campaign)) == product


def test_incomplete_campaign_is_kept_unless_one_says_so(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path
) -> None:
    campaign, _ = run_here(write_request(tmp_path, tiny_repo, tiny_catalog, size=9), fail=[(3, 1)])
    assert "as it is not complete: `bulkcutout restart` it, or say --incomplete" in after(99, campaign).kept
    assert campaign.datastore.exists()
    assert after(99, campaign, incomplete=True).bytes > 0 and not campaign.datastore.exists()


def test_intermediates_of_a_product_that_is_damaged_are_kept(campaign: Campaign) -> None:
    """They are all that can give it back."""
    (lost, *_) = sorted(out(campaign).glob("size=*/**/*.h*"))
    lost.unlink()
    assert f"its product lacks {lost}" in after(31, campaign).kept
    assert finish(campaign) == 0 and not after(31, campaign).kept


def test_campaign_at_work_is_kept(campaign: Campaign) -> None:
    # A new attempt takes the note of the last one away, and runs.
    note = campaign.finish_log.read_text()
    campaign.finish_log.unlink()
    assert after(31, campaign, incomplete=True).kept == "as it is running: `bulkcutout cancel` it first"
    campaign.finish_log.write_text(note)
    with building(campaign), pytest.raises(UserError, match="another process is at work"):
        after(31, campaign)
    assert campaign.datastore.exists()


def test_purge_that_was_cut_short_is_given_again(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first act on, nothing goes on with the campaign."""

    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fail)
        text = purge_all([campaign.root], older_than_days=0)
    assert "kept, because of this: " in text and "Input/output error" in text
    product = contents(out(campaign))
    with pytest.raises(UserError, match="was purged on"):
        finish(campaign)
    assert after(31, campaign).bytes > 0 and not campaign.graphs.exists()
    assert RECORD <= {path.name for path in campaign.root.iterdir()}
    assert not any(path.is_dir() for path in campaign.root.iterdir())
    assert contents(out(campaign)) == product


def test_product_goes_only_when_asked_and_its_own_time_is_over(campaign: Campaign) -> None:
    """Its manifest is kept, and so are files of others."""
    (out(campaign) / "notes.txt").write_text("mine")
    size = n_bytes(out(campaign))
    manifest = (out(campaign) / "manifest.json").read_text()
    assert after(99, campaign, Lifetime(30, None), products=True).product_bytes is None
    assert after(59, campaign, products=True).bytes == 0
    assert after(61, campaign).bytes == 0
    done = after(61, campaign, products=True)
    claim = (out(campaign) / ".bulkcutout-campaign.json").stat().st_size
    assert done.product_bytes == size - len("mine") - claim
    assert {path.name for path in out(campaign).iterdir()} == {"notes.txt", ".bulkcutout-campaign.json"}
    assert (campaign.root / "manifest.json").read_text() == manifest
    with pytest.raises(UserError, match="its product is gone, too"):
        finish(campaign)
    assert read_status(campaign).state == "complete"


def test_product_of_another_campaign_is_left_alone(campaign: Campaign) -> None:
    claim = out(campaign) / ".bulkcutout-campaign.json"
    claim.write_text(json.dumps({"campaign": "/somewhere/else"}))
    product = contents(out(campaign))
    done = after(61, campaign, products=True)
    assert (
        done.left == (f"{out(campaign)} belongs to /somewhere/else",) and contents(out(campaign)) == product
    )


def test_command_goes_by_the_policy_of_each_campaign(campaign: Campaign, tmp_path: Path) -> None:
    """Without names: those of the register."""

    def said(*options: str) -> str:
        return CliRunner().invoke(cli, ["purge", *options], catch_exceptions=False).output

    assert f"{campaign.root}: kept, nobody has said for how long" in said()
    campaign.policy.write_text("contact: a@b.org\nintermediates_days: 1\n")
    assert "kept, until " in said() and said().endswith("0 B freed.\n")
    assert "The site keeps intermediates until 20" in read_status(campaign).message
    (tmp_path / "site.yaml").write_text("contact: a@b.org\nproducts_days: 1\n")
    assert "nobody has said" in said("--policy", str(tmp_path / "site.yaml"))
    would = said("--older-than", "0", "--dry-run")
    assert "would delete intermediates of" in would and "would be freed." in would
    assert campaign.datastore.exists()
    assert "deleted intermediates of" in said(str(out(campaign).with_name("campaign")), "--older-than", "0")
    assert not campaign.datastore.exists()
    assert "complete, purged" in CliRunner().invoke(cli, ["list"], catch_exceptions=False).output
    run = CliRunner().invoke(cli, ["purge", str(tmp_path / "nothing")])
    assert "is not the directory of a campaign" in str(run.exception)
