# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Requests and campaigns are held to the policy of a site."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from click.testing import CliRunner

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.cli import cli
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.estimate.forecast import estimate_request
from lsst.dax.bulkcutout.estimate.numbers import Estimate
from lsst.dax.bulkcutout.policy.active import active_campaigns, building
from lsst.dax.bulkcutout.policy.cost_rules import broken_limits
from lsst.dax.bulkcutout.policy.request_rules import broken_rules
from lsst.dax.bulkcutout.policy.site_policy import SitePolicy
from lsst.dax.bulkcutout.request import CutoutRequest, check_request
from lsst.dax.bulkcutout.submit import CONFIG_DIRECTORY, prepare
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.watch.register import CAMPAIGNS_VARIABLE, note_campaign

USER = pwd.getpwuid(os.getuid()).pw_name


def policy(**fields: Any) -> SitePolicy:
    return SitePolicy.model_validate({"contact": "cutouts@example.org", **fields})


def ask(**fields: Any) -> CutoutRequest:
    return check_request(
        {
            "request_id": "x",
            "catalog": {"uri": "/c.parquet", "lookup": "object"},
            "butler": "dp2_prod",
            "collections": ["runs/DP2"],
            "dataset_type": "deep_coadd",
            "companions": {"psf": "coadd_psf"},
            "size": 9,
            "output": "/out",
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("rule", "good", "bad", "said"),
    [
        ("repositories", ["dp2*"], ["dp1", "/repo/*"], "repository dp2_prod: allowed are dp1, /repo/*"),
        ("collections", ["runs/*"], ["runs/DP?1"], "collection runs/DP2: allowed are runs/DP?1"),
        ("collections", ["runs/DP2"], [], "collection runs/DP2: allowed are none"),
        (
            "dataset_types",
            ["deep_*", "object", "*_psf"],
            ["deep_*", "object"],
            "dataset type coadd_psf: allowed are deep_*, object",
        ),
        (
            "dataset_types",
            ["deep_*", "object", "*_psf"],
            ["deep_*", "*_psf"],
            "dataset type object: allowed are deep_*, *_psf",
        ),
        ("service_account", USER, "svc", f"the user who submits is {USER}, and must be svc"),
        ("software", {"pydantic": None}, {"pydantic": "0.1"}, "package pydantic is "),
    ],
)
def test_rule_lets_pass_what_it_allows(rule: str, good: Any, bad: Any, said: str) -> None:
    if rule == "software":
        import pydantic

        good = {"pydantic": pydantic.VERSION}
    assert list(broken_rules(policy(**{rule: good}), ask())) == []
    (told,) = broken_rules(policy(**{rule: bad}), ask())
    assert told.startswith(said)


def test_repository_is_not_reached_by_way_of_dots_or_links(tmp_path: Path) -> None:
    """Allowed is what the file system resolves the path to, too."""
    for name in ("public/main", "secret/main"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "public" / "main")

    def allowed(name: str) -> bool:
        rules = policy(repositories=[f"{tmp_path}/public/*"])
        return not list(broken_rules(rules, ask(butler=f"{tmp_path}/{name}")))

    assert allowed("public/main") and allowed("public/main/butler.yaml") and allowed("link")
    assert not allowed("public/../secret/main") and not allowed("secret/main")
    assert allowed("secret/../public/main")


@pytest.mark.parametrize(
    ("url", "hosts", "https_only", "refused"),
    [
        ("https://a.example.org/x", ["a.example.org"], True, 0),
        ("https://a.example.org:8443/x", ["*.example.org"], True, 0),
        ("https://example.org.evil.net/", ["*example.org"], True, 1),
        ("http://a.example.org/x", ["a.example.org"], True, 1),
        ("http://localhost:8080/x", ["localhost:8081"], False, 1),
        ("http://evil.net/x", [], True, 2),
    ],
)
def test_callback_goes_to_allowed_hosts_only(
    url: str, hosts: list[str], https_only: bool, refused: int, tmp_path: Path
) -> None:
    (tmp_path / "secret").touch(mode=0o600)
    request = ask(notify={"url": url, "secret_file": str(tmp_path / "secret")})
    rules = policy(callback_hosts=hosts, callback_https_only=https_only)
    assert len(list(broken_rules(rules, request))) == refused


class Case(NamedTuple):
    """A request for the tiny sky, and what it costs."""

    request: Path
    estimate: Estimate


@pytest.fixture
def case(tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path) -> Case:
    request = write_request(tmp_path, tiny_repo, tiny_catalog, size=9)
    return Case(request, estimate_request(request))


def test_limit_is_the_most_that_is_allowed(case: Case, tmp_path: Path) -> None:
    """18 rows in 3 patches, by the catalog; bytes by the estimate."""
    of = case.estimate
    for limit, value in {
        "max_rows": 18,
        "max_quanta": 3,
        "max_read_bytes": of.image_bytes,
        "max_product_bytes": of.product_bytes,
        "max_packaging_bytes": of.product_bytes,
    }.items():
        campaign = Campaign(tmp_path / "none")
        assert list(broken_limits(policy(**{limit: value}), of, campaign)) == []
        (told,) = broken_limits(policy(**{limit: value - 1}), of, campaign)
        assert "at most" in told and told.split()[-1] not in ("most", "")


def test_space_counts_what_is_still_to_be_written(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 per cent and 1 kB above intermediates and product; what an earlier
    attempt has written is there.
    """
    campaign = Campaign(tmp_path / "campaign")
    needed = case.estimate.needed_bytes
    usage = shutil.disk_usage(tmp_path)

    def told(free: int) -> list[str]:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
        return list(broken_limits(policy(free_space_margin=10, min_free_bytes=1000), case.estimate, campaign))

    enough = round(needed * 1.1) + 1001
    assert told(enough) == [] and "are free at" in told(enough - 2)[0]
    campaign.datastore.mkdir(parents=True)
    (campaign.datastore / "cutouts").write_bytes(bytes(5000))
    assert told(enough - 5400) == []


def test_campaigns_at_work_are_counted(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that builds its graph is at work; one that is only prepared, or
    complete, is not.
    """
    # Not the register of all tests, some of which leave campaigns undone.
    monkeypatch.setenv(CAMPAIGNS_VARIABLE, str(tmp_path / "campaigns"))
    mine = Campaign(tmp_path / "mine")
    prepared = prepare(case.request, site="local")
    assert active_campaigns(mine) == {}
    with building(prepared):
        assert active_campaigns(mine) == {prepared.root: "building its graph"}
        assert active_campaigns(prepared) == {}
        other = json.loads(case.request.read_text()) | {"output": "out2"}
        (tmp_path / "other.json").write_text(json.dumps(other))
        (tmp_path / "policy.yaml").write_text("contact: me@x.org\nmax_campaigns: 1\n")
        with pytest.raises(UserError, match=f"1 campaigns at work: at most 1 .* {prepared.root} "):
            prepare(tmp_path / "other.json", site="local", policy_file=tmp_path / "policy.yaml")
    complete, _ = run_here(write_request_to(tmp_path / "third", case))
    note_campaign(complete)
    assert active_campaigns(mine) == {}


def write_request_to(directory: Path, case: Case) -> Path:
    directory.mkdir()
    path = directory / "request.json"
    path.write_text(case.request.read_text())
    return path


def test_all_that_is_refused_is_said_at_once_and_there_is_no_graph(case: Case, tmp_path: Path) -> None:
    """By submit what needs no data, by build-graph what it costs; each with
    the contact.
    """
    limits = {"max_rows": 5, "max_quanta": 1, "max_product_bytes": "1 kB", "contact": "me@x.org"}
    rights = {"collections": ["other"], "dataset_types": [], "contact": "me@x.org"}
    for name, fields in {"limits": limits, "rights": rights}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(fields))
    with pytest.raises(UserError, match="refuses campaign") as caught:
        prepare(case.request, site="local", policy_file=tmp_path / "rights.yaml")
    assert [line.split()[0] for line in str(caught.value).splitlines()[1:]] == [
        "collection",
        "dataset",
        "For",
    ]
    assert not (tmp_path / "out.campaign").exists() and not (tmp_path / "out").exists()
    campaign = prepare(case.request, site="local", policy_file=tmp_path / "limits.yaml")
    graph = tmp_path / "g.qg"
    build = ["build-graph", str(campaign.root), "--graph", str(graph), "--output-run", "u/x/1"]
    # The copy in the campaign counts, also where nobody names a policy.
    said = str(CliRunner().invoke(cli, build).exception)
    assert [line.split()[1] for line in said.splitlines()[1:]] == ["rows:", "quanta:", "kB", "more"]
    assert "18 rows: at most 5" in said and said.endswith("ask me@x.org.")
    assert not graph.exists() and not campaign.graph_files()
    # And an operator who names none and has no copy is free.
    campaign.policy.unlink()
    assert CliRunner().invoke(cli, [*build, "--policy="], catch_exceptions=False).exit_code == 0


def test_estimate_says_what_the_site_would_refuse(case: Case, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("contact: me@x.org\nmax_rows: 5\ndataset_types: [a]\n")
    (tmp_path / "site.yaml").write_text("computeSite: x\nsitePolicy: policy.yaml\n")
    for options in (["--policy", str(tmp_path / "policy.yaml")], ["--site", str(tmp_path / "site.yaml")]):
        run = CliRunner().invoke(cli, ["estimate", str(case.request), *options, "--json"])
        refusals = json.loads(run.stdout)["refusals"]
        assert run.exit_code == 0 and [text.split()[0] for text in refusals] == ["dataset", "18"]
    run = CliRunner().invoke(cli, ["estimate", str(case.request), "--site", "local"])
    assert "names no policy: it has no key sitePolicy" in str(run.exception)


def test_bps_gives_jobs_what_the_policy_says(case: Case, tmp_path: Path) -> None:
    """In the submit files of HTCondor, whatever the site says of it; the limit
    on reads is for those that read. No pool is needed.
    """
    (tmp_path / "policy.yaml").write_text(
        "contact: me@x.org\naccounting_group: group_cut\naccounting_user: cutter\npriority: -3\n"
        "read_limit: Cutout_Reads\nmax_rows: 100\n"
    )
    site = {
        "includeConfigs": [str(CONFIG_DIRECTORY / "sites" / "htcondor.yaml")],
        "memoryLimit": 8000,
        "sitePolicy": str(tmp_path / "policy.yaml"),
        "site": {
            "htcondor": {
                "accountingGroup": "group_site",
                "profile": {"condor": {"requirements": "(TARGET.HasCvmfs)"}},
            }
        },
    }
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    campaign = prepare(case.request, site=str(tmp_path / "site.yaml"))
    bps = Path(sys.executable).with_name("bps")
    environment = {**os.environ, "PATH": f"{bps.parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([bps, "prepare", campaign.bps_config], env=environment, cwd=tmp_path, check=True)
    jobs = {path.stem: path.read_text().splitlines() for path in campaign.submit.rglob("*.sub")}
    assert len(jobs) >= 3
    for name, lines in jobs.items():
        wanted = {"accounting_group=group_cut", "accounting_group_user=cutter", "priority=-3"}
        assert wanted | {"requirements=(TARGET.HasCvmfs)"} <= set(lines)
        reads = '+ConcurrencyLimits = "cutout_reads"' in lines
        assert reads == (name not in ("pipetaskInit", "finalJob"))
