# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Who may import whom: imports point down.

A new module gets a level in `LEVELS`; a new package from outside that only
some may use gets a line in `LOWEST_LEVEL`.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "lsst.dax.bulkcutout"
SOURCES = Path(__file__).parents[1] / "python" / "lsst" / "dax" / "bulkcutout"

LEVELS = {
    # The package itself holds names that are imported when they are used.
    "": 5,
    "cli": 5,
    "bps": 4,
    "callback": 4,
    "cancel": 4,
    "estimate": 4,
    "failed_build": 4,
    "finish": 4,
    "ingest": 4,
    "policy": 4,
    "repackage": 4,
    "restart": 4,
    "sky_files": 4,
    "submit": 4,
    "top_up": 4,
    "verify": 4,
    "watch": 4,
    "campaign_butler": 3,
    "cutout_formatter": 3,
    "discovery": 3,
    "estimate.working_out": 3,
    "extract_connections": 3,
    "extract_task": 3,
    "fits_image_formatter": 3,
    "graph_software": 3,
    "output_registry": 3,
    "patch_loads": 3,
    "planning": 3,
    "quantum_graph_builder": 3,
    "quantum_runner": 3,
    "quantum_outputs": 3,
    "registered_outputs": 3,
    "repackage.piece_rows": 3,
    "repackage.product_files": 3,
    "repackage.row_answers": 3,
    "retry_rows": 3,
    "certificate": 2,
    "cutout_dataset": 2,
    "cutout_dataset_writer": 2,
    "data_card": 2,
    "estimate.outlines": 2,
    "estimate.picture": 2,
    "estimate.sky_grid": 2,
    "estimate.sky_view": 2,
    "extract": 2,
    "formats": 2,
    "ingest.companion_files": 2,
    "ingest.footprints": 2,
    "notable": 2,
    "preview": 2,
    "readers": 2,
    "sky_files.coverage_map": 2,
    "sky_files.cutout_corners": 2,
    "sky_files.status_votable": 2,
    "stored_rows": 2,
    "verify.input_hdus": 2,
    "verify.pixel_check": 2,
    "verify.pixel_extras": 2,
    "verify.pixel_inputs": 2,
    "catalog": 1,
    "header_wcs": 1,
    "masks": 1,
    "pixel_chunks": 1,
    "pixel_rounding": 1,
    "patch_list": 1,
    "packing": 1,
    "psf_shift": 1,
    "row_order": 1,
    "skymap": 1,
    "sphere": 1,
    "spool": 1,
    "target_table": 1,
    "wcs": 1,
    "boxes": 0,
    "callback.secret": 0,
    "callback.secret_file": 0,
    "callback.webhook": 0,
    "campaign": 0,
    "errors": 0,
    "estimate.cost": 0,
    "estimate.numbers": 0,
    "execution": 0,
    "file_lock": 0,
    "finish_note": 0,
    "frame_names": 0,
    "kernels": 0,
    "manifest": 0,
    "planes": 0,
    "precision": 0,
    "policy.site_policy": 0,
    "product_directory": 0,
    "progress": 0,
    "purged": 0,
    "quantum_output": 0,
    "request": 0,
    "run_lock": 0,
    "supervisor": 0,
    "software": 0,
    "tables": 0,
    "watch.register": 0,
    "zipfile_fault": 0,
}
"""Level of each module; a package stands for all that is in it but what has a
line of its own."""

LOWEST_LEVEL = {
    "click": 5,
    "lsst.ctrl": 4,
    # So formats, readers, extract and tables know no Butler and no task.
    "lsst.daf": 3,
    "lsst.pex": 3,
    "lsst.pipe": 3,
    "PIL": 2,
    "fitsio": 2,
    "h5py": 2,
    "hpgeom": 2,
    "lsst.images": 2,
    "scipy": 2,
    "astropy": 1,
    "lsst.sphgeom": 1,
}
"""The lowest level that may import a package from outside."""

ONLY_IN = {
    "lsst.afw": {"readers.afw_psf"},
    "lsst.geom": {"readers.afw_psf"},
    "lsst.ctrl.bps": {"bps"},
    "numba": {"kernels"},
    "parsl": {"bps"},
    "click": {"cli"},
}
"""Packages that one module wraps for all others."""

NEVER = {
    "htcondor": "BPS chooses the workflow system",
    "htcondor2": "BPS chooses the workflow system",
    "pickle": "a file must be readable by another version, and safe to read",
    "cloudpickle": "as pickle",
    "dill": "as pickle",
}

ASK_THE_REGISTRY = {
    "discovery.requested_names",
    "discovery.source_images",
    "ingest.image_repository",
    "ingest.repository",
    # That of the output repository, when all jobs have run.
    "output_registry",
    "quantum_graph_builder",
}
"""Modules that work before the jobs run; a job reads what the graph gave."""

REGISTRY_NAMES = {
    "registry",
    "query",
    "query_all_datasets",
    "query_data_ids",
    "query_datasets",
    "query_dimension_records",
    "find_dataset",
}


class Import(NamedTuple):
    """One import statement's target."""

    name: str
    """Full name of the module."""

    line: int

    on_import: bool
    """Whether it happens when the module is imported: not in a function, not
    for type checkers alone."""


