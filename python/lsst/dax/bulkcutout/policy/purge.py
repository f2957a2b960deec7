# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Deleting campaigns whose time is over.

First a note is written that says so: from then on nothing goes on with the
campaign, and a purge that is cut short can be given again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..campaign import Campaign
from ..errors import BulkCutoutError, UserError
from ..estimate.numbers import bytes_text
from ..file_lock import locked
from ..finish_note import read_note as read_finish_note
from ..purged import PurgeNote, read_note, write_note
from ..request import load_request
from ..run_lock import hold_run
from ..submit import find_campaign
from ..watch.register import known_campaigns
from ..watch.status import read_status
from .deletion import Deletion
from .lifetime import Lifetime, ended, lifetime_of
from .product_deletion import delete_product, lack
from .site_policy import load_policy

__all__ = ("Purged", "purge", "purge_all")


@dataclasses.dataclass(frozen=True)
class Purged:
    """What was deleted of a campaign, or why not."""

    root: Path
    """Directory of the campaign."""

    dry_run: bool = False
    """Whether nothing was deleted in truth."""

    kept: str = ""
    """Why nothing was deleted; empty if something was."""

    intermediate_bytes: int = 0
    """Bytes of intermediates."""

    product_bytes: int | None = None
    """Bytes of the product; `None` if it was kept."""

    left: tuple[str, ...] = ()
    """What was left alone, and why."""

    @property
    def bytes(self) -> int:
        """All bytes."""
        return self.intermediate_bytes + (self.product_bytes or 0)

    def __str__(self) -> str:
        if self.kept:
            return f"{self.root}: kept, {self.kept}"
        did = "would delete" if self.dry_run else "deleted"
        product = "" if self.product_bytes is None else f", product of {bytes_text(self.product_bytes)}"
        lines = [f"{self.root}: {did} intermediates of {bytes_text(self.intermediate_bytes)}{product}"]
        return "\n".join([*lines, *(f"  left alone: {what}" for what in self.left)])


def purge_all(
    directories: Sequence[Path],
    *,
    older_than_days: int | None = None,
    policy_file: Path | None = None,
    products: bool = False,
    incomplete: bool = False,
    dry_run: bool = False,
) -> str:
    """Delete campaigns whose time is over.

    Parameters
    ----------
    directories
        Their directories; if there are none, all campaigns of the register.
    older_than_days
        Days for their intermediates, in place of what a policy says.
    policy_file
        Policy of a site; if `None`, that of each campaign.
    products
        Whether to delete products, too, where they have a lifetime.
    incomplete
        Whether to delete campaigns that are not complete, too.
    dry_run
        Whether to tell only.

    Returns
    -------
    text
        A line for each campaign, and the sum.

    Raises
    ------
    UserError
        Raised if there is no such campaign, or a policy cannot be read.
    """
    campaigns = [find_campaign(path) for path in directories] or known_campaigns()
    if policy_file is not None:
        load_policy(policy_file)
    done = []
    for campaign in campaigns:
        try:
            lifetime = lifetime_of(campaign, older_than_days=older_than_days, policy_file=policy_file)
            found = purge(campaign, lifetime, products=products, incomplete=incomplete, dry_run=dry_run)
        except (BulkCutoutError, OSError) as error:
            # The others can be deleted all the same.
            found = Purged(campaign.root, kept=f"because of this: {error}")
        done.append(found)
    freed = sum(found.bytes for found in done)
    would = "would be " if dry_run else ""
    return "\n".join([*map(str, done), f"{bytes_text(freed)} {would}freed."])


