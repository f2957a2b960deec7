# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The pages of doc/ and the README: their Python runs, their requests load,
their commands parse, and their tables say what the code says.

A page that fails here is mended where it is wrong: on the page, as a rule.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
import pyarrow as pa
import pytest
import yaml
from test_imports import LEVELS

import lsst.dax.bulkcutout
from lsst.dax.bulkcutout import campaign, cli, finish, manifest, masks, request, software, submit, tables
from lsst.dax.bulkcutout.callback import message, webhook
from lsst.dax.bulkcutout.catalog.column_choice import GUESSES, MEANINGS
from lsst.dax.bulkcutout.cli import exit_codes
from lsst.dax.bulkcutout.policy.site_policy import SitePolicy, load_policy
from lsst.dax.bulkcutout.skymap import rings as skymap
from lsst.dax.bulkcutout.tests.products import MASK_FRACTIONS, N_NOISE, SmallProduct

docutils_core = pytest.importorskip("docutils.core", reason="docutils is not installed")
docutils_nodes = pytest.importorskip("docutils.nodes", reason="docutils is not installed")

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOC = ROOT / "doc"
PAGES = {path.name: path for path in (README, *sorted([*DOC.glob("*.rst"), *DOC.glob("*.md")]))}

MINIMAL_REQUEST = {
    "request_id": "minimal",
    "catalog": {"uri": "catalog.parquet"},
    "butler": "/repo/dp2",
    "collections": ["coadds"],
    "dataset_type": "deep_coadd",
    "size": 64,
    "output": "out",
}
"""What the pieces of requests on the pages are pieces of."""

SHELL = {".", "cd", "eval", "export", "setup", "sha256sum"}
"""Programs that need no check of ours."""


@dataclasses.dataclass
class Page:
    """What a test looks at."""

    blocks: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """Language and text of each block of code."""

    links: list[str] = dataclasses.field(default_factory=list)
    literals: list[str] = dataclasses.field(default_factory=list)
    tables: list[list[tuple[str, ...]]] = dataclasses.field(default_factory=list)
    """Rows of each table, its header first."""

    complaints: list[str] = dataclasses.field(default_factory=list)

    def code(self, *languages: str) -> list[str]:
        return [text for language, text in self.blocks if language in languages]

    def table(self, first: str) -> list[tuple[str, ...]]:
        """Rows of the tables whose first column has this heading."""
        return [row for table in self.tables if table[0][0] == first for row in table[1:]]


def read_page(path: Path) -> Page:
    return _read_markdown(path.read_text()) if path.suffix == ".md" else _read_rst(path)


def _read_rst(path: Path) -> Page:
    settings = {"report_level": 1, "halt_level": 5, "warning_stream": False, "syntax_highlight": "none"}
    tree = docutils_core.publish_doctree(path.read_text(), source_path=str(path), settings_overrides=settings)
    page = Page(complaints=[node.astext() for node in tree.findall(docutils_nodes.system_message)])
    for node in tree.findall(docutils_nodes.literal_block):
        languages = [name for name in node["classes"] if name != "code"]
        page.blocks.append((languages[0] if languages else "text", node.astext()))
    page.links = [node["refuri"] for node in tree.findall(docutils_nodes.reference)]
    page.literals = [node.astext() for node in tree.findall(docutils_nodes.literal)]
    for table in tree.findall(docutils_nodes.table):
        rows = table.findall(docutils_nodes.row)
        page.tables.append([tuple(entry.astext() for entry in row.children) for row in rows])
    return page


def _read_markdown(text: str) -> Page:
    page = Page(blocks=re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE))
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    page.links = re.findall(r"\]\(([^)]+)\)", prose)
    page.literals = re.findall(r"`([^`]+)`", prose)
    for table in re.findall(r"(?:^\|.*\|\n)+", prose, flags=re.MULTILINE):
        lines = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()]
        page.tables.append([lines[0], *lines[2:]])
    return page


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SmallProduct(tmp_path_factory.mktemp("docs"), planes=request.PLANES).make().out


