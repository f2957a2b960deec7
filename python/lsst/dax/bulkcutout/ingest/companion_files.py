# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Which of many files belong together, by their names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import UserError, did_you_mean
from ..readers.companions import KINDS

__all__ = ("CompanionRule", "MatchedFiles", "split_companions")


@dataclasses.dataclass(frozen=True)
class CompanionRule:
    """Names of the companions of one kind."""

    kind: str
    """variance, weight, mask or psf."""

    pattern: str
    """Their names, with ``*`` for what they share with the image's name."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(
                f"--companion {self.kind}={self.pattern}: {self.kind!r} is not a kind of companion"
                f"{did_you_mean(self.kind, KINDS)}; known: {', '.join(KINDS)}."
            )
        if "*" not in self.pattern or not self.pattern.strip("*"):
            raise UserError(
                f"--companion {self.kind}={self.pattern}: must be a pattern with * for what the name shares "
                "with "
                "that of its image, as in '*_weight.fits'."
            )

    def shared(self, name: str) -> tuple[str, ...] | None:
        """What a companion's name shares with the image's.

        Parameters
        ----------
        name
            Name of a file.

        Returns
        -------
        shared
            What each ``*`` stands for; `None` for other files.
        """
        expression = "(.*)".join(re.escape(part) for part in self.pattern.split("*"))
        match = re.fullmatch(expression, name)
        return match.groups() if match else None

    def names_of_images(self, shared: tuple[str, ...]) -> re.Pattern[str]:
        """Names that images can have to which a companion belongs.

        Parameters
        ----------
        shared
            What each ``*`` stands for in the companion's name.

        Returns
        -------
        expression
            The same, with anything in place of the rest of the pattern.
        """
        rest = [".*" if part else "" for part in self.pattern.split("*")]
        texts = [rest[0]]
        for text, part in zip(shared, rest[1:], strict=True):
            texts += [re.escape(text), part]
        return re.compile("".join(texts))


@dataclasses.dataclass(frozen=True)
class MatchedFiles:
    """Companions of images."""

    companions: Mapping[Path, Mapping[str, Path]]
    """By image, then by kind."""

    notes: Sequence[str]
    """What is missing or left over."""

    def of(self, image: Path) -> Mapping[str, Path]:
        """Companions of an image.

        Parameters
        ----------
        image
            The image.

        Returns
        -------
        companions
            By kind; empty if it has none.
        """
        return self.companions.get(image, {})


def split_companions(
    files: Iterable[Path], rules: Sequence[CompanionRule]
) -> tuple[list[Path], MatchedFiles]:
    """Tell images and their companions apart.

    Parameters
    ----------
    files
        All files.
    rules
        Names of companions.

    Returns
    -------
    images
        Files that are no companions.
    matched
        Companions of the images.

    Raises
    ------
    UserError
        Raised if a companion belongs to several images, or an image has
        several of a kind.
    """
    images: list[Path] = []
    others: list[tuple[CompanionRule, Path, tuple[str, ...]]] = []
    for path in files:
        for rule in rules:
            if (shared := rule.shared(path.name)) is not None:
                others.append((rule, path, shared))
                break
        else:
            images.append(path)
    companions: dict[Path, dict[str, Path]] = {}
    notes = []
    for rule, path, shared in others:
        expression = rule.names_of_images(shared)
        owners = [
            image for image in images if image.parent == path.parent and expression.fullmatch(image.name)
        ]
        owners = owners or [image for image in images if expression.fullmatch(image.name)]
        shortest = min((len(image.name) for image in owners), default=0)
        owners = [image for image in owners if len(image.name) == shortest]
        if not owners:
            notes.append(f"{path}: there is no image that this {rule.kind} belongs to.")
            continue
        if len(owners) > 1:
            raise UserError(
                f"--companion {rule.kind}={rule.pattern}: {path} may belong to {owners[0]} or to "
                f"{owners[1]}: "
                "give a pattern whose * stands for more of the name."
            )
        own = companions.setdefault(owners[0], {})
        if rule.kind in own:
            raise UserError(
                f"--companion {rule.kind}={rule.pattern}: both {own[rule.kind]} and {path} belong to "
                f"{owners[0]}."
            )
        own[rule.kind] = path
    for rule in rules:
        lacking = [image for image in images if rule.kind not in companions.get(image, {})]
        if lacking:
            notes.append(f"{len(lacking)} images have no {rule.kind}, the first is {lacking[0]}.")
    return images, MatchedFiles(companions, notes)