def module_name(path: Path) -> str:
    """Name a file below our package: "" for the package itself."""
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(SOURCES.rglob("*.py"))}
HELD = [name for name in MODULES if name.split(".")[0] != "tests"]


def imports_of(module: str) -> Iterator[Import]:
    """Yield what a module imports, wherever the statement stands."""
    path = MODULES[module]
    package = f"{PACKAGE}.{module}".rstrip(".").split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    later: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        is_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if is_function or is_for_types:
            later.update(ast.walk(node))
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names = [_submodule(origin, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            names = [str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        for name in dict.fromkeys(names):
            yield Import(name, node.lineno, node not in later)


def _submodule(origin: str, name: str) -> str:
    # `from lsst.daf import butler` imports a module, `from os import path` a
    # name: for our own the files tell, for others the longer name does no
    # harm.
    full = f"{origin}.{name}"
    if origin == PACKAGE or origin.startswith(f"{PACKAGE}."):
        return full if full.removeprefix(f"{PACKAGE}.") in MODULES else origin
    return full


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", None) or getattr(node.func, "id", "")


def ours(name: str) -> str | None:
    """Shorten the name of one of our modules; None for others."""
    if name == PACKAGE:
        return ""
    return name.removeprefix(f"{PACKAGE}.") if name.startswith(f"{PACKAGE}.") else None


def level(module: str) -> int | None:
    """Return the level of a module, or of the package that it is in."""
    return LEVELS.get(module, LEVELS.get(module.split(".")[0]))


def is_within(name: str, package: str) -> bool:
    """Tell whether a module is a package or something inside it."""
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("module", HELD)
def test_module_has_a_level(module: str) -> None:
    """Whoever adds a module says where it stands."""
    if level(module) is None:
        pytest.fail(f"give {module!r} a level in LEVELS of tests/{Path(__file__).name}", pytrace=False)


@pytest.mark.parametrize("module", HELD)
def test_imports_point_down(module: str) -> None:
    """A module imports ours of its own level or below, no test helpers."""
    faults = []
    for target, line, _ in imports_of(module):
        name = ours(target)
        if name is None:
            continue
        below = level(name)
        if name.split(".")[0] == "tests":
            faults.append(f"line {line}: {name} is for tests")
        elif below is not None and below > (level(module) or 0):
            faults.append(f"line {line}: {name or PACKAGE} (level {below}) from level {level(module)}")
    if faults:
        pytest.fail(f"{module}: {faults}", pytrace=False)


@pytest.mark.parametrize("module", HELD)
def test_packages_from_outside_are_known_where_they_may_be(module: str) -> None:
    """The Butler, BPS and the file libraries each have a lowest level."""
    faults = []
    for target, line, _ in imports_of(module):
        for package, lowest in LOWEST_LEVEL.items():
            if is_within(target, package) and (level(module) or 0) < lowest:
                faults.append(f"line {line}: {target} needs level {lowest}")
        for package, modules in ONLY_IN.items():
            if is_within(target, package) and not any(is_within(module, place) for place in modules):
                faults.append(f"line {line}: {target} belongs in {', '.join(modules)}")
    if faults:
        pytest.fail(f"{module}, level {level(module)}: {faults}", pytrace=False)


@pytest.mark.parametrize("module", HELD)
def test_nobody_imports_what_is_never_imported(module: str) -> None:
    """No module knows a workflow system or pickles."""
    faults = [
        f"line {line}: {target}: {why}"
        for target, line, _ in imports_of(module)
        for package, why in NEVER.items()
        if is_within(target, package)
    ]
    if faults:
        pytest.fail(f"{module}: {faults}", pytrace=False)


def test_service_runs_the_command_line_only() -> None:
    """The web front imports nothing of ours between levels 1 and 4."""
    for module in HELD:
        if module.split(".")[0] == "service":
            names = [ours(target) for target, _, _ in imports_of(module)]
            assert not [name for name in names if name and level(name) in (1, 2, 3, 4)], module


def test_no_two_modules_need_each_other_to_be_imported() -> None:
    """Modules of one level may import each other, but not in a circle."""
    needs = {
        module: {ours(i.name) for i in imports_of(module) if i.on_import} - {None, module} for module in HELD
    }
    graphlib.TopologicalSorter(needs).prepare()


@pytest.mark.parametrize("module", [name for name in HELD if name not in ASK_THE_REGISTRY])
def test_only_discovery_asks_the_registry(module: str) -> None:
    """A running job gets its inputs from the graph."""
    faults = [
        f"line {node.lineno}: .{node.attr}"
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Attribute) and node.attr in REGISTRY_NAMES
    ]
    if faults:
        pytest.fail(f"{module}: {faults}", pytrace=False)


def test_importing_the_package_is_cheap() -> None:
    """`import lsst.dax.bulkcutout` brings no big library with it."""
    heavy = ("astropy", "h5py", "lsst.daf.butler", "lsst.images", "lsst.pipe.base", "numpy", "pyarrow")
    code = f"import sys, {PACKAGE}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert PACKAGE in loaded
    assert not loaded.intersection(heavy)
