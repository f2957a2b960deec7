# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""How long a campaign is kept."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
from pathlib import Path

from ..campaign import Campaign
from ..errors import UserError
from .site_policy import SitePolicy, load_policy

__all__ = ("Lifetime", "ended", "lifetime_of")


@dataclasses.dataclass(frozen=True)
class Lifetime:
    """Days for which things are kept after the end of a campaign."""

    intermediates: int | None
    """For intermediates; `None` if nobody has said."""

    products: int | None
    """For products; `None` if they are kept."""

    @classmethod
    def stated_by(cls, policy: SitePolicy | None) -> Lifetime:
        """Take what a policy says.

        Parameters
        ----------
        policy
            Policy of a site, or `None`.
        """
        if policy is None:
            return cls(None, None)
        return cls(policy.intermediates_days, policy.products_days)

    def until(self, campaign: Campaign) -> tuple[datetime.datetime | None, datetime.datetime | None]:
        """Say when the time of a campaign is over.

        Parameters
        ----------
        campaign
            The campaign.

        Returns
        -------
        intermediates, product
            When each may be deleted; `None` if that is not limited, or the
            campaign has not ended.
        """
        if (start := ended(campaign)) is None:
            return None, None
        ends = [
            None if days is None else start + datetime.timedelta(days=days)
            for days in (self.intermediates, self.products)
        ]
        return ends[0], ends[1]


def lifetime_of(
    campaign: Campaign, *, older_than_days: int | None = None, policy_file: Path | None = None
) -> Lifetime:
    """Find out how long a campaign is kept.

    Parameters
    ----------
    campaign
        The campaign.
    older_than_days
        Days for its intermediates, in place of what a policy says.
    policy_file
        Policy of a site; if `None`, that of the campaign.

    Returns
    -------
    lifetime
        What was said, if anything was.

    Raises
    ------
    UserError
        Raised if the policy cannot be read.
    """
    if policy_file is None and campaign.policy.exists():
        policy_file = campaign.policy
    lifetime = Lifetime.stated_by(None if policy_file is None else load_policy(policy_file))
    if older_than_days is not None:
        lifetime = dataclasses.replace(lifetime, intermediates=older_than_days)
    return lifetime


def ended(campaign: Campaign) -> datetime.datetime | None:
    """Say when a campaign has ended.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    time
        When the last ``finish`` did; of a campaign without one, when
        something of it was written last, at the latest.

    Raises
    ------
    UserError
        Raised if its note is damaged.
    """
    try:
        note = json.loads(campaign.finish_log.read_text())
        return datetime.datetime.fromisoformat(note["time"])
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{campaign.finish_log} is damaged: {error}") from error
    times = []
    for path in (campaign.bps_config, campaign.request, campaign.plan, *campaign.graph_files()):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return datetime.datetime.fromtimestamp(max(times), datetime.UTC) if times else None
