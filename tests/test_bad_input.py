# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What bad input gets, as a user meets it on the command line: one message
that names the row, column or field, an exit code that means something, never
a traceback; and nothing is lost or half made.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tiny_sky import tiny_positions, tiny_table

from lsst.daf.butler import Butler, DatasetType
from lsst.dax.bulkcutout import cli, supervisor
from lsst.dax.bulkcutout.bps import run
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.finish import COMPLETE
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.quantum_graph_builder import build_graph
from lsst.dax.bulkcutout.target_table import TargetTableWriter
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import init_and_run, run_here, write_request

YOUR_TURN, WRONG_USAGE, TRY_AGAIN = 1, 64, 75


@dataclasses.dataclass(frozen=True)
class Said:
    """What a command has printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one message of a command that was refused."""
        assert "Traceback" not in self.err and "Traceback" not in self.out
        lines = self.err.splitlines()
        (start,) = [number for number, line in enumerate(lines) if line.startswith("bulkcutout: ")]
        # Further lines, one for every wrong field of a request, are indented.
        assert all(line.startswith("  ") for line in lines[start + 1 :]), self.err
        return "\n".join(lines[start:])


Command = Callable[..., Said]


@pytest.fixture
def bulkcutout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in this process: `main` with arguments."""
    # What a child process prints is not seen here.
    monkeypatch.setattr(supervisor, "supervise", lambda work, killed: work())

    def run(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["bulkcutout", *map(str, arguments)])
        root = logging.getLogger()
        handlers = list(root.handlers)
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        finally:
            root.handlers[:] = handlers
        return Said(status, *capsys.readouterr())

    return run


@pytest.fixture
def plan(bulkcutout: Command, tmp_path: Path) -> Command:
    """`bulkcutout build-graph` of a request, as BPS calls it; nothing that
    could be taken for a plan or a product may be left after a failure.
    """

    def build(request: Path, *options: str, campaign: Path = tmp_path / "campaign") -> Said:
        graph = tmp_path / "graph.qg"
        graph.unlink(missing_ok=True)
        before = set(campaign.glob("graphs/*"))
        said = bulkcutout(
            "build-graph", campaign, "--request", request, "--graph", graph, "--output-run", "u/x/1", *options
        )
        if said.status:
            assert not graph.exists() and set(campaign.glob("graphs/*")) == before
            assert not list(tmp_path.glob("**/manifest.json")) and not list(
                tmp_path.glob("**/status.parquet")
            )
        return said

    return build


Asked = Callable[..., Path]


@pytest.fixture
def ask(tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path) -> Asked:
    """Write a request for the tiny sky, with some fields as they are given;
    `table` replaces the catalog.
    """

    def write(*, table: pa.Table | None = None, catalog: dict[str, Any] | None = None, **fields: Any) -> Path:
        if table is not None:
            pq.write_table(table, tiny_catalog)
        given = {"uri": str(tiny_catalog), **(catalog or {})}
        return write_request(tmp_path, tiny_repo, tiny_catalog, **{"size": 9, "catalog": given, **fields})

    return write


@pytest.mark.parametrize(
    ("catalog", "fields", "wanted"),
    [
        (
            {"ra_column": "raa"},
            {},
            ["catalog.ra_column is 'raa'", "no such column (did you mean 'ra'?)", "id, ra, dec"],
        ),
        (
            {"carry": ["mag"]},
            {},
            ["catalog.carry is 'mag'", "no such column", "Its columns are: id, ra, dec."],
        ),
        ({}, {"size": {"column": "sizes"}}, ["size.column is 'sizes'", "Its columns are: id, ra, dec."]),
        (
            {"tract_column": "tract", "patch_column": "patch"},
            {},
            ["catalog.tract_column is 'tract'", "no such column"],
        ),
    ],
)
def test_unknown_column(ask: Asked, plan: Command, catalog: Any, fields: Any, wanted: list[str]) -> None:
    said = plan(ask(catalog=catalog, **fields))
    assert said.status == YOUR_TURN
    assert all(part in said.message for part in [*wanted, "catalog.parquet"]), said.message


def test_catalog_without_identifiers(ask: Asked, plan: Command, tiny_repo: SkyRepository) -> None:
    table = tiny_table(tiny_repo).rename_columns(["name", "ra", "dec"])
    said = plan(ask(table=table))
    assert said.status == YOUR_TURN
    assert "no column that looks like the identifier" in said.message
    assert "Name it in the request with catalog.id_column" in said.message and "name, ra, dec" in said.message


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_identifiers_that_lost_digits(
    ask: Asked, plan: Command, tiny_repo: SkyRepository, tiny_catalog: Path, kind: str
) -> None:
    """As pandas leaves them, where one was missing."""
    ids = [float(2**53 - 2 + row) for row in range(18)]
    table = tiny_table(tiny_repo, id=ids)
    request = ask(table=table)
    if kind == "csv":
        path = tiny_catalog.with_suffix(".csv")
        lines = [f"{row['id']!r},{row['ra']!r},{row['dec']!r}\n" for row in table.to_pylist()]
        path.write_text("id,ra,dec\n" + "".join(lines))
        request = ask(catalog={"uri": str(path)})
    said = plan(request)
    assert said.status == YOUR_TURN
    for part in (
        "column id",
        "9007199254740994.0 in row 4",
        "2^53",
        "digits have been lost",
        "int64 or string",
    ):
        assert part in said.message


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("none.parquet", None, "cannot be opened: No such file"),
        ("void.csv", b"", "is empty: it has no bytes"),
        ("header.csv", b"id,ra,dec\n", "is empty: it has columns but no rows"),
        ("table.fits", b"SIMPLE  =                    T", "it was cut short in a header"),
        ("torn.parquet", b"PAR1 and no end", "it is damaged or was cut short"),
    ],
)
def test_catalog_with_nothing_to_read(
    ask: Asked, plan: Command, tmp_path: Path, name: str, content: bytes | None, wanted: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    said = plan(ask(catalog={"uri": name}))
    assert said.status == YOUR_TURN
    assert f"Catalog {tmp_path / name}" in said.message and wanted in said.message


def test_parquet_without_rows(ask: Asked, plan: Command, tiny_repo: SkyRepository) -> None:
    said = plan(ask(table=tiny_table(tiny_repo)[:0]))
    assert said.status == YOUR_TURN and "is empty: it has columns but no rows." in said.message


@pytest.mark.parametrize("size", [0, -3, 100_000, 64.5, "big", None])
def test_absurd_size(ask: Asked, bulkcutout: Command, plan: Command, tmp_path: Path, size: Any) -> None:
    """Refused before anything is made, by both commands."""
    request = ask(size=size)
    before = set(tmp_path.iterdir())
    for said in (bulkcutout("submit", request), plan(request)):
        assert said.status == YOUR_TURN
        assert f"size is {size!r}: must be a whole number of pixels from 1 to 2000" in said.message
        assert str(request) in said.message
        assert set(tmp_path.iterdir()) == before


def test_request_of_a_newer_version(ask: Asked, bulkcutout: Command, tmp_path: Path) -> None:
    """Its new fields are not called unknown."""
    request = ask(schema_version=2, shape="round")
    before = set(tmp_path.iterdir())
    said = bulkcutout("submit", request)
    assert said.status == YOUR_TURN and set(tmp_path.iterdir()) == before
    assert "its schema_version is 2, and 1 is the newest that is known here" in said.message
    assert "Update" in said.message and "shape" not in said.message


def test_all_wrong_fields_at_once(ask: Asked, bulkcutout: Command) -> None:
    said = bulkcutout("submit", ask(sise=9, planes=["imag"], bands=[]))
    assert said.status == YOUR_TURN
    assert "sise is not a field (did you mean 'size'?)" in said.message
    assert "'imag' is not one of the planes (did you mean 'image'?)" in said.message
    assert "bands is []: must name at least one" in said.message


def test_request_that_is_not_there(bulkcutout: Command, plan: Command, tmp_path: Path) -> None:
    none = tmp_path / "none.yaml"
    for said in (bulkcutout("submit", none), plan(none)):
        assert said.status == YOUR_TURN
        assert f"Request file {none} cannot be read: No such file or directory." in said.message
    assert not list(tmp_path.iterdir())
    said = bulkcutout(
        "build-graph", tmp_path / "campaign", "--graph", tmp_path / "x.qg", "--output-run", "u/x/1"
    )
    assert said.status == YOUR_TURN and "has no request.yaml: name one with --request." in said.message


@pytest.fixture(scope="module")
def odd_repo(tmp_path_factory: pytest.TempPathFactory, tiny_repo: SkyRepository) -> Path:
    """The tiny repository with dataset types that are no coadds."""
    root = tmp_path_factory.mktemp("odd") / "repo"
    shutil.copytree(tiny_repo.root, root)
    with Butler.from_config(str(root), writeable=True) as butler:
        for name, dimensions in {
            "deep_coadd_catalog": ("skymap", "tract", "patch"),
            "visit_image": ("instrument", "visit", "detector"),
        }.items():
            kind = DatasetType(name, dimensions, "CellCoadd", universe=butler.dimensions)
            butler.registry.registerDatasetType(kind)
    return root


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        (
            {"dataset_type": "deep_coad"},
            "'dataset_type': the repository has no 'deep_coad' (did you mean 'deep_coadd' or ",
        ),
        ({"dataset_type": "zzz"}, "'dataset_type': the repository has no 'zzz'. It has: deep_coadd, deep"),
        (
            {"dataset_type": "visit_image"},
            "'dataset_type': 'visit_image' has dimensions detector, instrument, visit; cutouts need a coadd, "
            "with band, skymap, tract and patch.",
        ),
        ({"dataset_type": "deep_coadd_catalog"}, "has dimensions patch, skymap, tract; cutouts need"),
        (
            {"collections": ["coadds", "coads/run"]},
            "'collections': the repository has no 'coads/run' (did you mean 'coadds/run'",
        ),
        ({"bands": ["g", "rr"]}, "'bands': the repository has no 'rr' (did you mean 'r'?). It has: g, r."),
        ({"bands": ["G"]}, "'bands': the repository has no 'G' (did you mean 'g'?)"),
        (
            {"skymap": "tangent_tst"},
            "'skymap': the repository has no 'tangent_tst' (did you mean 'tangent_test'?)",
        ),
    ],
)
def test_names_that_the_repository_does_not_have(
    ask: Asked, plan: Command, odd_repo: Path, fields: Any, wanted: str
) -> None:
    said = plan(ask(butler=str(odd_repo), **fields))
    assert said.status == YOUR_TURN
    assert "Request field '" in said.message and wanted in said.message


@pytest.mark.parametrize(
    "kind", ["nothing", "empty", "no_yaml", "other_yaml", "label", "no_database", "file"]
)
def test_no_butler_repository(
    ask: Asked, plan: Command, tmp_path: Path, tiny_repo: SkyRepository, kind: str
) -> None:
    """Nothing there, an empty directory, one with something else in it, a
    label that no index has, a repository without its database.
    """
    place = tmp_path / "source"
    given = str(place)
    if kind == "label":
        given = "no_such_label"
    elif kind == "file":
        place.write_text("words\n")
    elif kind != "nothing":
        place.mkdir()
    if kind == "no_yaml":
        (place / "butler.yaml").write_text("{[ not yaml")
    elif kind == "other_yaml":
        (place / "butler.yaml").write_text("some: thing\n")
    elif kind == "no_database":
        shutil.copy(tiny_repo.root / "butler.yaml", place)
    said = plan(ask(butler=given))
    assert said.status == YOUR_TURN
    assert "Request field 'butler': " in said.message and given in said.message
    assert "is no Butler repository" in said.message
    # Opening a repository must not make one.
    assert not list(tmp_path.glob("**/*.sqlite3"))


@pytest.mark.parametrize("output", ["catalog.parquet/out", "/proc/bulkcutout/out"])
def test_output_that_cannot_be_written(
    ask: Asked, bulkcutout: Command, plan: Command, tmp_path: Path, output: str
) -> None:
    request = ask(output=output)
    for said in (bulkcutout("submit", request, "--campaign", tmp_path / "c"), plan(request)):
        assert said.status == YOUR_TURN
        assert "Request field 'output': " in said.message and output in said.message
        assert "cannot be used for the product" in said.message
        assert "Name a directory that you may write to." in said.message
    assert not (tmp_path / "c").exists()


def test_campaign_that_cannot_be_written(ask: Asked, bulkcutout: Command, tmp_path: Path) -> None:
    request = ask()
    for place in (tmp_path / "catalog.parquet" / "c", tmp_path / "catalog.parquet"):
        said = bulkcutout("submit", request, "--campaign", place, "--prepare-only")
        assert said.status == YOUR_TURN and str(place) in said.message


def test_output_in_use(ask: Asked, bulkcutout: Command, plan: Command, tmp_path: Path) -> None:
    """By another campaign, or by somebody's other files: both are kept."""
    assert bulkcutout("submit", ask(), "--prepare-only").status == 0
    request = ask(request_id="other")
    claimed = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for said in (
        bulkcutout("submit", request, "--campaign", tmp_path / "c2", "--prepare-only"),
        plan(request),
    ):
        assert said.status == YOUR_TURN
        assert f"'output': {tmp_path / 'out'} holds the product of campaign" in said.message
        assert "out.campaign" in said.message and "Name another directory" in said.message
        assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == claimed
    other = tmp_path / "results"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    said = bulkcutout("submit", ask(output="results"))
    assert said.status == YOUR_TURN and "holds other files (thesis.tex, ...)" in said.message
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["my results", "a;b", "$(id)", "naïve"])
def test_campaign_path_with_unsafe_characters(
    ask: Asked, bulkcutout: Command, tmp_path: Path, name: str
) -> None:
    """Named, or following from the output; the way out works."""
    request = ask(output=name)
    for options in ([], ["--campaign", tmp_path / name]):
        said = bulkcutout("submit", request, "--prepare-only", *options)
        assert said.status == YOUR_TURN
        assert "becomes part of command lines: use letters, digits and ._/+-=,@ only" in said.message
        assert "--campaign" in said.message
        assert not (tmp_path / name).exists()
    assert bulkcutout("submit", request, "--prepare-only", "--campaign", tmp_path / "ok").status == 0
    assert (tmp_path / name).is_dir()