@pytest.fixture
def desk(product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory of a reader of the pages: a product, ``out``."""
    shutil.copytree(product, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAX_BULKCUTOUT_DIR", lsst.dax.bulkcutout.__path__[0])
    return tmp_path


def run_python(name: str) -> dict[str, Any]:
    """Run the Python of a page, all in one namespace; gives the latter."""
    names: dict[str, Any] = {}
    for number, text in enumerate(read_page(PAGES[name]).code("python"), start=1):
        exec(compile(text, f"{name}, block {number}", "exec"), names)
    return names


# -- the pages as such -----------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_page_is_well_formed_and_its_links_lead_somewhere(name: str) -> None:
    page = read_page(PAGES[name])
    assert not page.complaints
    for link in page.links:
        if "://" not in link:
            assert (PAGES[name].parent / link).exists(), link


def test_readme_leads_to_every_page() -> None:
    links = read_page(README).links
    assert {f"doc/{name}" for name in PAGES if name != "README.md"} <= set(links)


def test_picture_is_small() -> None:
    """It is fetched with every clone."""
    assert (ROOT / "doc" / "contact-sheet.png").stat().st_size < 300_000


# -- code on the pages -----------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_python_runs(name: str, desk: Path) -> None:
    run_python(name)


def test_three_ways_of_opening_give_the_same(desk: Path) -> None:
    names = run_python("open.rst")
    assert np.array_equal(names["image"], names["flux"], equal_nan=True)
    assert np.array_equal(names["saturated"], names["is_saturated"])
    places = [names[pair] for pair in ("x", "y", "column", "row", "x_target", "y_target")]
    assert np.allclose(places[0::2], places[0], atol=1e-6) and np.allclose(places[1::2], places[1], atol=1e-6)
    assert (desk / "target.fits").exists() and names["chosen"]


def test_which_patch_says_what_the_formula_gives(desk: Path) -> None:
    """The numbers on the page are those of a position in DP1's field, from a
    table that does not come from this code.
    """
    names = run_python("which-patch.rst")
    assert (names["tract"], names["patch"]) == (5063, 14)
    assert np.allclose((names["x"], names["y"]), (14325.053, 4570.428), atol=1e-3)


def yaml_blocks() -> Iterator[Any]:
    for name, path in PAGES.items():
        for number, text in enumerate(read_page(path).code("yaml"), start=1):
            yield pytest.param(text, id=f"{name}-{number}")


@pytest.mark.parametrize("text", list(yaml_blocks()))
def test_yaml_is_a_request_or_settings_of_bps(text: str, desk: Path) -> None:
    contents = yaml.safe_load(text)
    path = desk / "block.yaml"
    if "includeConfigs" in contents:
        from lsst.ctrl.bps import BpsConfig

        path.write_text(text)
        config = BpsConfig(str(path))
        assert config["wmsServiceClass"]
        if "campaignDir" in contents:
            _, command = config.search("createQuantumGraph", opt={"replaceVars": False})
            assert re.match(r"bulkcutout (-v )?build-graph \{campaignDir\}", command)
    elif "contact" in contents:
        path.write_text(text)
        load_policy(path)
    else:
        whole = contents if "request_id" in contents else MINIMAL_REQUEST | contents
        path.write_text(yaml.safe_dump(whole))
        request.load_request(path)


def commands() -> Iterator[Any]:
    for name, path in PAGES.items():
        page = read_page(path)
        lines = [line for text in page.code("sh") for line in text.splitlines()]
        lines += [text for text in page.literals if text.startswith(("bulkcutout ", "bin/"))]
        for line in lines:
            for command in line.split("&&"):
                if tokens := shlex.split(command, comments=True):
                    yield pytest.param(tokens, id=f"{name}: {' '.join(tokens)}")


@pytest.mark.parametrize("tokens", list(commands()))
def test_command_parses(tokens: list[str], desk: Path) -> None:
    (desk / "my-galaxies.campaign").mkdir()
    program, *arguments = tokens
    if program == "bulkcutout":
        _parse(cli.cli, arguments)
    elif program == "bps":
        from lsst.ctrl.bps.cli.bps import cli as bps

        (desk / "my-galaxies.campaign" / "bps.yaml").touch()
        _parse(bps, arguments)
    elif program.startswith(("bin/", ".ci/")):
        assert os.access(ROOT / program, os.X_OK)
    else:
        assert program in SHELL


def _parse(group: click.Group, arguments: list[str]) -> None:
    name, *rest = arguments
    context = click.Context(group)
    if name == "COMMAND":
        return
    command = group.get_command(context, name)
    assert command is not None, f"no command {name}"
    # The name alone, in running text, is no use of it.
    if rest and "--help" not in rest:
        command.make_context(name, rest, parent=context)


# -- what the pages say about the command line -----------------------------


def test_every_command_is_on_the_page_and_has_help() -> None:
    described = [
        row[0].removeprefix("bulkcutout ") for row in read_page(PAGES["operate.rst"]).table("command")
    ]
    assert sorted(described) == sorted(cli.cli.commands)
    assert all(len(command.help or "") > 20 for command in cli.cli.commands.values())


def test_exit_codes_are_those_of_the_commands() -> None:
    listed = [row[0] for row in read_page(README).table("code")]
    assert listed == re.findall(r"^  (\d+) ", exit_codes.EXIT_CODES, flags=re.MULTILINE)
    codes = {getattr(exit_codes, name) for name in exit_codes.__all__ if name != "EXIT_CODES"}
    assert {int(code) for code in listed} == codes | {0}
    of_finish = [int(row[0]) for row in read_page(PAGES["campaign.rst"]).table("finish")]
    assert of_finish == [finish.COMPLETE, finish.PARTIAL, finish.TRY_AGAIN]


def test_sites_are_those_that_there_are() -> None:
    listed = [row[0] for row in read_page(PAGES["sites.rst"]).table("site")]
    assert listed == ["local", "htcondor", "slurm_pool", "usdf", "panda"]
    assert submit.site_names() == sorted(listed)
    (option,) = [option for option in cli.cli.commands["submit"].params if option.name == "site"]
    assert all(site in option.help for site in submit.site_names())


def test_settings_of_the_facility_are_those_on_the_page() -> None:
    from lsst.ctrl.bps import BPS_DEFAULTS, BpsConfig

    config = BpsConfig(str(submit.CONFIG_DIRECTORY / "sites" / "usdf.yaml"), defaults=BPS_DEFAULTS)
    rows = read_page(PAGES["sites.rst"]).table("key")
    assert len(rows) > 5
    for name, value, _ in rows:
        _, found = config.search(f".{'.'.join(name.split(': '))}", opt={"default": "none"})
        assert value == str(found), name


# -- what the pages say about files ----------------------------------------


def fields_of(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the plain fields of a request with their dotted names."""
    for name, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from fields_of(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def test_all_fields_of_the_request_are_on_its_page() -> None:
    listed = {row[0]: row[1] for row in read_page(PAGES["request.rst"]).table("field")}
    fields = dict(fields_of(request.CutoutRequest))
    assert list(listed) == list(fields)
    for name, field in fields.items():
        shown = listed[name]
        if field.is_required():
            assert shown == "needed", name
        elif field.default is None:
            assert shown in ("guessed", "none", "the only one"), name
        elif isinstance(field.default, tuple):
            assert shown == f"[{', '.join(field.default)}]", name
        elif isinstance(field.default, bool):
            assert shown == str(field.default).lower(), name
        else:
            assert shown == (str(field.default) or "empty"), name


def test_all_fields_of_a_policy_are_on_its_page() -> None:
    page = read_page(PAGES["policy.rst"])
    assert page.table("policy field") == [
        (
            name,
            "needed" if field.is_required() else str(field.default).lower(),
            " ".join((field.description or "").split()),
        )
        for name, field in SitePolicy.model_fields.items()
    ]
    assert [row[0] for row in page.table("pinned")] == list(software.PINNED)


def test_example_of_the_request_has_the_defaults() -> None:
    example = yaml.safe_load(read_page(PAGES["request.rst"]).code("yaml")[0])
    flat = {
        f"{name}.{part}" if part else name: found
        for name, value in example.items()
        for part, found in (value.items() if isinstance(value, dict) else [("", value)])
    }
    for name, field in fields_of(request.CutoutRequest):
        if field.is_required():
            assert name in flat
        elif field.default is not None:
            assert flat[name] == (list(field.default) if isinstance(field.default, tuple) else field.default)


def test_names_of_columns_that_are_guessed_are_on_the_page() -> None:
    listed = {row[0]: tuple(row[1].split()) for row in read_page(PAGES["catalog.rst"]).table("what")}
    assert list(listed.values()) == list(GUESSES.values())
    expected = [MEANINGS[role] + ", B1950" * role.endswith("b1950") for role in GUESSES]
    assert list(listed) == expected


def test_columns_of_the_data_files_are_on_the_page(tmp_path: Path) -> None:
    small = SmallProduct(tmp_path, planes=request.PLANES)
    axes = {len(small.bands): "Nb", N_NOISE: "Nn", len(MASK_FRACTIONS): "Nf", 16: "n", 5: "ky", 7: "kx"}
    kinds = {"catalog/object_id": "int64 or text", "images/mask": "int32 or int64"}
    expected = [
        (
            path,
            kinds.get(path, "text" if column.dtype is None else column.dtype.name),
            ", ".join(axes.get(length, str(length)) for length in column.shape),
            column.unit,
            column.description,
        )
        for path, column in small.layout(16).columns.items()
        if not path.startswith("carried")
    ]
    tables_of_page = read_page(PAGES["product.rst"]).tables
    assert [row for table in tables_of_page if len(table[0]) == 5 for row in table[1:]] == expected


def test_meta_and_provenance_are_on_the_page(product: Path) -> None:
    (path,) = product.glob("size=*/*.hdf5")
    there: set[str] = set()
    with h5py.File(path) as file:
        for group in ("meta", "provenance"):
            file[group].visititems(
                lambda name, node, group=group: (
                    there.add(f"{group}/{name}") if isinstance(node, h5py.Dataset) else None
                )
            )
    listed = {row[0] for row in read_page(PAGES["product.rst"]).table("dataset") if len(row) == 2}
    assert listed == there


def test_columns_of_the_status_are_on_the_page() -> None:
    expected = [
        (
            field.name,
            "int64 or string" if field.name == "target_id" else str(field.type),
            tables.field_unit(field),
            tables.field_description(field),
        )
        for field in tables.status_schema(pa.int64())
    ]
    assert read_page(PAGES["product.rst"]).table("column") == expected


def test_fields_of_the_manifest_are_on_the_page() -> None:
    rows = read_page(PAGES["product.rst"]).table("field")
    assert [row[0] for row in rows] == list(manifest.Manifest.model_fields)


def test_all_statuses_are_explained() -> None:
    page = read_page(PAGES["status.rst"])
    assert [row[0] for row in page.table("status")] == list(tables.STATUS)
    bands = {int(code): text.split(":")[0] for code, text in page.table("band_status")}
    assert bands == dict(tables.BAND_STATUS)


def test_all_files_of_a_campaign_are_explained(tmp_path: Path) -> None:
    names = {
        getattr(campaign.Campaign(tmp_path), name).relative_to(tmp_path).as_posix()
        for name, value in vars(campaign.Campaign).items()
        if isinstance(value, property)
    }
    assert {row[0].rstrip("/") for row in read_page(PAGES["campaign.rst"]).table("name")} == names


def test_example_of_a_callback_is_one() -> None:
    page = read_page(PAGES["callback.rst"])
    (example,) = page.code("http")
    (shown,) = [text for text in page.literals if text.startswith("whsec_A")]
    head, body = example.split("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    at = int(headers["webhook-timestamp"])
    found = webhook.verify(body.encode(), headers, [webhook.Secret.from_text(shown)], now=at)
    assert found.verdict is webhook.Verdict.GENUINE
    event = json.loads(body)
    assert sum(event["data"]["counts"].values()) == event["data"]["rows"]
    fields = [name for name in event if name != "data"] + [f"data.{name}" for name in event["data"]]
    assert [row[0] for row in page.table("field of the body")] == fields
    assert sorted(row[0] for row in page.table("told")) == sorted(message.WIRE_STATES.values())
    answers = {row[0]: int(row[1]) for row in page.table("verdict")}
    assert answers == {verdict.value: verdict.http_status for verdict in webhook.Verdict}


def test_server_of_the_page_takes_a_callback_once(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = run_python("callback.rst")
    body = b'{"type":"a","timestamp":"b","data":{"state":"partial"}}'
    headers = webhook.sign(names["secret"], webhook_id="msg_1", timestamp=int(time.time()), body=body)
    known: set[str] = set()
    answers = [names["receive"](sent, headers, [names["secret"]], known) for sent in (body, body, b"x")]
    assert answers == [204, 204, 401] and capsys.readouterr().out == "partial\n"


# -- what the pages say about pixels and modules ---------------------------


def test_mask_names_and_borders_are_those_of_the_code() -> None:
    page = read_page(PAGES["pixels.rst"])
    assert dict(page.table("afw (DP1, HSC)")) == masks.ALIASES
    for name, border, size in page.table("sky map"):
        known = skymap.KNOWN_SKYMAPS[name.split()[0]]
        assert (border, size) == (f"{known.patch_border} px", f"{2 * known.patch_border} px")


def test_modules_have_the_level_that_the_page_says() -> None:
    levels = {row[0]: row[1].split() for row in read_page(PAGES["develop.rst"]).table("level")}
    assert list(levels) == ["5", "4", "3", "2", "1", "0"]
    for level, modules in levels.items():
        assert {LEVELS[module] for module in modules} == {int(level)}
