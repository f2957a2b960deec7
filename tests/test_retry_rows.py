# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Rows that may have another answer now are cut again, and no others."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_sky import BANDS, ONE_BAND, SIZE, TRACT

from lsst.daf.butler import Butler, FileDataset
from lsst.dax.bulkcutout.campaign import Campaign
from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import COMPLETE
from lsst.dax.bulkcutout.manifest import read_manifest
from lsst.dax.bulkcutout.quantum_outputs import read_outputs
from lsst.dax.bulkcutout.retry_rows import patches_to_retry
from lsst.dax.bulkcutout.tests import SkyRepository, make_repo
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.top_up import top_up


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.glob("size=*/*"))
    }


def request_for(directory: Path, repo: SkyRepository, catalog: Path, root: Path | None = None) -> Path:
    return write_request(directory, repo, catalog, size=SIZE, butler=str(root or repo.root))


@pytest.fixture
def undisturbed(tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path) -> dict[str, str]:
    """Checksums of a run with nothing wrong."""
    _, status = run_here(request_for(tmp_path / "undisturbed", tiny_repo, tiny_catalog))
    assert status == COMPLETE
    return digests(tmp_path / "undisturbed" / "out")


def cut_again(request: Path, campaign: Campaign, which: str) -> set[tuple[int, int]]:
    """Retry rows; gives the patches that have new cutouts."""
    before = {place: output.dataset_id for place, output in read_outputs(campaign).items()}
    patches = patches_to_retry(campaign, which)
    to_cut = top_up(campaign, again=patches)
    _, status = run_here(request)
    assert status == COMPLETE
    after = {place: output.dataset_id for place, output in read_outputs(campaign).items()}
    changed = {place for place, dataset_id in after.items() if before.get(place) != dataset_id}
    assert len(changed) == to_cut
    return changed