@pytest.mark.parametrize(
    ("site", "wanted"),
    [
        (
            "locale",
            "No site is called 'locale' (did you mean 'local'?): the sites are htcondor, local, panda,",
        ),
        ("nersc", "No site is called 'nersc': the sites are"),
        ("./site.yaml", "There is no site configuration "),
    ],
)
def test_unknown_site(ask: Asked, bulkcutout: Command, tmp_path: Path, site: str, wanted: str) -> None:
    request = ask()
    before = set(tmp_path.iterdir())
    said = bulkcutout("submit", request, "--site", site)
    assert said.status == YOUR_TURN and wanted in said.message
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", ["status", "restart", "finish"])
def test_directory_that_is_no_campaign(bulkcutout: Command, tmp_path: Path, command: str) -> None:
    said = bulkcutout(command, tmp_path / "nothing")
    assert said.status == YOUR_TURN and "is not the directory of a campaign" in said.message
    (tmp_path / "nothing.campaign").mkdir()
    assert bulkcutout(command, tmp_path / "nothing").status == YOUR_TURN


@pytest.mark.parametrize("command", ["verify", "preview"])
def test_directory_that_is_no_product(bulkcutout: Command, tmp_path: Path, command: str) -> None:
    said = bulkcutout(command, tmp_path)
    assert said.status == YOUR_TURN and str(tmp_path) in said.message
    said = bulkcutout(command, tmp_path / "nothing")
    assert said.status == WRONG_USAGE and "does not exist" in said.err


