# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What build-graph leaves when it fails, for those who do not see it fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.cli import cli
from lsst.dax.bulkcutout.errors import InternalError, TransientError, UserError
from lsst.dax.bulkcutout.failed_build import noting_failure
from lsst.dax.bulkcutout.finish_note import FinishNote, read_note, write_note
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import write_request


def test_build_that_fails_for_good_leaves_a_note(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path
) -> None:
    """By the command itself, as a job of the cluster runs it."""
    request = write_request(tmp_path, tiny_repo, tiny_catalog, dataset_type="no_such_coadd")
    campaign = Campaign(tmp_path / "out.campaign")
    arguments = ["build-graph", campaign.root, "--request", request, "--graph", tmp_path / "x.qg"]
    done = CliRunner().invoke(cli, [*map(str, arguments), "--output-run", "u/x/run"])
    assert isinstance(done.exception, UserError)
    note = read_note(campaign.finish_log)
    assert note is not None and (note.state, note.status) == ("failed", 1)
    assert "no_such_coadd" in note.message


@pytest.mark.parametrize(("error", "status"), [(UserError("x"), 1), (InternalError("x"), 70)])
def test_note_says_whose_turn_it_is(tmp_path: Path, error: Exception, status: int) -> None:
    campaign = Campaign(tmp_path)
    campaign.request.touch()
    with pytest.raises(type(error)), noting_failure(campaign):
        raise error
    assert read_note(campaign.finish_log) == FinishNote("failed", status, "x")


def test_what_is_tried_again_or_has_a_graph_gets_no_note(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    campaign.request.touch()
    with pytest.raises(TransientError), noting_failure(campaign):
        raise TransientError("storage is away")
    assert read_note(campaign.finish_log) is None
    # A second attempt that finds nothing left to do.
    campaign.graphs.mkdir()
    (campaign.graphs / "0000.qg").touch()
    write_note(campaign.finish_log, FinishNote("complete", 0))
    with pytest.raises(UserError), noting_failure(campaign):
        raise UserError("All quanta have finished")
    assert read_note(campaign.finish_log) == FinishNote("complete", 0)
