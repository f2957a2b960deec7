# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The sites that the package comes with, as BPS understands them.

What only a pool can show is in tests/cluster/.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from tiny_sky import tiny_table

import lsst.ctrl.bps.htcondor
import lsst.ctrl.bps.parsl
import lsst.dax.bulkcutout.bps
from lsst.ctrl.bps import BPS_DEFAULTS, BpsConfig, GenericWorkflowJob
from lsst.ctrl.execute.allocatorParser import AllocatorParser
from lsst.ctrl.execute.condorInfoConfig import CondorInfoConfig
from lsst.dax.bulkcutout.bps import environment
from lsst.dax.bulkcutout.bps.environment import set_environment
from lsst.dax.bulkcutout.bps.on_cluster import leave_the_outer_dag
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.submit import CONFIG_DIRECTORY, prepare, site_names
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import write_request

FILES = {name: CONFIG_DIRECTORY / "sites" / f"{name}.yaml" for name in site_names()}
OF_HTCONDOR = ("htcondor", "slurm_pool", "usdf")

# Keys of PanDA's plugin, which is not installed: its utils.py has them.
OF_PANDA = {"runnerCommand"}
# Their keys are names that we or HTCondor have given.
NAMED = {"cluster", "environment", "pipetask", "profile", "site", "wmsConfig"}


def keys(section: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key."""
    for key, value in section.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from keys(value, (*path, key))


@pytest.fixture(scope="module")
def words() -> set[str]:
    """All words in BPS and its plugins: code, defaults and templates; and
    names of ours that our commands are made of.
    """
    commands = (CONFIG_DIRECTORY / "bulkcutout_bps.yaml").read_text()
    found = set(re.findall(r"\{(\w+)\}", commands))
    for package in (lsst.ctrl.bps, lsst.ctrl.bps.htcondor, lsst.ctrl.bps.parsl, lsst.dax.bulkcutout.bps):
        for path in Path(package.__path__[0]).rglob("*"):
            if path.suffix in (".py", ".yaml") and "tests" not in path.parts:
                found.update(re.findall(r"\w+", path.read_text()))
    # BPS looks for what a job has by the same name in the other spelling.
    for name in vars(GenericWorkflowJob)["__dataclass_fields__"]:
        first, *others = name.split("_")
        found.add(first + "".join(map(str.capitalize, others)))
    return found


@pytest.mark.parametrize("name", [*FILES, "bulkcutout_bps"])
def test_every_key_is_one_that_bps_looks_for(name: str, words: set[str]) -> None:
    """BPS ignores what it does not know, so a slip of the pen would too be
    ignored.
    """
    contents = yaml.safe_load((FILES.get(name) or CONFIG_DIRECTORY / f"{name}.yaml").read_text())
    for path in keys(contents):
        if len(path) > 1 and path[-2] in NAMED or path[-1].startswith("+"):
            continue
        assert path[-1] in words | OF_PANDA, ".".join(path)
        # What provisions is looked for in one place only.
        assert path[-1].startswith("provisioning") <= (path[0] == "provisioning"), ".".join(path)
    misspelt = {"provisioningMaxWalltime", "requestMem", "bpsUseshared", "accountGroup"}
    assert not misspelt & words


@pytest.mark.parametrize("name", [name for name in FILES if name != "panda"])
def test_site_is_what_its_name_says(name: str) -> None:
    """Loaded with the defaults of its plugin, as ``bps submit`` does."""
    config = BpsConfig(str(FILES[name]), defaults=BPS_DEFAULTS)
    assert config["computeSite"] == name
    plugin = "htcondor.HTCondorService" if name in OF_HTCONDOR else "parsl.ParslService"
    assert config["wmsServiceClass"] == f"lsst.ctrl.bps.{plugin}"
    assert config[f".site.{name}"]
    if name in OF_HTCONDOR:
        # The plugin looks for it at the site.
        assert config.search("bpsUseShared", opt={"curvals": {"curr_site": name}}) == (True, True)
        assert "TRUE" not in config[".wmsConfig.DAGMAN_MANAGER_JOB_APPEND_GETENV"]


def test_only_the_facility_provisions_by_itself() -> None:
    """`bin/cluster` has glideins; an unknown pool may be of another kind."""
    configs = {name: BpsConfig(str(FILES[name]), defaults=BPS_DEFAULTS) for name in OF_HTCONDOR}
    assert {name: config["provisionResources"] for name, config in configs.items()} == {
        "htcondor": False,
        "slurm_pool": False,
        "usdf": True,
    }
    for name in ("slurm_pool", "usdf"):
        # `sbatch -t` takes a bare number for minutes.
        assert re.fullmatch(r"\d\d:\d\d:00", configs[name][".provisioning.provisioningMaxWallTime"])


def test_panda_loads_without_its_plugin() -> None:
    """The plugin is not installed: only that the file is one for BPS."""
    config = BpsConfig(str(FILES["panda"]))
    assert config["wmsServiceClass"] == "lsst.ctrl.bps.panda.PanDAService"
    assert config["fileDistributionEndPoint"].endswith("/")
    assert "_cmd_line_" in config["runnerCommand"] and "loadLSST" in config["runnerCommand"]


# -- what BPS makes of the site of the facility ----------------------------


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Home of an operator at the facility, without HTCondor or SLURM."""
    home = tmp_path_factory.mktemp("home")
    (home / "scratch").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.upper().startswith(("_CONDOR_", "SLURM_"))]:
            patch.delenv(name)
        patch.setenv("CONDOR_CONFIG", "/dev/null")
        patch.setenv("HOME", str(home))
        patch.setenv("USER", "somebody")
        patch.setenv("SCRATCH", str(home / "scratch"))
        patch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
        yield home