def test_wrong_usage(bulkcutout: Command, tmp_path: Path) -> None:
    for arguments in (["sumbit", "x"], ["submit"], ["status", tmp_path, "--jsn"]):
        said = bulkcutout(*arguments)
        assert said.status == WRONG_USAGE and "Usage: " in said.err and "Traceback" not in said.err


@pytest.fixture
def mixed(tiny_repo: SkyRepository) -> pa.Table:
    """18 good rows and one of each kind of bad ones, every fourth."""
    good = tiny_table(tiny_repo, box=[9] * 18).to_pylist()
    bad = [
        {"ra": float("nan")},
        {"ra": float("inf")},
        {"dec": None},
        {"dec": 90.5},
        {"ra": 361.0},
        {"id": None},
        {"box": 0},
        {"box": 100_000},
    ]
    rows = []
    for number, row in enumerate(good):
        rows.append(row)
        if number % 2 == 0 and bad:
            rows.append({**row, "id": 900 + number, **bad.pop(0)})
    assert not bad
    return pa.Table.from_pylist(rows)


def test_bad_rows_cost_themselves_alone(ask: Asked, mixed: pa.Table, tmp_path: Path) -> None:
    """All others are delivered, and each bad one has a sentence with row,
    column, value and what is allowed.
    """
    _, status = run_here(ask(table=mixed, size={"column": "box"}))
    assert status == COMPLETE
    answers = pq.read_table(tmp_path / "out" / "status.parquet").to_pylist()
    assert [row["row"] for row in answers] == list(range(len(mixed)))
    assert [row["target_id"] for row in answers] == mixed["id"].to_pylist()
    assert Counter(row["status"] for row in answers) == {
        "delivered": 18, "invalid_position": 5, "invalid_id": 1, "invalid_size": 2,
    }  # fmt: skip
    assert [(row["row"], row["status"], row["reason"]) for row in answers if row["reason"]] == [
        (1, "invalid_position", "ra in row 1 is nan."),
        (4, "invalid_position", "ra in row 4 is inf: must be from -180 to 360 degrees."),
        (7, "invalid_position", "dec in row 7 is missing."),
        (10, "invalid_position", "dec in row 10 is 90.5: must be from -90 to 90 degrees."),
        (13, "invalid_position", "ra in row 13 is 361.0: must be from -180 to 360 degrees."),
        (16, "invalid_id", "id in row 16 is missing."),
        (19, "invalid_size", "box in row 19 is 0: must be a whole number of pixels from 1 to 2000."),
        (22, "invalid_size", "box in row 22 is 100000: must be a whole number of pixels from 1 to 2000."),
    ]


