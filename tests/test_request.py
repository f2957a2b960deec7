# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.request import CutoutRequest, check_request, load_request
from lsst.dax.bulkcutout.request.checks import quoted

SMALLEST: dict[str, Any] = {
    "request_id": "m31-stars",
    "catalog": {"uri": "stars.parquet"},
    "butler": "repo/butler.yaml",
    "collections": ["LSSTCam/runs/DRP"],
    "dataset_type": "deep_coadd",
    "size": 64,
    "output": "out",
}


def write(path: Path, contents: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(contents))
    return path


def changed(**fields: Any) -> dict[str, Any]:
    """Return the smallest request with other values; dots lead into parts."""
    contents = json.loads(json.dumps(SMALLEST))
    for name, value in fields.items():
        target = contents
        *parents, last = name.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return contents


def refusal(contents: dict[str, Any]) -> str:
    """Return the message that a request is refused with."""
    with pytest.raises(UserError) as caught:
        check_request(contents)
    return str(caught.value)


def test_smallest_request_gets_the_documented_defaults() -> None:
    request = check_request(SMALLEST)
    assert request.schema_version == 1
    assert request.bands == "all"
    assert request.planes == ("image", "mask")
    assert request.formats == ("hdf5",)
    assert request.skymap is None
    assert request.catalog.carry == ()
    assert (request.partition.by, request.partition.max_rows_per_file) == ("tract", 100_000)
    assert request.partition.max_bytes_per_file == 2_000_000_000
    assert request.labels.survey == ""


def test_paths_start_at_the_file_and_not_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file means the same thing wherever it is used."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    write(tmp_path / "request.yaml", SMALLEST)
    request = load_request(Path("..") / "request.yaml")
    assert os.path.samefile(Path(request.catalog.uri).parent, tmp_path)
    assert os.path.isabs(request.output)
    assert Path(request.butler).is_absolute()


def test_uris_are_kept_and_file_uris_become_paths(tmp_path: Path) -> None:
    contents = changed(
        **{"catalog.uri": "file:///a%20b/c.csv", "output": "s3://bucket/out", "butler": "https://x.org/repo"}
    )
    request = load_request(write(tmp_path / "request.yaml", contents))
    assert request.catalog.uri == "/a b/c.csv"
    assert request.output == "s3://bucket/out"
    assert request.butler == "https://x.org/repo"


def test_home_directories_are_known_and_other_tildes_are_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    contents = changed(**{"catalog.uri": "~/stars.csv", "output": "~nobody-of-this-name/out"})
    request = load_request(write(tmp_path / "request.yaml", contents))
    assert request.catalog.uri == "/home/ada/stars.csv"
    assert request.output == str(tmp_path / "~nobody-of-this-name" / "out")


def test_word_for_the_butler_is_a_label_unless_it_is_a_repository_beside_the_file(tmp_path: Path) -> None:
    """A directory of results may well have the name of the repository."""
    path = write(tmp_path / "request.yaml", changed(butler="dp1"))
    assert load_request(path).butler == "dp1"
    (tmp_path / "dp1").mkdir()
    assert load_request(path).butler == "dp1"
    (tmp_path / "dp1" / "butler.yaml").touch()
    assert load_request(path).butler == str(tmp_path / "dp1")


@pytest.mark.parametrize(
    ("name", "dump"),
    [
        ("request.yaml", yaml.safe_dump),
        ("request.YML", yaml.safe_dump),
        ("request.yaml", json.dumps),
        ("request.json", json.dumps),
        ("request", yaml.safe_dump),
        ("request.txt", json.dumps),
    ],
)
def test_suffix_or_contents_tell_yaml_from_json(tmp_path: Path, name: str, dump: Any) -> None:
    path = tmp_path / name
    path.write_text(dump(SMALLEST))
    assert load_request(path).size == 64


def test_yaml_that_begins_with_a_brace_is_read_without_a_suffix(tmp_path: Path) -> None:
    path = tmp_path / "request"
    path.write_text(yaml.safe_dump(SMALLEST, default_flow_style=True))
    assert load_request(path).size == 64


def test_all_wrong_fields_are_named_at_once() -> None:
    """A user who has to try again for every field gives up."""
    message = refusal(changed(size=0, **{"catalog.ra_column": 5, "partition.max_rows_per_file": -1}))
    assert re.search(r"^ +size is 0: ", message, re.MULTILINE)
    assert re.search(r"^ +catalog\.ra_column is 5: ", message, re.MULTILINE)
    assert re.search(r"^ +partition\.max_rows_per_file is -1: ", message, re.MULTILINE)


