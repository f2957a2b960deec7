# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A site for BPS on Parsl: the machine that submits, and nothing else.

BPS imports it by the name in config/sites/local.yaml; nothing of ours does,
and no other module knows Parsl.
"""

from __future__ import annotations

from pathlib import Path

from parsl.config import Config
from parsl.executors import ThreadPoolExecutor
from parsl.executors.base import ParslExecutor

from lsst.ctrl.bps import BpsConfig
from lsst.ctrl.bps.parsl import ParslJob, SiteConfig
from lsst.ctrl.bps.parsl.configuration import get_bps_config_value

from ..campaign import Campaign
from ..run_lock import hold_run_for_good

__all__ = ("ThisMachine",)


class ThisMachine(SiteConfig):  # type: ignore[misc]  # no types in BPS
    """Jobs are started by threads of ``bps submit`` itself.

    Parameters
    ----------
    config
        BPS configuration; ``site.<computeSite>.cores`` is the number of jobs
        that run at the same time.

    Notes
    -----
    BPS's own ``Local`` starts worker processes that report over the network:
    that takes 15 to 30 seconds on a busy machine, before the first job runs,
    and listens on all interfaces for pickled messages.  A job is a command
    line here, for which a thread is enough.
    """

    def __init__(self, config: BpsConfig) -> None:
        # `bps submit` is to be known to run the campaign, too.
        root = get_bps_config_value(config, "campaignDir", str, required=True)
        hold_run_for_good(Campaign(Path(root)))
        # Threads take no requests for resources.
        super().__init__(config, resource_list=[])

    def get_executors(self) -> list[ParslExecutor]:
        """Offer one executor."""
        cores = get_bps_config_value(self.site, "cores", int, required=True)
        return [ThreadPoolExecutor(label="threads", max_threads=cores)]

    def select_executor(self, job: ParslJob) -> str:
        """Choose the one there is."""
        return "threads"

    def get_parsl_config(self) -> Config:
        """Have Parsl's records below the submit directory.

        The key ``run_dir`` cannot say that: it knows no ``{submitPath}``, and
        is taken from the working directory.
        """
        config: Config = super().get_parsl_config()
        config.run_dir = str(
            Path(get_bps_config_value(self.config, "submitPath", str, required=True)) / "runinfo"
        )
        return config
