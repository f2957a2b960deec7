# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Request and site become a campaign directory, which BPS then runs."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from .campaign import Campaign, write_atomically
from .errors import BulkCutoutError, InternalError, TransientError, UserError, did_you_mean
from .product_directory import claim_product_directory
from .request import load_request
from .zipfile_fault import mend_zipfile

__all__ = ("CONFIG_DIRECTORY", "find_campaign", "prepare", "restart_bps", "run_bps", "site_names")

_LOG = logging.getLogger(__name__)

CONFIG_DIRECTORY = Path(__file__).parent / "config"

USER_STATUS = 1
"""Exit status of a command whose error is the user's to put right."""

TRANSIENT_STATUS = 75
"""Exit status of a command that may be tried again (EX_TEMPFAIL)."""

_SAFE_PATH = re.compile(r"[A-Za-z0-9._/+\-=,@]+")


def prepare(request_file: Path, *, site: str, directory: Path | None = None) -> Campaign:
    """Make the directory of a new campaign.

    Parameters
    ----------
    request_file
        The request, YAML or JSON.
    site
        Name of a site, one of `site_names`, or a path to a BPS configuration.
    directory
        Directory of the campaign; beside the output if `None`.

    Returns
    -------
    campaign
        The campaign, ready for `run_bps`.

    Raises
    ------
    UserError
        Raised if request, output, site or directory are not fit for it.
    """
    request = load_request(request_file)
    output = Path(request.output)
    root = (directory or output.with_name(f"{output.name}.campaign")).absolute()
    if not _SAFE_PATH.fullmatch(str(root)):
        raise UserError(
            f"The campaign directory {root} becomes part of command lines: use letters, digits and ._/+-=,@ "
            "only, or name another one with --campaign."
        )
    campaign = Campaign(root)
    if campaign.graph_files():
        raise UserError(
            f"{root} is a campaign already: `bulkcutout restart {root}` goes on with it; name another "
            "directory with --campaign for a new one."
        )
    if root.exists() and not campaign.bps_config.exists() and (contents := sorted(os.listdir(root))):
        raise UserError(
            f"The campaign directory {root} holds other files ({contents[0]}, ...): name another one with "
            "--campaign."
        )
    site_config = _site_config(site)
    claim_product_directory(output, campaign)
    root.mkdir(parents=True, exist_ok=True)
    write_bps_config(campaign, site_config)
    write_atomically(campaign.request, request.to_yaml())
    return campaign


def write_bps_config(campaign: Campaign, site_config: Path) -> None:
    """Write what ``bps submit`` takes.

    Parameters
    ----------
    campaign
        The campaign.
    site_config
        BPS configuration of the site.
    """
    config: dict[str, Any] = {
        "includeConfigs": [str(CONFIG_DIRECTORY / "bulkcutout_bps.yaml"), str(site_config)],
        "campaignDir": str(campaign.root),
    }
    write_atomically(campaign.bps_config, yaml.safe_dump(config, sort_keys=False))


def run_bps(campaign: Campaign) -> None:
    """Submit a campaign, as ``bps submit`` does.

    Parameters
    ----------
    campaign
        A prepared campaign.  If it has run before, only what has not
        finished is done.

    Notes
    -----
    Returns when the jobs are with the workflow system; with Parsl, which runs
    in this process, when they have ended.
    """
    from lsst.ctrl.bps import BpsSubprocessError
    from lsst.ctrl.bps.drivers import submit_driver

    # BPS finds programs by PATH, and those of this installation are to win.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if not campaign.bps_config.exists():
        raise UserError(
            f"Campaign {campaign.root} was submitted with a BPS file that is elsewhere: `bps submit` that "
            "file again, and only what has not finished is done."
        )
    campaign.finish_log.unlink(missing_ok=True)
    try:
        with mend_zipfile():
            submit_driver(str(campaign.bps_config))
    except BpsSubprocessError as error:
        raise _build_error(campaign, error.errno) from error
    except subprocess.CalledProcessError:
        # Parsl raises this for a final job that exits with other than 0; why
        # it did so is in the note that it leaves.
        if not campaign.finish_log.exists():
            raise


def restart_bps(campaign: Campaign, directory: Path) -> None:
    """Go on with a run of HTCondor that has a rescue DAG.

    Parameters
    ----------
    campaign
        The campaign.
    directory
        The run's submit directory.

    Raises
    ------
    TransientError
        Raised if the workflow system does not take it.
    """
    from lsst.ctrl.bps.restart import restart

    campaign.finish_log.unlink(missing_ok=True)
    run_id, _, message = restart("lsst.ctrl.bps.htcondor.HTCondorService", str(directory))
    if run_id is None:
        raise TransientError(f"HTCondor did not take up the run in {directory} again: {message}")
    _LOG.info("Run %s goes on.", run_id)


def find_campaign(path: Path) -> Campaign:
    """Find the campaign that a user names.

    Parameters
    ----------
    path
        Directory of a campaign or of a product.

    Returns
    -------
    campaign
        The campaign.

    Raises
    ------
    UserError
        Raised if there is none.
    """
    candidates = [path, path.with_name(f"{path.name}.campaign")]
    for candidate in candidates:
        campaign = Campaign(candidate.absolute())
        if campaign.request.exists() or campaign.plan.exists():
            return campaign
    raise UserError(f"{path} is not the directory of a campaign, which has a file request.yaml in it.")


def site_names() -> list[str]:
    """List the sites that come with the package.

    Returns
    -------
    names
        What ``--site`` understands besides a path.
    """
    return sorted(path.stem for path in (CONFIG_DIRECTORY / "sites").glob("*.yaml"))


def _site_config(site: str) -> Path:
    if os.sep in site or site.endswith((".yaml", ".yml")):
        path = Path(site).absolute()
        if not path.is_file():
            raise UserError(f"There is no site configuration {path}.")
        return path
    if site not in site_names():
        raise UserError(
            f"No site is called {site!r}{did_you_mean(site, site_names())}: the sites are "
            f"{', '.join(site_names())}; or give the path of a BPS configuration."
        )
    return CONFIG_DIRECTORY / "sites" / f"{site}.yaml"


def _build_error(campaign: Campaign, status: int) -> BulkCutoutError:
    """What build-graph has said to the file that BPS keeps of it."""
    kind = {USER_STATUS: UserError, TRANSIENT_STATUS: TransientError}.get(status, InternalError)
    files = sorted(campaign.submit.glob("*/quantumGraphGeneration.out"))
    lines = files[-1].read_text(errors="replace").splitlines() if files else []
    prefix = "bulkcutout: "
    said = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    return kind(said[-1] if said else f"build-graph failed; see {files[-1] if files else campaign.submit}.")
