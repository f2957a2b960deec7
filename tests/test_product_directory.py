# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A product's directory belongs to one campaign, and to nothing else."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.errors import TransientError, UserError
from lsst.dax.bulkcutout.product_directory import CLAIM_NAME, claim_product_directory


@pytest.fixture
def mine(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path / "mine")


@pytest.fixture
def other(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path / "other")


def test_new_directory_is_made_and_claimed(tmp_path: Path, mine: Campaign) -> None:
    out = tmp_path / "new" / "deep" / "out"
    claim_product_directory(out, mine)
    assert [path.name for path in out.iterdir()] == [CLAIM_NAME]
    assert json.loads((out / CLAIM_NAME).read_text()) == {"campaign": str(mine.root)}


def test_empty_directory_is_taken(tmp_path: Path, mine: Campaign) -> None:
    (tmp_path / "out").mkdir()
    claim_product_directory(tmp_path / "out", mine)


def test_own_directory_is_taken_again_with_all_that_is_in_it(tmp_path: Path, mine: Campaign) -> None:
    out = tmp_path / "out"
    claim_product_directory(out, mine)
    (out / "manifest.json").write_text("{}")
    (out / "size=9").mkdir()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    claim_product_directory(out, mine)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_directory_of_another_campaign_is_refused(tmp_path: Path, mine: Campaign, other: Campaign) -> None:
    """Also if there is nothing in it yet: that campaign may be at work."""
    out = tmp_path / "out"
    claim_product_directory(out, other)
    with pytest.raises(UserError, match=f"'output': {out} holds the product of campaign {other.root}. Name"):
        claim_product_directory(out, mine)
    claim_product_directory(out, other)


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "size=9", "manifest.json"])
def test_directory_with_other_things_is_refused(tmp_path: Path, mine: Campaign, name: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine\n")
    with pytest.raises(UserError, match=f"'output': {out} holds other files .{name}, .*Name another direct"):
        claim_product_directory(out, mine)
    assert [path.name for path in out.iterdir()] == [name] and (out / name).read_text() == "mine\n"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"', "\ufffd"])
def test_claim_that_cannot_be_read_is_not_overwritten(tmp_path: Path, mine: Campaign, text: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / CLAIM_NAME).write_text(text)
    with pytest.raises(UserError, match=f"'output': {out}"):
        claim_product_directory(out, mine)
    assert (out / CLAIM_NAME).read_text() == text


def test_place_that_is_no_directory(tmp_path: Path, mine: Campaign) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(
            UserError, match=r"cannot be used for the product .*Name a directory that you may"
        ):
            claim_product_directory(place, mine)


@pytest.mark.parametrize(
    ("number", "turn"),
    [(errno.EACCES, UserError), (errno.EROFS, UserError), (errno.ENOSPC, TransientError)],
)
def test_directory_that_takes_no_files(
    tmp_path: Path, mine: Campaign, monkeypatch: pytest.MonkeyPatch, number: int, turn: type[Exception]
) -> None:
    """It is tried, not asked: permissions say nothing about a read-only
    disk; and a full one is worth another try.
    """

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(turn, match=os.strerror(number)):
        claim_product_directory(tmp_path / "out", mine)
    assert not list((tmp_path / "out").iterdir())
