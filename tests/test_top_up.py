# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""More rows or bands for a campaign that has run."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lsst.dax.bulkcutout.errors import UserError
from lsst.dax.bulkcutout.finish import COMPLETE, finish
from lsst.dax.bulkcutout.quantum_outputs import read_outputs
from lsst.dax.bulkcutout.tests import SkyRepository
from lsst.dax.bulkcutout.tests.campaigns import run_here, write_request
from lsst.dax.bulkcutout.top_up import top_up
from lsst.dax.bulkcutout.verify.product import verify_product


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.glob("size=*/*"))
    }


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, coded_repo: SkyRepository, coded_catalog: Path
) -> dict[str, str]:
    """Checksums of a run of all rows and bands at once."""
    directory = tmp_path_factory.mktemp("whole")
    _, status = run_here(write_request(directory, coded_repo, coded_catalog))
    assert status == COMPLETE
    return digests(directory / "out")


def test_new_rows_cut_their_own_patches_alone(
    tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path, whole: dict[str, str]
) -> None:
    table = pq.read_table(coded_catalog)
    catalog = tmp_path / "catalog.parquet"
    pq.write_table(table.slice(0, 200), catalog)
    request = write_request(tmp_path, coded_repo, catalog)
    campaign, status = run_here(request)
    assert status == COMPLETE
    before = {place: output.dataset_id for place, output in read_outputs(campaign).items()}
    (tmp_path / "out" / "certificate.json").write_text("{}")
    pq.write_table(table, catalog)
    to_cut = top_up(campaign, request)
    assert 0 < to_cut < 4
    _, status = run_here(request)
    assert status == COMPLETE
    # What was said of the product before is not said of this one.
    assert not (tmp_path / "out" / "certificate.json").exists()
    after = {place: output.dataset_id for place, output in read_outputs(campaign).items()}
    changed = Counter(before.get(place) != dataset_id for place, dataset_id in after.items())
    assert changed == {True: to_cut, False: 4 - to_cut}
    assert digests(tmp_path / "out") == whole
    assert verify_product(tmp_path / "out", sample=20).ok
    # Again, with nothing new: all is kept, and the product as it is.
    assert top_up(campaign, request) == 0
    assert finish(campaign) == COMPLETE
    assert digests(tmp_path / "out") == whole


def test_new_bands_and_failed_quanta(
    tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path, whole: dict[str, str]
) -> None:
    """Another band axis spares nothing; the result is that of one run."""
    request = write_request(tmp_path, coded_repo, coded_catalog, bands=["r"])
    campaign, _ = run_here(request, fail=[(3, 0)])
    write_request(tmp_path, coded_repo, coded_catalog)
    assert top_up(campaign, request) == 4
    _, status = run_here(request)
    assert status == COMPLETE and digests(tmp_path / "out") == whole


def test_another_product_is_another_campaign(
    tmp_path: Path, coded_repo: SkyRepository, coded_catalog: Path
) -> None:
    request = write_request(tmp_path, coded_repo, coded_catalog)
    campaign, _ = run_here(request)
    other = json.loads(request.read_text()) | {"output": str(tmp_path / "elsewhere")}
    request.write_text(json.dumps(other))
    with pytest.raises(UserError, match="campaign of its own"):
        top_up(campaign, request)
