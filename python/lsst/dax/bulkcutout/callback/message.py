# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What a callback says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

from ..campaign import Campaign
from ..errors import InternalError
from ..execution import utc_now
from ..finish_note import State
from ..manifest import MANIFEST_NAME, Manifest
from ..request import CutoutRequest
from ..zipfile_fault import mend_zipfile
from .webhook import MOST_BODY_BYTES

__all__ = ("EVENT_TYPE", "WIRE_STATES", "Message", "message_of")

_LOG = logging.getLogger(__name__)

EVENT_TYPE = "bulkcutout.campaign.finished"

WIRE_STATES: dict[State, str] = {
    "complete": "succeeded",
    "partial": "partial",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""States of campaigns, in the words that job services use."""


@dataclasses.dataclass(frozen=True)
class Message:
    """One thing that is told."""

    id: str
    """Identifies it: the same outcome has the same."""

    event: dict[str, Any]
    """The fields of the body."""

    @property
    def body(self) -> bytes:
        """The bytes that are signed and sent.

        Raises
        ------
        InternalError
            Raised if they are too many.
        """
        body = json.dumps(self.event, separators=(",", ":"), ensure_ascii=True).encode("ascii")
        if len(body) >= MOST_BODY_BYTES:
            raise InternalError(f"A callback of {len(body)} bytes is too long.")
        return body


def message_of(
    campaign: Campaign, request: CutoutRequest, state: State, manifest: Manifest | None
) -> Message:
    """Say how a campaign has ended.

    Parameters
    ----------
    campaign
        The campaign.
    request
        Its request.
    state
        How it has ended.
    manifest
        Its manifest; `None` if there is none for this outcome.

    Returns
    -------
    message
        What to tell.
    """
    # Attempts that were put aside for a new plan count as well.
    attempt = len(list(campaign.graphs.rglob("*.qg")))
    data: dict[str, Any] = {
        "request_id": request.request_id,
        "run": _run_of(campaign),
        "attempt": attempt,
        "state": WIRE_STATES[state],
        "rows": None,
        "counts": {},
        "manifest": None,
    }
    checksum = ""
    if manifest is not None:
        contents = (Path(request.output) / MANIFEST_NAME).read_bytes()
        checksum = hashlib.sha256(contents).hexdigest()
        data["rows"], data["counts"] = manifest.rows, manifest.counts
        data["manifest"] = {"name": MANIFEST_NAME, "size": len(contents), "sha256": checksum}
    parts = [request.request_id, str(campaign.root), str(attempt), data["state"], checksum]
    webhook_id = "msg_" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    return Message(webhook_id, {"type": EVENT_TYPE, "timestamp": utc_now(), "data": data})


def _run_of(campaign: Campaign) -> str | None:
    """The run of the last attempt, as its graph says."""
    try:
        with mend_zipfile(), PredictedQuantumGraph.open(campaign.graph_files()[-1]) as graph:
            return graph.header.output_run
    except Exception as error:
        # It helps whoever looks for logs; a callback without it is as good.
        _LOG.debug("The run of campaign %s is not known: %s", campaign.root, error)
        return None
