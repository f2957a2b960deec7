# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What BPS's configuration of a site says of its policy, and what the policy
says to BPS.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..policy.site_policy import SitePolicy
from ..quantum_graph_builder import TASK_LABEL

__all__ = ("limited", "policy_keys", "site_policy_file")


def site_policy_file(site_config: Path) -> Path | None:
    """Find the policy that the configuration of a site names.

    Parameters
    ----------
    site_config
        BPS configuration of the site.

    Returns
    -------
    path
        What its key ``sitePolicy`` says, a relative path being one beside
        it; `None` if it has no such key.

    Raises
    ------
    UserError
        Raised if the file is no BPS configuration.
    """
    named = os.path.expandvars(str(_read(site_config)["sitePolicy"])).strip()
    return site_config.parent / os.path.expanduser(named) if named else None


def policy_keys(bps_config: Path, policy: SitePolicy) -> dict[str, Any]:
    """Give BPS what a policy says of jobs.

    Parameters
    ----------
    bps_config
        BPS configuration of the campaign.
    policy
        Policy of the site.

    Returns
    -------
    keys
        Keys to add to the configuration.

    Notes
    -----
    Keys of the site have to be overridden where they stand: BPS looks there
    first.
    """
    config = _read(bps_config)
    site = str(config["computeSite"])
    of_jobs = {
        name: value
        for name, value in (
            ("accountingGroup", policy.accounting_group),
            ("accountingUser", policy.accounting_user),
            ("priority", policy.priority),
        )
        if value is not None
    }
    keys: dict[str, Any] = {}
    if of_jobs:
        keys["site"] = {site: of_jobs}
    if policy.read_limit is not None:
        reading = limited(bps_config, policy.read_limit)
        # A job has the name of its cluster, which may be that of its task.
        labels = dict.fromkeys([*map(str, config["cluster"] or {}), TASK_LABEL])
        keys["cluster"] = {label: copy.deepcopy(reading) for label in labels}
    return keys


def limited(bps_config: Path, limit: str) -> dict[str, Any]:
    """Have no more jobs of a kind run at a time than a pool's limit says.

    Parameters
    ----------
    bps_config
        BPS configuration of the campaign.
    limit
        Name of a concurrency limit of the pool.

    Returns
    -------
    keys
        Keys for the section of the jobs.

    Notes
    -----
    BPS's own ``concurrencyLimit`` will not do: it becomes a line
    ``concurrency_limit``, which HTCondor does not know, and says so in the
    log of ``condor_submit`` only.  The attribute that HTCondor's own
    ``concurrency_limits`` becomes can be had as a profile.
    """
    config = _read(bps_config)
    # A profile of the jobs hides that of the site: so both in one.
    of_site = dict(config[f".site.{config['computeSite']}.profile.condor"] or {})
    profile = {str(key): value for key, value in of_site.items()}
    return {"profile": {"condor": {**profile, "+ConcurrencyLimits": limit.lower()}}}


def _read(path: Path) -> Any:
    from lsst.ctrl.bps import BpsConfig

    try:
        return BpsConfig(str(path))
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{path} is no configuration that BPS can read: {error}") from error