def test_mended_image_is_cut_again_and_nothing_else(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path, undisturbed: dict[str, str]
) -> None:
    """One band of a patch was lost: its rows are delivered all the same, but
    with less than there is to have.
    """
    shutil.copytree(tiny_repo.root, root := tmp_path / "repo")
    image = root / tiny_repo.paths[TRACT, 1, "g"].relative_to(tiny_repo.root)
    good = image.read_bytes()
    image.write_bytes(good[: len(good) // 2])
    request = request_for(tmp_path, tiny_repo, tiny_catalog, root)
    campaign, status = run_here(request)
    assert status == COMPLETE and digests(tmp_path / "out") != undisturbed
    assert read_manifest(tmp_path / "out").counts == {"delivered": 18}
    image.write_bytes(good)
    assert cut_again(request, campaign, "read_failed") == {(TRACT, 1)}
    assert digests(tmp_path / "out") == undisturbed
    with pytest.raises(UserError, match="No row .* is read_failed"):
        patches_to_retry(campaign, "read_failed")


def test_patch_without_any_image_comes_when_it_has_one(
    tmp_path: Path, tiny_repo: SkyRepository, tiny_catalog: Path
) -> None:
    """Images that have come since need a new plan, not only new cutouts."""
    whole = make_repo(
        tmp_path / "repo", layout=tiny_repo.layout, bands=BANDS, pixels="coordinates", psf_shape=(5, 7)
    )
    _, status = run_here(request_for(tmp_path / "fresh", whole, tiny_catalog))
    assert status == COMPLETE
    late = [key for key in whole.paths if key[1] == ONE_BAND[1]]
    kept = {key: tmp_path / whole.paths[key].name for key in late}
    for key, path in kept.items():
        shutil.copyfile(whole.paths[key], path)
    with Butler.from_config(str(whole.root), writeable=True) as butler:
        butler.pruneDatasets([whole.refs[key] for key in late], unstore=True, purge=True, disassociate=True)
    request = request_for(tmp_path, whole, tiny_catalog)
    campaign, _ = run_here(request)
    counts = read_manifest(tmp_path / "out").counts
    assert counts["delivered"] < 18 and set(counts) <= {"delivered", "no_dataset", "outside_footprint"}
    with Butler.from_config(str(whole.root), writeable=True, run=whole.run) as butler:
        files = [FileDataset(path=str(path), refs=[whole.refs[key]]) for key, path in kept.items()]
        butler.ingest(*files, transfer="copy")
    assert (TRACT, ONE_BAND[1]) in cut_again(request, campaign, "no_dataset,outside_footprint")
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh" / "out")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_repo: SkyRepository) -> Campaign:
    """A campaign in which nothing went wrong; rows 0 to 5 are of patch 0, 6
    to 11 of patch 1, 12 to 17 of patch 2, and row 18 is nowhere.
    """
    from tiny_sky import tiny_table

    directory = tmp_path_factory.mktemp("done")
    table = tiny_table(tiny_repo)
    nowhere = pa.table({"id": [1], "ra": [180.0], "dec": [-45.0]}, schema=table.schema)
    pq.write_table(pa.concat_tables([table, nowhere]), directory / "catalog.parquet")
    campaign, _ = run_here(request_for(directory, tiny_repo, directory / "catalog.parquet"))
    return campaign


@pytest.mark.parametrize(
    ("which", "patches"),
    [
        ("7", {1}),
        ("0,6-8", {0, 1}),
        ("5-12", {0, 1, 2}),
        (" 17 , 16\n", {2}),
        ("18", set()),
        ("18,17", {2}),
        ("outside_footprint", set()),
        ("outside_footprint,3", {0}),
        # A restart cuts what is not there, without being told.
        ("not_processed", set()),
    ],
)
def test_rows_are_named_by_number_range_and_status(done: Campaign, which: str, patches: set[int]) -> None:
    assert patches_to_retry(done, which) == {(TRACT, patch) for patch in patches}


@pytest.mark.parametrize("text", ["7\n16\n", "row\n7\n16\n", "16, 7", "6-7,12\noutside_footprint"])
def test_rows_are_named_in_a_text_file(done: Campaign, tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.txt").write_text(text)
    assert patches_to_retry(done, f"@{tmp_path / 'rows.txt'}") == {(TRACT, 1), (TRACT, 2)}


def test_rows_are_named_in_a_parquet_file(done: Campaign, tmp_path: Path) -> None:
    """Such as status.parquet, or what somebody has chosen from it."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"row": pa.array([7, 16], pa.uint32()), "status": ["a", "b"]}), path)
    assert patches_to_retry(done, f"@{path}") == {(TRACT, 1), (TRACT, 2)}


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("red_failed", r"'red_failed' \(did you mean 'read_failed'\?\): give statuses"),
        ("delivered", "'delivered'.*give statuses"),
        ("19", "no row 19: the catalog has 19 rows, and the first is row 0"),
        ("0-99999999999", "no row 99999999999"),
        ("-1", "'-1'"),
        ("9-3", "'9-3': the lower row of a range comes first"),
        ("1.5", "'1.5'"),
        ("١", "'١'"),
        ("", "there is nothing to retry"),
        (",,", "there is nothing to retry"),
        ("no_data", "No row .* is no_data: there is nothing to retry"),
        ("read_failed,no_data", "No row .* is no_data or read_failed"),
        ("@nowhere.txt", "cannot be read: .*No such file"),
        ("@", "cannot be read"),
    ],
)
def test_words_that_name_no_row_are_refused(done: Campaign, which: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        patches_to_retry(done, which)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": [7]}, "a column 'row' of whole numbers is wanted"),
        ({"row": ["x"]}, "a column 'row' of whole numbers is wanted"),
        ({"row": [7.5]}, "a column 'row' of whole numbers is wanted"),
        ({"row": [7, None]}, "a column 'row' of whole numbers is wanted"),
        ({"row": [7, 40]}, "no row 40"),
        ({"row": [-7, 4]}, "no row -7"),
    ],
)
def test_parquet_files_that_name_no_row_are_refused(
    done: Campaign, tmp_path: Path, columns: dict[str, list[object]], said: str
) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(UserError, match=said):
        patches_to_retry(done, f"@{path}")


def test_damaged_files_are_refused(done: Campaign, tmp_path: Path) -> None:
    for contents in (b"PAR1 and no end", b"\xff\xfe\x00"):
        (tmp_path / "rows").write_bytes(contents)
        with pytest.raises(UserError, match="--retry-rows @"):
            patches_to_retry(done, f"@{tmp_path / 'rows'}")