@pytest.fixture(scope="module")
def operator(account: Path) -> Path:
    """What an operator adds to the site."""
    path = account / "operator.yaml"
    site = {
        "accountingGroup": "group_cutouts",
        "accountingUser": "{operator}",
        "profile": {"condor": {"+ConcurrencyLimits": "cutout_reads"}},
    }
    path.write_text(yaml.safe_dump({"includeConfigs": [str(FILES["usdf"])], "site": {"usdf": site}}))
    return path


@pytest.fixture(scope="module")
def prepared(tiny_repo: SkyRepository, operator: Path, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A campaign that BPS has made jobs of, for the facility."""
    directory = tmp_path_factory.mktemp("usdf")
    pq.write_table(tiny_table(tiny_repo), directory / "catalog.parquet")
    request = write_request(directory, tiny_repo, directory / "catalog.parquet")
    campaign = prepare(request, site=str(operator))
    run_bps_command("prepare", campaign.bps_config)
    return campaign


def run_bps_command(*command: str | Path) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("bps"), *command],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def submit_files(campaign: Campaign) -> tuple[Path, dict[str, dict[str, str]]]:
    """Directory of the only run, and the commands of each job by its label."""
    (directory,) = campaign.submit.glob("2*Z")
    files = {}
    for path in set(directory.glob("jobs/**/*.sub")) - set(directory.glob("jobs/provisioningJob/*")):
        pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
        commands = {name.strip(): value.strip() for name, value in pairs}
        files[commands["+bps_job_label"].strip('"')] = commands
    return directory, files


def check_that_named_files_are_there(directory: Path) -> None:
    """Everything that a DAG names; the plugin's wheel lacks some files of the
    plugin, of those kinds of DAG that we do not make.
    """
    named = set()
    for path in [*directory.glob("*.dag"), *directory.glob("jobs/**/*.sub")]:
        named.update(
            re.findall(r'(?<![\w}])(?:/[\w.+-]+)+\.(?:sub|sh|bash)\b|\$\{\w+\}[^ "]*', path.read_text())
        )
    assert not {name for name in named if not Path(name).is_file()}


def test_jobs_at_the_facility_ask_for_what_the_site_says(prepared: Campaign) -> None:
    directory, files = submit_files(prepared)
    assert set(files) >= {"pipetaskInit", "finalJob"} and len(files) >= 3
    # BPS forces the run's timestamp, and so the name of its directory.
    nodeset = directory.name
    for commands in files.values():
        assert commands["accounting_group"] == "group_cutouts"
        assert commands["accounting_group_user"] not in ("", "None")
        assert commands["+ConcurrencyLimits"] == '"cutout_reads"'
        assert commands["+AllowedJobDuration"] == "28800"
        assert commands["+JobLeaseDuration"] == "600"
        assert commands["+JobNodeset"] == f'"{nodeset}"'
        assert f'Target.Nodeset == "{nodeset}"' in commands["requirements"]
        # Doubled at each try, up to the memory of a node.
        assert re.search(
            r"min\(\{int\(\d+ \* pow\(2, NumJobStarts\)\), 491520\}\)", commands["request_memory"]
        )
        assert Path(commands["executable"]).is_file()
    assert files["finalJob"]["request_cpus"] == "8"
    assert "1280 * pow" in files["finalJob"]["request_memory"]
    check_that_named_files_are_there(directory)


def test_glideins_are_asked_for_as_the_facility_wants_it(
    prepared: Campaign, account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script that BPS writes is run, and what it calls notes how: read by
    the parser of the real allocateNodes.
    """
    (directory,) = prepared.submit.glob("2*Z")
    program = tmp_path / "execute" / "bin" / "allocateNodes.py"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/arguments\nkill -KILL $PPID\n')
    program.chmod(0o755)
    done = subprocess.run(
        [directory / "provisioningJob.bash"],
        env=os.environ | {"CTRL_EXECUTE_DIR": str(program.parents[1])},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    monkeypatch.setattr(sys, "argv", ["allocateNodes.py", *(tmp_path / "arguments").read_text().splitlines()])
    asked = AllocatorParser("allocateNodes.py").args
    assert (asked.platform, asked.queue, asked.account) == ("s3df", "milano", "rubin:developers")
    assert (asked.auto, asked.nodeset, asked.verbose) == (True, directory.name, True)
    assert (asked.nodeCount, asked.maximumWallClock, asked.glideinShutdown) == (20, "10:00:00", 900)
    # A job may not outlive its glidein.
    limit_s = yaml.safe_load(FILES["usdf"].read_text())["site"]["usdf"]["profile"]["condor"]
    assert limit_s["+AllowedJobDuration"] < 10 * 3600
    # Who asks, and where the files of glideins go.
    config = CondorInfoConfig()
    config.load(str(account / ".lsst" / "condor-info.py"))
    user = config.platform["s3df"].user
    assert (user.name, user.home, user.scratch) == ("somebody", str(account), str(account / "scratch"))


def test_jobs_can_set_up_a_stack_of_their_own(prepared: Campaign, operator: Path, tmp_path: Path) -> None:
    """The other way that usdf.yaml shows, for who submits from elsewhere."""
    lines = re.findall(
        r"^# ((?:bpsMakeCommand|lsstVersion|customEnvSetup): .*)$", FILES["usdf"].read_text(), re.M
    )
    shown = yaml.safe_load("\n".join(lines))
    assert len(shown) == 3
    config = tmp_path / "bps.yaml"
    (graph,) = prepared.graph_files()
    whole = yaml.safe_load(prepared.bps_config.read_text()) | shown
    config.write_text(
        yaml.safe_dump(
            whole
            | {"submitPath": str(tmp_path / "submit"), "createQuantumGraph": f"cp {graph} {{qgraphFile}}"}
        )
    )
    run_bps_command("prepare", config)
    files = [path.read_text() for path in (tmp_path / "submit").glob("jobs/[!p]*/**/*.sub")]
    assert len(files) >= 2
    for text in files:
        assert "executable=/bin/bash" in text and "getenv" not in text
        stack = text.index(f"/lsst_distrib/{shown['lsstVersion']}/loadLSST.bash")
        package = text.index("setup -k -r /path/to/dax_bulkcutout;")
        command = re.search("bulkcutout run-quanta|final_job.bash", text)
        assert command and stack < text.index("setup lsst_distrib") < package < command.start()


# -- the graph as a job of the cluster -------------------------------------


def test_graph_is_built_by_a_job_if_asked_for(coded_request: Path, operator: Path) -> None:
    """With a site's own settings for jobs, which BPS trips over here."""
    campaign = prepare(coded_request, site=str(operator), build_on_cluster=True)
    config = yaml.safe_load(campaign.bps_config.read_text())
    campaign.bps_config.write_text(yaml.safe_dump(config | {"dryRun": True}))
    run_bps_command("submit", campaign.bps_config)
    directory, files = submit_files(campaign)
    assert set(files) == {"buildQuantumGraph", "preparePayloadWorkflow"}
    assert "batch-acquire" in files["buildQuantumGraph"]["arguments"]
    assert files["preparePayloadWorkflow"]["executable"].endswith("/bulkcutout")
    # What is the user's to put right is not tried again.
    assert files["buildQuantumGraph"]["retry_until"] == "member(ExitCode, {1,2})"
    for commands in files.values():
        assert f'Target.Nodeset == "{directory.name}"' in commands["requirements"]
        assert "32768 * pow" in commands["request_memory"]
    check_that_named_files_are_there(directory)


def test_restart_takes_up_the_outer_of_two_dags(tmp_path: Path) -> None:
    for name in ("run.dag", "run_ctrl.dag", "run.dag.condor.sub", "run_ctrl.dag.condor.sub"):
        (tmp_path / name).touch()
    leave_the_outer_dag(tmp_path)
    assert [path.name for path in tmp_path.glob("*.sub")] == ["run_ctrl.dag.condor.sub"]
    assert len(list(tmp_path.iterdir())) == 3
    # A run with one.
    (tmp_path / "run_ctrl.dag.condor.sub").rename(tmp_path / "run.dag.condor.sub")
    leave_the_outer_dag(tmp_path)
    assert (tmp_path / "run.dag.condor.sub").exists()


def test_site_without_a_cluster_builds_no_graph_on_one(coded_request: Path) -> None:
    with pytest.raises(UserError, match="site local the graph is built where you submit"):
        prepare(coded_request, site="local", build_on_cluster=True)
    assert not list(coded_request.parent.glob("out*"))


# -- the environment of who submits ----------------------------------------


def test_environment_is_passed_on_and_what_is_set_is_left(
    coded_request: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = prepare(coded_request, site="usdf")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "allocateNodes.py").touch()
    monkeypatch.setattr(environment.sys, "executable", str(programs / "python"))
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    set_environment(campaign.bps_config)
    assert os.environ["PATH"] == f"{programs}:/bin"
    assert os.environ["CTRL_EXECUTE_DIR"] == str(tmp_path)
    names = os.environ["_CONDOR_DAGMAN_MANAGER_JOB_APPEND_GETENV"].split(", ")
    assert {"EUPS_*", "*_DIR", "SCRATCH", "DAF_BUTLER_*"} <= set(names)
    # Nothing that holds a secret itself.
    assert not [name for name in names if re.search("TOKEN|SECRET|PASSWORD|^AWS_ACCESS", name)]
    monkeypatch.setattr(
        os, "environ", {"CTRL_EXECUTE_DIR": "/stack", f"_CONDOR_{environment.FORWARDED}": "A"}
    )
    set_environment(campaign.bps_config)
    assert os.environ["CTRL_EXECUTE_DIR"] == "/stack"
    assert os.environ[f"_CONDOR_{environment.FORWARDED}"] == "A"


def test_site_without_htcondor_sets_nothing_for_it(
    coded_request: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = prepare(coded_request, site="local")
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    set_environment(campaign.bps_config)
    assert not [name for name in os.environ if name.startswith("_CONDOR_")]