def test_no_target_on_any_image(ask: Asked, plan: Command, tiny_repo: SkyRepository, tmp_path: Path) -> None:
    """Far away, beside a row without position: the counts are said, and where
    the reasons are; with the catalog mended the same command goes on.
    """
    request = ask(table=pa.table({"id": [1, 2, 3], "ra": [200.0, 201.0, None], "dec": [-40.0] * 3}))
    said = plan(request)
    assert said.status == YOUR_TURN
    reasons = tmp_path / "campaign" / "refused.parquet"
    assert (
        "No target has an image: of 3 rows 1 are invalid_position, 2 are outside_footprint." in said.message
    )
    assert f"Each row's reason is in {reasons}." in said.message
    assert sorted(pq.read_table(reasons)["row"].to_pylist()) == [0, 1, 2]
    ask(table=tiny_table(tiny_repo))
    said = plan(request)
    assert said.status == 0 and "18 targets of 18 rows; refused: none" in said.out
    assert Campaign(tmp_path / "campaign").read_plan().targets == 18


def test_request_that_was_mended_is_taken(ask: Asked, plan: Command, tmp_path: Path) -> None:
    """An operator's own file, of which the campaign keeps a copy: a change
    counts until there is a graph, and is refused after that.
    """
    campaign = Campaign(tmp_path / "campaign")
    request = ask(bands=["x"])
    assert "no 'x'" in plan(request).message
    request = ask(bands=["r"])
    assert plan(request).status == 0 and campaign.read_plan().bands == ("r",)
    shutil.move(campaign.graphs, tmp_path / "kept")
    changed = ask(bands=["g"])
    assert plan(changed).status == 0 and campaign.read_plan().bands == ("g",)
    bands = campaign.request.read_text()
    said = plan(ask(bands=["r", "g"]), campaign=campaign.root)
    assert said.status == YOUR_TURN and "is not what campaign" in said.message
    assert campaign.request.read_text() == bands


