# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A picture of how far a campaign is: its patches on the sky, by state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import UserError
from ..estimate.outlines import Outline, darker, draw_outlines, draw_tract_names
from ..estimate.sky_grid import draw_grid
from ..estimate.sky_view import FRAME, HEIGHT, WIDTH, SkyView
from ..patch_list import CampaignPatch
from .status import CampaignStatus

__all__ = ("write_progress_picture",)

_WHITE, _INK = (255, 255, 255), (40, 40, 40)

# Also told apart by how light they are, for those who see colours otherwise.
# In the order in which they lie on each other: what needs somebody on top.
_COLOURS = {
    "waiting": (232, 232, 232),
    "not_known": (206, 210, 226),
    "not_run": (150, 150, 150),
    "done": (90, 174, 120),
    "running": (49, 104, 190),
    "held": (246, 210, 40),
    "failed": (178, 24, 43),
}

_WORDS = {"not_run": "not run", "not_known": "not done"}


def write_progress_picture(
    path: Path, status: CampaignStatus, patches: Sequence[tuple[CampaignPatch, str]]
) -> None:
    """Draw the patches of a campaign by state.

    Parameters
    ----------
    path
        PNG file to write.
    status
        How far the campaign is.
    patches
        Its patches, and the state of each.

    Raises
    ------
    UserError
        Raised if it has no patches yet, or nobody knows where they are.
    """
    order = list(_COLOURS)
    shown = sorted(
        ((patch, state) for patch, state in patches if len(patch.corners)),
        key=lambda each: order.index(each[1]),
    )
    if not shown:
        raise UserError(
            f"Campaign {status.campaign} has no patches to draw yet: there is no graph."
            if not patches
            else f"The repository of campaign {status.campaign} does not say where its patches are."
        )
    outlines = [Outline(patch.tract, patch.corners) for patch, _ in shown]
    view = SkyView(*np.concatenate([outline.corners for outline in outlines]).T)
    image = Image.new("RGB", (WIDTH, HEIGHT), _WHITE)
    draw = ImageDraw.Draw(image)
    draw_outlines(draw, view, outlines, [_COLOURS[state] for _, state in shown])
    draw_grid(draw, view)
    draw_tract_names(draw, view, outlines)
    draw.rectangle((0, 0, WIDTH, FRAME[1] - 1), fill=_WHITE)
    draw.rectangle(FRAME, outline=_INK)
    title = f"{status.request_id}: {status.state}, {status.done:,} of {status.quanta:,} patches done"
    draw.text((FRAME[0], 22), title, fill=_INK, font=ImageFont.load_default(size=19))
    _draw_legend(draw, patches)
    image.save(path, "PNG")


def _draw_legend(draw: ImageDraw.ImageDraw, patches: Sequence[tuple[CampaignPatch, str]]) -> None:
    font = ImageFont.load_default(size=14)
    used = [state for state in reversed(_COLOURS) if any(state == each for _, each in patches)]
    for n, state in enumerate(used):
        # In columns of four.
        left, top = FRAME[0] + 330 * (n // 4), FRAME[3] + 66 + 22 * (n % 4)
        mine = [patch for patch, each in patches if each == state]
        rows = sum(patch.rows for patch in mine)
        patches_of_it = "1 patch" if len(mine) == 1 else f"{len(mine):,} patches"
        text = f"{_WORDS.get(state, state)}: {patches_of_it}, {rows:,} targets"
        draw.rectangle(
            (left, top, left + 22, top + 14), fill=_COLOURS[state], outline=darker(_COLOURS[state])
        )
        draw.text((left + 30, top + 7), text, fill=_INK, font=font, anchor="lm")