@pytest.mark.parametrize("size", [0, -3, 2001, 10**30, True, 64.0, "64", None, [64], {}, {"colum": "s"}])
def test_size_that_makes_no_sense_is_refused_with_what_is_allowed(size: Any) -> None:
    message = refusal(changed(size=size))
    assert "whole number of pixels from 1 to 2000, {pixels: NUMBER}" in message
    assert "or {column: NAME, unit: pixel or arcsec}" in message


@pytest.mark.parametrize("size", [1, 2000])
def test_smallest_and_largest_size_are_allowed(size: int) -> None:
    assert check_request(changed(size=size)).size == size


def test_size_column_is_read() -> None:
    size = check_request(changed(size={"column": "npix"})).size
    assert not isinstance(size, int) and size.column == "npix"


@pytest.mark.parametrize(
    ("fields", "wrong", "nearest"),
    [
        ({"bnads": "all"}, "bnads", "bands"),
        ({"catalog.ra_colum": "ra"}, "catalog.ra_colum", "ra_column"),
        ({"planes": ["imgae"]}, "imgae", "image"),
        ({"formats": ["hdf"]}, "hdf", "hdf5"),
        ({"labels": {"survy": "X"}}, "labels.survy", "survey"),
        ({"partition": {"by": "tracts"}}, "tracts", "tract"),
    ],
)
def test_misspelled_names_are_refused_with_the_nearest(
    fields: dict[str, Any], wrong: str, nearest: str
) -> None:
    message = refusal(changed(**fields))
    assert wrong in message
    assert f"did you mean {nearest!r}" in message


def test_missing_fields_are_named_with_what_they_hold() -> None:
    message = refusal({})
    for name in SMALLEST:
        assert f"{name} is missing: " in message


@pytest.mark.parametrize(
    "request_id", ["", "M31", "a b", "a_b", "../x", "a;b", "ä", "-a", "a" * 65, 5, "a\n"]
)
def test_request_id_is_safe_in_file_and_run_names(request_id: Any) -> None:
    assert "request_id is " in refusal(changed(request_id=request_id))


@pytest.mark.parametrize(
    "bad", ["", "a b", "a;b", "$(x)", "a'b", 'a"b', "a`b", "-a", "a\tb", "a,b", "a*", "{a}"]
)
def test_text_that_reaches_the_butler_has_safe_characters(bad: str) -> None:
    assert "dataset_type is " in refusal(changed(dataset_type=bad))
    assert "collections is " in refusal(changed(collections=["good", bad]))
    assert "skymap is " in refusal(changed(skymap=bad))


def test_collections_and_columns_are_lists() -> None:
    assert "as in [LSSTCam/DP1]" in refusal(changed(collections="LSSTCam/DP1"))
    assert "the word all or a list" in refusal(changed(**{"catalog.carry": "mag"}))
    assert "at least one" in refusal(changed(collections=[]))
    assert "twice" in refusal(changed(collections=["a", "a"]))


def test_bands_are_kept_in_order_of_wavelength() -> None:
    """The band axis has one order, so the same bands are the same request."""
    one, other = changed(bands=["y", "N708", "g", "u"]), changed(bands=["u", "g", "y", "N708"])
    assert check_request(one).bands == ("u", "g", "y", "N708")
    assert check_request(one).fingerprint() == check_request(other).fingerprint()


@pytest.mark.parametrize("bands", [[], "r", ["r", "r"], ["r-i"], [False], {"r": 1}, None])
def test_bands_that_are_no_names_are_refused(bands: Any) -> None:
    assert "bands is " in refusal(changed(bands=bands))


def test_planes_have_one_order_and_no_repeats() -> None:
    request = check_request(changed(planes=["mask", "image", "mask"]))
    assert request.planes == ("image", "mask")


@pytest.mark.parametrize(
    ("given", "taken"), [("none", "none"), ("None", "none"), ("STORED", "stored"), ("Pretty", "Pretty")]
)
def test_background_is_one_of_two_words_or_a_name(given: str, taken: str) -> None:
    assert check_request(changed(background=given)).background == taken
    assert check_request(changed()).background == "stored"
    assert check_request(changed()).fingerprint() != check_request(changed(background="none")).fingerprint()