def test_request_of_a_planned_campaign_that_was_changed(ask: Asked, plan: Command, tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "campaign")
    assert plan(ask()).status == 0
    changed = yaml.safe_load(campaign.request.read_text()) | {"size": 11}
    campaign.request.write_text(yaml.safe_dump(changed))
    said = plan(campaign.request)
    assert said.status == YOUR_TURN and "was changed after the campaign was planned" in said.message


def looks_like(kind: str, repo: SkyRepository) -> pa.Table:
    """Positions in degrees that look like something else, most of them in the
    images.
    """
    table = tiny_table(repo)
    if kind == "hours":
        far = pa.table({"id": [1, 2], "ra": [5.0, 23.0], "dec": [-50.0, 60.0]})
        table = pa.concat_tables([table, far])
    return table


@pytest.mark.parametrize("kind", ["radians", "hours"])
def test_warning_of_radians_and_hours_is_seen(
    ask: Asked, plan: Command, tiny_repo: SkyRepository, tmp_path: Path, kind: str
) -> None:
    """By whoever plans by hand, and in plan and manifest."""
    request = ask(table=looks_like(kind, tiny_repo))
    said = plan(request)
    assert said.status == 0
    (warning,) = Campaign(tmp_path / "campaign").read_plan().warnings
    assert f"as if they were in {kind}. They are taken for degrees." in warning
    assert "all right ascensions are from" in warning and "catalog.parquet" in warning
    assert f"WARNING {warning}" in said.err
    if kind == "radians":
        shutil.rmtree(tmp_path / "campaign")
        run_here(request)
        assert read_manifest(tmp_path / "out").execution["warnings"] == [warning]