def purge(
    campaign: Campaign,
    lifetime: Lifetime,
    *,
    products: bool = False,
    incomplete: bool = False,
    dry_run: bool = False,
    now: datetime.datetime | None = None,
) -> Purged:
    """Delete what is left of a campaign whose time is over.

    Parameters
    ----------
    campaign
        The campaign.
    lifetime
        How long it is kept.
    products
        Whether to delete its product, too, where that has a lifetime that is
        over.
    incomplete
        Whether to do so though the campaign is not complete, or its product
        is not all there.
    dry_run
        Whether to tell only.
    now
        The time that it is.

    Returns
    -------
    purged
        What was deleted, or why nothing was.

    Raises
    ------
    UserError
        Raised if something is at work in it, or a note is damaged.

    Notes
    -----
    The campaign's request, plan and notes stay, so that its state can be
    told.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    if not _is_complete(campaign) and (state := read_status(campaign).state) in ("running", "held"):
        return Purged(campaign.root, kept=f"as it is {state}: `bulkcutout cancel` it first")
    with _alone(campaign):
        if kept := _why_kept(campaign, lifetime, products, incomplete, now):
            return Purged(campaign.root, kept=kept)
        return _purge(campaign, _is_over(lifetime.until(campaign)[1], now) and products, dry_run, now)


def _why_kept(
    campaign: Campaign, lifetime: Lifetime, products: bool, incomplete: bool, now: datetime.datetime
) -> str:
    until, product_until = lifetime.until(campaign)
    if until is None:
        if ended(campaign) is None:
            return "it has not been prepared to the end"
        return "nobody has said for how long: name --older-than DAYS, or a policy with intermediates_days"
    if not _is_over(until, now):
        return f"until {until:%Y-%m-%d}"
    if (note := read_note(campaign)) is not None:
        # One that was cut short is gone on with, to whatever end it had.
        if not _something_left(campaign) and not (
            products and not note.product and _is_over(product_until, now)
        ):
            return f"as it was purged on {note.time:%Y-%m-%d}" + (
                f"; its product until {product_until:%Y-%m-%d}"
                if product_until is not None and not _is_over(product_until, now)
                else ""
            )
        return ""
    if incomplete:
        return ""
    if not _is_complete(campaign):
        return "as it is not complete: `bulkcutout restart` it, or say --incomplete"
    return lack(Path(load_request(campaign.request).output))


def _is_complete(campaign: Campaign) -> bool:
    note = read_finish_note(campaign.finish_log)
    return note is not None and note.state == "complete"


def _purge(campaign: Campaign, with_product: bool, dry_run: bool, now: datetime.datetime) -> Purged:
    note = read_note(campaign)
    if note is None:
        finish_note = read_finish_note(campaign.finish_log)
        note = PurgeNote(time=now, state="incomplete" if finish_note is None else finish_note.state)
    note = note.model_copy(update={"product": note.product or with_product})
    if not dry_run:
        write_note(campaign, note)
    intermediates = Deletion(campaign.root, dry_run=dry_run)
    for path in _intermediates(campaign):
        intermediates.delete(path)
    product = delete_product(campaign, dry_run=dry_run) if note.product else None
    freed = 0 if product is None else product.bytes
    if not dry_run:
        write_note(
            campaign,
            note.model_copy(
                update={
                    "intermediate_bytes": note.intermediate_bytes + intermediates.bytes,
                    "product_bytes": note.product_bytes + freed,
                }
            ),
        )
    return Purged(
        campaign.root,
        dry_run=dry_run,
        intermediate_bytes=intermediates.bytes,
        product_bytes=None if product is None else freed,
        left=(*intermediates.left, *([] if product is None else product.left)),
    )


def _intermediates(campaign: Campaign) -> list[Path]:
    return [
        campaign.datastore,
        campaign.targets,
        campaign.scratch,
        campaign.submit,
        campaign.refused,
        campaign.registered,
        # These last: they tell what the others are.
        campaign.graphs,
    ]


def _something_left(campaign: Campaign) -> bool:
    return any(path.exists() and not path.is_symlink() for path in _intermediates(campaign))


@contextlib.contextmanager
def _alone(campaign: Campaign) -> Iterator[None]:
    """Keep all that could be at work on the same campaign out."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold_run(campaign))
        for path in (campaign.finish_lock, campaign.build_lock):
            try:
                stack.enter_context(locked(path))
            except BlockingIOError:
                raise UserError(f"another process is at work in {campaign.root}.") from None
        yield


def _is_over(until: datetime.datetime | None, now: datetime.datetime) -> bool:
    return until is not None and until <= now
