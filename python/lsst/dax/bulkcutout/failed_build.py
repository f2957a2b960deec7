# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What is left of a campaign whose graph could not be built.

Where a job of the cluster builds the graph, nobody reads what it says, and
there is no last job: so build-graph leaves the note that ``finish`` would, and
makes its callback.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .callback.delivery import Schedule
from .callback.notify import notify
from .campaign import Campaign
from .errors import BulkCutoutError, InternalError, TransientError
from .finish_note import FAILED, OUR_FAULT, FinishNote, write_note

__all__ = ("noting_failure",)


@contextlib.contextmanager
def noting_failure(campaign: Campaign) -> Iterator[None]:
    """Leave a note if what is done here fails for good.

    Parameters
    ----------
    campaign
        The campaign.  One that has a graph already, or had one that was
        purged, keeps the note of what became of that.

    Yields
    ------
    nothing
        The graph is built inside the context; errors travel on.
    """
    try:
        yield
    except BulkCutoutError as error:
        # Of a campaign that was cancelled `bulkcutout cancel` tells.
        for_good = not isinstance(error, TransientError) and not campaign.cancelled.exists()
        # Without a request there is no campaign yet, and nobody to tell.
        is_new = campaign.request.exists() and not (campaign.graph_files() or campaign.purged.exists())
        if for_good and is_new:
            status = OUR_FAULT if isinstance(error, InternalError) else FAILED
            write_note(campaign.finish_log, FinishNote("failed", status, str(error)))
            # Not for minutes: where `submit` builds it, somebody waits.
            notify(campaign, "failed", schedule=Schedule(budget_s=20))
        raise