def test_warnings_reach_who_submits(
    ask: Asked, bulkcutout: Command, tiny_repo: SkyRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BPS hides what build-graph prints: `submit` says it again."""
    request = ask(table=looks_like("hours", tiny_repo))

    def run_bps(campaign: Campaign) -> None:
        build_graph(campaign, tmp_path / "graph.qg", output_run="u/x/1", request_file=campaign.request)

    monkeypatch.setattr(run, "run_bps", run_bps)
    said = bulkcutout("submit", request)
    assert said.status == 0 and "running: 0 of 3 quanta done" in said.out
    assert "Warning: " in said.err and "as if they were in hours" in said.err


def test_radians_by_mistake(ask: Asked, plan: Command, tiny_repo: SkyRepository) -> None:
    """Nothing is found then, and the message says why."""
    ra, dec = tiny_positions(tiny_repo, 0, 12)
    table = pa.table({"id": np.arange(12), "ra": np.radians(ra), "dec": np.radians(dec)})
    said = plan(ask(table=table))
    assert said.status == YOUR_TURN
    assert "of 12 rows 12 are outside_footprint" in said.message and "in radians" in said.message
    assert "\n" not in said.message


def test_disk_full_while_planning(
    ask: Asked, plan: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To be tried again, and then it works."""
    request = ask()

    def write(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(TargetTableWriter, "write", write)
    said = plan(request)
    assert said.status == TRY_AGAIN and "No space left on device" in said.message
    assert not Campaign(tmp_path / "campaign").plan.exists()
    monkeypatch.undo()
    assert init_and_run(request).read_plan().targets == 18


def test_finish_before_anything_was_planned(ask: Asked, bulkcutout: Command, tmp_path: Path) -> None:
    assert bulkcutout("submit", ask(), "--prepare-only").status == 0
    said = bulkcutout("finish", tmp_path / "out")
    assert said.status == YOUR_TURN and "has no plan yet" in said.message
    said = bulkcutout("status", tmp_path / "out", "--json")
    assert said.status == TRY_AGAIN and json.loads(said.out)["state"] == "failed"
    assert "has no plan yet" in json.loads(said.out)["message"]


def test_campaign_that_has_run_is_not_run_anew(ask: Asked, bulkcutout: Command, tmp_path: Path) -> None:
    request = ask()
    run_here(request)
    root = tmp_path / "campaign"
    said = bulkcutout("submit", request, "--campaign", root)
    assert said.status == YOUR_TURN and f"`bulkcutout restart {root}` goes on with it" in said.message
    said = bulkcutout("restart", root)
    assert said.status == 0 and "complete: 3 of 3 quanta done" in said.out
    said = bulkcutout("build-graph", root, "--graph", tmp_path / "g2.qg", "--output-run", "u/x/2")
    assert said.status == YOUR_TURN and "All quanta of campaign" in said.message
    assert f"`bulkcutout finish {root}`" in said.message


def test_directory_in_use_is_no_campaign_directory(ask: Asked, bulkcutout: Command, tmp_path: Path) -> None:
    """What somebody keeps there is not overwritten."""
    place = tmp_path / "mine"
    place.mkdir()
    request = place / "request.yaml"
    request.write_text("# mine\n" + yaml.safe_dump(json.loads(ask(output="../out").read_text())))
    text = request.read_text()
    said = bulkcutout("submit", request, "--campaign", place, "--prepare-only")
    assert request.read_text() == text
    assert said.status == YOUR_TURN and "holds other files" in said.message
