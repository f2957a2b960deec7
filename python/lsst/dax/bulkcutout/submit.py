# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Request and site become a campaign directory, which BPS then runs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from .bps.on_cluster import check_that_site_builds
from .bps.site_keys import limited, policy_keys, site_policy_file
from .callback.secret_file import check_secret_file
from .campaign import Campaign, write_atomically
from .errors import UserError, did_you_mean
from .estimate.numbers import Estimate
from .policy.check import PolicyCheck, refusals
from .policy.site_policy import SitePolicy, load_policy
from .product_directory import claim_product_directory
from .purged import refuse_purged
from .request import CutoutRequest, load_request
from .watch.register import note_campaign

__all__ = ("CONFIG_DIRECTORY", "find_campaign", "prepare", "refusals_at", "site_names")

CONFIG_DIRECTORY = Path(__file__).parent / "config"

_SAFE_PATH = re.compile(r"[A-Za-z0-9._/+\-=,@]+")


def prepare(
    request_file: Path,
    *,
    site: str,
    directory: Path | None = None,
    build_on_cluster: bool = False,
    policy_file: Path | None = None,
) -> Campaign:
    """Make the directory of a new campaign.

    Parameters
    ----------
    request_file
        The request, YAML or JSON.
    site
        Name of a site, one of `site_names`, or a path to a BPS configuration.
    directory
        Directory of the campaign; beside the output if `None`.
    build_on_cluster
        Whether the graph is to be built by a job of the site.
    policy_file
        Policy of the site; if `None`, the one that the site's configuration
        names.

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
    root = (directory or _default_root(output)).absolute()
    if not _SAFE_PATH.fullmatch(str(root)):
        raise UserError(
            f"The campaign directory {root} becomes part of command lines: use letters, digits and ._/+-=,@ "
            "only, or name another one with --campaign."
        )
    campaign = Campaign(root)
    refuse_purged(campaign)
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
    if build_on_cluster:
        check_that_site_builds(site_config)
    named = policy_file or site_policy_file(site_config)
    if named is None:
        # What an earlier attempt to prepare this campaign may have left.
        campaign.policy.unlink(missing_ok=True)
    check = PolicyCheck(campaign, named)
    check.check_request(request)
    check_secret_file(request)
    claim_product_directory(output, campaign)
    root.mkdir(parents=True, exist_ok=True)
    check.keep_copy()
    write_bps_config(
        campaign,
        site_config,
        check.policy,
        build_on_cluster=build_on_cluster,
        registers=request.registration.butler is not None,
    )
    write_atomically(campaign.request, request.to_yaml())
    note_campaign(campaign, Path(site).stem)
    return campaign


def write_bps_config(
    campaign: Campaign,
    site_config: Path,
    policy: SitePolicy | None = None,
    *,
    build_on_cluster: bool = False,
    registers: bool = False,
) -> None:
    """Write what ``bps submit`` takes.

    Parameters
    ----------
    campaign
        The campaign.
    site_config
        BPS configuration of the site.
    policy
        Policy of the site, which the campaign has a copy of.
    build_on_cluster
        Whether the graph is to be built by a job of the site.
    registers
        Whether the last job registers the outputs.
    """
    config: dict[str, Any] = {
        "includeConfigs": [str(CONFIG_DIRECTORY / "bulkcutout_bps.yaml"), str(site_config)],
        "campaignDir": str(campaign.root),
    }
    if build_on_cluster:
        config["bpsBatchSubmission"] = True
    if policy is not None:
        config["sitePolicy"] = str(campaign.policy)
    write_atomically(campaign.bps_config, yaml.safe_dump(config, sort_keys=False))
    keys = {} if policy is None else policy_keys(campaign.bps_config, policy)
    if registers:
        # Sites let few jobs at a time write to a registry.
        limit = "db_limit"
        keys["finalJob"] = {"concurrencyLimit": limit, **limited(campaign.bps_config, limit)}
    if keys:
        write_atomically(campaign.bps_config, yaml.safe_dump(config | keys, sort_keys=False))


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
    # Of the working directory itself, too, which "." has no name for.
    path = Path(os.path.abspath(path))
    candidates = [path, _default_root(path)]
    for candidate in candidates:
        campaign = Campaign(candidate)
        if campaign.request.exists() or campaign.plan.exists():
            return campaign
    raise UserError(f"{path} is not the directory of a campaign, which has a file request.yaml in it.")


def refusals_at(
    site: str | None, policy_file: Path | None
) -> Callable[[CutoutRequest, Estimate], tuple[str, ...]] | None:
    """Make what tells which requests a site would refuse.

    Parameters
    ----------
    site
        Name of a site or path to a BPS configuration.
    policy_file
        Policy of the site; if `None`, the one that its configuration names.

    Returns
    -------
    refusals
        Gives a text for each rule or limit that is broken by a request and
        its estimate; `None` if there is no policy to hold it to.

    Raises
    ------
    UserError
        Raised if the site names none, or a file is not fit for it.
    """
    if policy_file is None and site is not None:
        config = _site_config(site)
        if (policy_file := site_policy_file(config)) is None:
            raise UserError(f"Site configuration {config} names no policy: it has no key sitePolicy.")
    if policy_file is None:
        return None
    policy = load_policy(policy_file)
    return lambda request, estimate: refusals(
        policy, request, Campaign(_default_root(Path(request.output))), estimate
    )


def site_names() -> list[str]:
    """List the sites that come with the package.

    Returns
    -------
    names
        What ``--site`` understands besides a path.
    """
    return sorted(path.stem for path in (CONFIG_DIRECTORY / "sites").glob("*.yaml"))


def _default_root(output: Path) -> Path:
    return output.with_name(f"{output.name}.campaign")


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