@pytest.mark.parametrize("background", [None, "", 3, True, ["pretty"], "a\nb", "$(x)", "x" * 201])
def test_other_backgrounds_are_refused(background: object) -> None:
    said = refusal(changed(background=background))
    assert "background is " in said
    assert "must be stored, none, or the name of a background model of the images" in said


@pytest.mark.parametrize("planes", [["psf"], ["variance", "psf"], []])
def test_planes_without_image_and_mask_are_refused(planes: list[str]) -> None:
    assert "planes is " in refusal(changed(planes=planes))


@pytest.mark.parametrize(
    ("partition", "order"),
    [
        ({}, None),
        ({"by": "patch"}, None),
        ({"by": "tract", "order": None}, None),
        ({"by": "healpix"}, 4),
        ({"by": "healpix", "order": None}, 4),
        ({"by": "healpix", "order": 0}, 0),
        ({"order": 29, "by": "healpix"}, 29),
    ],
)
def test_partition_by_healpix_has_an_order(partition: dict[str, Any], order: int | None) -> None:
    request = check_request(changed(partition=partition))
    assert request.partition.order == order
    assert check_request(json.loads(request.to_json())) == request


@pytest.mark.parametrize("order", [-1, 30, 4.0, True, "4", [4]])
def test_healpix_order_out_of_range_is_refused(order: object) -> None:
    message = refusal(changed(partition={"by": "healpix", "order": order}))
    assert f"partition.order is {quoted(order)}: must be a whole number of orders" in message
    assert "from 0 to 29" in message


@pytest.mark.parametrize("by", ["tract", "patch"])
def test_order_without_healpix_is_refused(by: str) -> None:
    message = refusal(changed(partition={"by": by, "order": 5}))
    assert "partition.order is 5: is for 'by: healpix' alone" in message


def test_tract_and_patch_columns_belong_together() -> None:
    assert "belong together" in refusal(changed(**{"catalog.tract_column": "tract"}))


def test_request_of_a_newer_version_is_refused_before_its_unknown_fields() -> None:
    message = refusal(changed(schema_version=2, cosmic="x"))
    assert "newer version" in message and "cosmic" not in message


@pytest.mark.parametrize("version", [0, -1, "1", True, 1.0, None])
def test_versions_that_never_were_are_refused(version: Any) -> None:
    assert "schema_version is " in refusal(changed(schema_version=version))


def test_date_as_request_id_stays_the_text_that_it_is(tmp_path: Path) -> None:
    path = tmp_path / "request.yaml"
    path.write_text(yaml.safe_dump(SMALLEST).replace("m31-stars", "2026-01-01"))
    assert load_request(path).request_id == "2026-01-01"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("- 5", "holds one list"),
        ("a: [", "line"),
        ("{'a': 1}\n---\nb: 2", "document"),
        ("size: 1\nsize: 2", "twice"),
        ("!!python/object/apply:os.getcwd []", "constructor"),
        ("[" * 100_000, "nested"),
        ("#" * 1_000_001, "more than"),
        ("a: \ud800", "UTF-8"),
    ],
)
def test_file_that_is_no_request_is_refused_by_name(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "request.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=expected) as caught:
        load_request(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ['{"size": 1, "size": 2}', "{'size': 1}", "[" * 100_000])
def test_bad_json_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "request.json"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(str(path))):
        load_request(path)


def test_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load_request(tmp_path / "request.yaml")
    with pytest.raises(UserError, match="directory"):
        load_request(tmp_path)


