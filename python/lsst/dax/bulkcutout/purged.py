# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The note of what was deleted of a campaign, and what is refused then."""

from __future__ import annotations

import datetime

import pydantic

from .campaign import Campaign, write_atomically
from .errors import UserError

__all__ = ("PurgeNote", "read_note", "refuse_purged", "write_note")


class PurgeNote(pydantic.BaseModel):
    """What was deleted of a campaign."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    time: datetime.datetime
    """When it was begun."""

    state: str
    """State of the campaign then."""

    intermediate_bytes: int = 0
    """Bytes of the intermediates that were deleted."""

    product: bool = False
    """Whether the product was deleted, too."""

    product_bytes: int = 0
    """Bytes of the product that were deleted."""

    @property
    def text(self) -> str:
        """What there is to say."""
        kept = "its product is gone, too" if self.product else "its product is what it was"
        return f"was purged on {self.time:%Y-%m-%d}: its intermediates are gone, and {kept}."


def read_note(campaign: Campaign) -> PurgeNote | None:
    """Read what was deleted of a campaign.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    note
        `None` if nothing was.
    """
    try:
        return PurgeNote.model_validate_json(campaign.purged.read_text())
    except FileNotFoundError:
        return None


def write_note(campaign: Campaign, note: PurgeNote) -> None:
    """Note what is deleted of a campaign.

    Parameters
    ----------
    campaign
        The campaign.
    note
        What is deleted.
    """
    write_atomically(campaign.purged, note.model_dump_json(indent=1) + "\n")


def refuse_purged(campaign: Campaign) -> None:
    """Refuse to go on with a campaign that was purged.

    Parameters
    ----------
    campaign
        The campaign.

    Raises
    ------
    UserError
        Raised if its intermediates are gone.
    """
    if (note := read_note(campaign)) is not None:
        raise UserError(
            f"Campaign {campaign.root} {note.text} What is to be cut anew is a campaign of its own, with "
            "another output."
        )
