# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The file in which a site says what it allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.policy.site_policy import SitePolicy, load_policy
from lsst.dax.bulkcutout.submit import CONFIG_DIRECTORY

EXAMPLE = CONFIG_DIRECTORY / "policies" / "example.yaml"


def load(directory: Path, **fields: Any) -> SitePolicy:
    path = directory / "policy.yaml"
    path.write_text(yaml.safe_dump({"contact": "a@b.org", **fields}))
    return load_policy(path)


def test_a_policy_that_says_nothing_allows_anything(tmp_path: Path) -> None:
    policy = load(tmp_path)
    told = policy.model_dump(exclude={"contact", "schema_version", "callback_https_only"})
    assert set(told.values()) == {None}


@pytest.mark.parametrize(
    ("given", "expected"),
    [(1500, 1500), ("1 kB", 1000), ("2.5 GB", 2_500_000_000), ("3TB", 3 * 10**12), ("7 B", 7), (0, 0)],
)
def test_bytes_are_numbers_or_have_a_unit(given: object, expected: int, tmp_path: Path) -> None:
    assert load(tmp_path, max_product_bytes=given).max_product_bytes == expected


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"contact": " "}, "contact is ' ': must be text"),
        ({"max_rows": 0}, "max_rows is 0: must be a whole number of rows from 1 to"),
        ({"max_rows": True}, "max_rows is True: must be a whole number of rows"),
        ({"max_read_bytes": "5 gb"}, "units are B, kB, MB, GB, TB, PB"),
        ({"max_read_bytes": -1}, "max_read_bytes is -1: must be a whole number of bytes"),
        (
            {"max_row": 5},
            r"max_row is not a field \(did you mean 'max_rows'\?\); known fields: schema_version",
        ),
        ({"repositories": "dp2"}, r"must be a list of names or patterns, as in \[dp2\]"),
        ({"software": {"numpy": 2}}, "the version of numpy must be text: put 2 in quotes"),
        ({"products_days": 3, "intermediates_days": 30}, "products_days is 3: must not be less than .* 30"),
        ({"callback_hosts": ["https://x"]}, "'https://x' must be the name of a host"),
        ({"service_account": "a; rm"}, "service_account is 'a; rm': must be a name of letters"),
        ({"schema_version": 99}, "newer version of this software"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(
    fields: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load(tmp_path, **fields)
    assert str(caught.value).startswith(f"Site policy {tmp_path / 'policy.yaml'}")


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, max_rows="many", priority="high", intermediates_days=0)
    assert [line.split()[0] for line in str(caught.value).splitlines()[1:]] == [
        "max_rows",
        "priority",
        "intermediates_days",
    ]
    (tmp_path / "no.yaml").write_text("max_rows: 5\n")
    with pytest.raises(UserError, match="contact is missing: Whom to ask for more"):
        load_policy(tmp_path / "no.yaml")
    with pytest.raises(UserError, match="Site policy .* cannot be read: No such file"):
        load_policy(tmp_path / "none.yaml")


def test_example_has_all_fields_and_comments() -> None:
    """It is what operators copy."""
    assert list(yaml.safe_load(EXAMPLE.read_text())) == list(SitePolicy.model_fields)
    policy = load_policy(EXAMPLE)
    assert policy.max_rows == 20_000_000 and policy.max_packaging_bytes == 5 * 10**12
    lines = EXAMPLE.read_text().splitlines()
    assert sum(line.startswith("#") for line in lines) > 15