def test_yaml_that_unfolds_without_end_costs_nothing(tmp_path: Path) -> None:
    """Aliases of aliases: three hundred bytes that print as gigabytes."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path = tmp_path / "request.yaml"
    path.write_text("\n".join([*lines, "bands: *a11"]))
    with pytest.raises(UserError) as caught:
        load_request(path)
    assert len(str(caught.value)) < 20_000


names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)
requests = st.fixed_dictionaries(
    {
        "request_id": st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True),
        "catalog": st.fixed_dictionaries(
            {"uri": names},
            optional={"carry": st.just("all") | st.lists(names, unique=True), "ra_column": names},
        ),
        "butler": st.sampled_from(["dp1", "./repo", "/a/b c", "https://example.org/api"]),
        "collections": st.lists(
            st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_/]*", fullmatch=True), min_size=1, unique=True
        ),
        "dataset_type": st.sampled_from(["deep_coadd", "deepCoadd_calexp"]),
        "size": st.integers(1, 200)
        | st.fixed_dictionaries({"arcsec": st.floats(0.1, 100)})
        | st.fixed_dictionaries({"column": names}, optional={"unit": st.sampled_from(["pixel", "arcsec"])}),
        "output": names,
    },
    optional={
        "size_bins": st.lists(st.integers(200, 2000), min_size=1, max_size=20, unique=True),
        "bands": st.just("all") | st.lists(st.sampled_from("ugrizyn"), min_size=1, unique=True),
        "labels": st.fixed_dictionaries({}, optional={"survey": names, "release": names}),
        "planes": st.lists(st.sampled_from(["image", "mask", "psf"]), min_size=1).map(lambda p: [*p, "mask"]),
    },
)


@given(contents=requests)
def test_request_that_was_written_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, Any]
) -> None:
    """The campaign directory holds the request as it was understood."""
    request = check_request(contents)
    elsewhere = tmp_path_factory.mktemp("campaign")
    for name, text in {"r.yaml": request.to_yaml(), "r.json": request.to_json()}.items():
        (elsewhere / name).write_text(text)
        again = load_request(elsewhere / name)
        assert again == request
        assert again.fingerprint() == request.fingerprint()


def test_fingerprint_is_the_sha256_of_sorted_json_without_spaces() -> None:
    request = check_request(SMALLEST)
    fields = json.loads(request.to_json())
    del fields["notify"], fields["registration"]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert request.fingerprint() == hashlib.sha256(text.encode()).hexdigest()


def test_fingerprint_tells_requests_apart() -> None:
    variants = [SMALLEST, changed(size=65), changed(output="elsewhere"), changed(**{"catalog.carry": ["a"]})]
    assert len({check_request(contents).fingerprint() for contents in variants}) == len(variants)


GOOD_URLS = [
    "http://localhost",
    "https://server.example/hooks/bps/17?a=b&c=%20d",
    "http://127.0.0.1:65535/",
    "https://[2001:db8::1]:8443/hook",
    "https://my_host.internal?x",
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_whoever_is_to_be_told_changes_neither_the_product_nor_what_identifies_it(url: str) -> None:
    """A campaign must not be cut again because a server has moved, and its
    product is handed to people whom the address does not concern.
    """
    told = check_request(changed(notify={"url": url, "secret_file": "secret"}), directory=Path("/here"))
    assert told.notify.url == url and told.notify.secret_file == "/here/secret"
    assert told.fingerprint() == check_request(SMALLEST, directory=Path("/here")).fingerprint()
    assert url not in json.dumps(told.of_product()) and "secret" not in json.dumps(told.of_product())


@pytest.mark.parametrize(
    "url",
    [
        "ftp://server.example/",
        "file:///etc/passwd",
        "server.example/hook",
        "https://",
        "https://user@server.example/",
        "https://user:word@server.example/",
        "https://server.example/#fragment",
        "https://server.example:0/",
        "https://server.example:65536/",
        "https://server.example:/",
        "https://server.example\\@other.example/",
        "https://server.example/a b",
        "https://server.example/\r\nX-Header: 1",
        "https://server.example/\n",
        "https://server.example/\x00",
        "https://sérver.example/",
        "https://[::1/",
        " https://server.example/",
        "https://server.example/" + 2000 * "a",
        5,
        "",
        ["https://server.example/"],
    ],
)
def test_address_that_a_callback_cannot_go_to_is_refused(url: Any) -> None:
    with pytest.raises(UserError, match=r"notify\.url is .*: must be an address"):
        check_request(changed(notify={"url": url, "secret_file": "secret"}))


def test_address_and_secret_of_a_callback_belong_together() -> None:
    for notify in ({"url": GOOD_URLS[0]}, {"secret_file": "secret"}):
        with pytest.raises(UserError, match="belong together"):
            check_request(changed(notify=notify))
    with pytest.raises(UserError, match="not a URI"):
        check_request(changed(notify={"url": GOOD_URLS[0], "secret_file": "s3://bucket/secret"}))


def test_request_cannot_be_changed() -> None:
    request: Any = check_request(SMALLEST)
    with pytest.raises(ValueError, match="frozen"):
        request.size = 5


def test_every_field_tells_the_user_what_it_is() -> None:
    """Messages about missing fields are made from these texts."""
    assert all(field.description for field in CutoutRequest.model_fields.values())
