# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A campaign is held to the policy of its site: before it is planned, and
when its cost is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..campaign import Campaign, Plan, write_atomically
from ..discovery.source_images import Coverage, SourceImages
from ..errors import UserError
from ..estimate.numbers import Estimate
from ..estimate.working_out import work_out
from ..request import CutoutRequest
from .active import active_campaigns
from .cost_rules import broken_limits, has_limits
from .request_rules import broken_rules
from .site_policy import SitePolicy, load_policy

__all__ = ("PolicyCheck", "refusals")


def refusals(
    policy: SitePolicy, request: CutoutRequest, campaign: Campaign, estimate: Estimate
) -> tuple[str, ...]:
    """Say all that a site refuses of a campaign.

    Parameters
    ----------
    policy
        What the site allows.
    request
        The request.
    campaign
        The campaign, which need not exist.
    estimate
        What it costs.

    Returns
    -------
    refusals
        Empty if it is allowed.
    """
    return (*_refused_at_once(policy, request, campaign), *broken_limits(policy, estimate, campaign))


class PolicyCheck:
    """Holds one campaign to the policy of its site.

    Parameters
    ----------
    campaign
        The campaign.
    file
        The policy; if `None`, the copy that the campaign has, if it has one.

    Raises
    ------
    UserError
        Raised if the file is no policy.
    """

    def __init__(self, campaign: Campaign, file: Path | None = None) -> None:
        if file is None and campaign.policy.exists():
            file = campaign.policy
        self._campaign = campaign
        self._file = file
        self.policy = None if file is None else load_policy(file)
        """What the site allows; `None` if it has not said."""

    def keep_copy(self) -> None:
        """Leave a copy of the policy in the campaign."""
        if self._file is None:
            self._campaign.policy.unlink(missing_ok=True)
        elif self._file.absolute() != self._campaign.policy:
            write_atomically(self._campaign.policy, self._file.read_text())

    def check_request(self, request: CutoutRequest) -> None:
        """Check what needs no data.

        Parameters
        ----------
        request
            The request.

        Raises
        ------
        UserError
            Raised if the site refuses it; the message has all reasons.
        """
        if self.policy is not None:
            self._refuse(_refused_at_once(self.policy, request, self._campaign))

    def check_plan(
        self, request: CutoutRequest, plan: Plan, coverage: Sequence[Coverage], images: SourceImages
    ) -> None:
        """Check what the campaign costs, by what its plan says.

        Parameters
        ----------
        request
            The request.
        plan
            The plan.
        coverage
            The patches with targets, and their datasets.
        images
            The images that these come from.

        Raises
        ------
        UserError
            Raised if the site refuses it; the message has all reasons.
        """
        self.keep_copy()
        if self.policy is not None and has_limits(self.policy):
            estimate = work_out(request, self._campaign, plan, coverage, images)
            self._refuse(broken_limits(self.policy, estimate, self._campaign))

    def _refuse(self, reasons: Iterable[str]) -> None:
        assert self.policy is not None
        if reasons := tuple(reasons):
            raise UserError(
                "\n  ".join(
                    [
                        f"The policy of this site refuses campaign {self._campaign.root}:",
                        *reasons,
                        f"For more than that, ask {self.policy.contact}.",
                    ]
                )
            )


def _refused_at_once(policy: SitePolicy, request: CutoutRequest, campaign: Campaign) -> Iterable[str]:
    yield from broken_rules(policy, request)
    if policy.max_campaigns is not None:
        active = active_campaigns(campaign)
        if len(active) >= policy.max_campaigns:
            listed = ", ".join(f"{root} ({what})" for root, what in active.items())
            yield (
                f"{len(active)} campaigns at work: at most {policy.max_campaigns} at a time; wait for, or "
                f"`bulkcutout cancel`, one of {listed}"
            )
