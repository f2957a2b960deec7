# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The last job: one at a time, and a note of how it went."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import TRY_AGAIN, _lock, finish


def test_second_finish_of_a_campaign_has_to_wait(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    with _lock(campaign):
        assert finish(campaign) == TRY_AGAIN
    # How it ended is for the first one to say.
    assert not campaign.finish_log.exists()


def test_campaign_without_a_plan_is_the_users_to_mend(tmp_path: Path, coded_request: Path) -> None:
    campaign = Campaign(tmp_path)
    campaign.request.write_text(coded_request.read_text())
    with pytest.raises(UserError, match="has no plan yet"):
        finish(campaign)


def test_plan_of_another_version_is_named(tmp_path: Path, coded_request: Path) -> None:
    campaign = Campaign(tmp_path)
    campaign.plan.write_text(json.dumps({"plan_version": 99}))
    with pytest.raises(UserError, match=r"plan version 99, known is \d+"):
        campaign.read_plan()
