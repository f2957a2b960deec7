# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The HDF5 layout of the product, as h5py sees it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest

from lsst.dax.bulkcutout.errors import CorruptInputError, InternalError, UserError
from lsst.dax.bulkcutout.formats import writer_class
from lsst.dax.bulkcutout.formats.cutouts import open_cutouts
from lsst.dax.bulkcutout.formats.hdf5 import HDF5Writer
from lsst.dax.bulkcutout.formats.hdf5_reader import HDF5Reader
from lsst.dax.bulkcutout.formats.layout import ProductLayout
from lsst.dax.bulkcutout.tables import MaskPlane
from lsst.dax.bulkcutout.tests.products import PLANES, SmallProduct, blank_columns

SMALL = ProductLayout(
    size=6,
    bands=("g", "r"),
    planes=("image", "variance", "mask", "psf"),
    psf_shape=(3, 5),
    mask_planes=PLANES,
    id_type=pa.string(),
    carried=(pa.field("carried:note", pa.string()), pa.field("carried:mag", pa.float64())),
    dataset_type="deep_coadd",
)

DMTN_326 = {
    "meta": "survey instrument release product schema_version healpix_nside_catalog healpix_ordering"
    " band_order image_shape psf_shape",
    "catalog": "object_id ra dec healpix",
    "images": "band flux variance mask psf psf_fwhm pixel_scale",
}
"""The layout of the technote's appendix."""

BESIDE = {
    "meta": "writer_version request_id dataset_type skymap background background_requested precision"
    " flux_unit mask_planes",
    "catalog": "row tract patch fallback x y x_cutout y_cutout",
    "images": "band_present band_status valid_fraction center_valid psf_valid psf_cell inexact_psf_fraction"
    " n_cells n_patches stitched",
    "wcs": "crval crpix cd exact",
    "provenance": "dataset_uuid background unit psf_note companions tract patch neighbors wcs",
    "carried": "flux_r n_visits is_star note",
    "carried_null": "flux_r n_visits is_star note",
}
"""What the technote's layout lacks."""


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> SmallProduct:
    return SmallProduct(tmp_path_factory.mktemp("product")).make()


def data_file(product: SmallProduct) -> Path:
    (path,) = product.out.glob("size=*/*.hdf5")
    return path


def some_columns(n_rows: int) -> dict[str, object]:
    """Noise in all columns of `SMALL`; some texts are longer than others."""
    rng = np.random.default_rng(5)
    columns = blank_columns(SMALL, n_rows)
    for path, values in columns.items():
        if values.dtype.kind == "f":
            columns[path] = rng.normal(size=values.shape).astype(values.dtype)
    columns["images/mask"] = rng.integers(0, 9, columns["images/mask"].shape, dtype="i4")
    columns["catalog/ra"] %= 360
    columns["catalog/object_id"] = pa.array([f"id {'é' * (row % 5)}{row}" for row in range(n_rows)])
    columns["carried/note"] = pa.array([None if row % 3 else "n" * row for row in range(n_rows)], pa.string())
    columns["carried/mag"] = pa.array([None if row % 4 else row / 3 for row in range(n_rows)], pa.float64())
    return columns


def test_layout_is_that_of_the_technote_and_more(product: SmallProduct) -> None:
    """The names are a promise."""
    with h5py.File(data_file(product)) as file:
        groups = {name: set(group) for name, group in file.items()}
    expected = {
        name: set(f"{DMTN_326.get(name, '')} {BESIDE.get(name, '')}".split()) for name in DMTN_326 | BESIDE
    }
    assert groups == expected


def test_every_row_dataset_has_unit_and_description(product: SmallProduct) -> None:
    with h5py.File(data_file(product)) as file:
        for group in ("catalog", "images", "wcs", "carried", "carried_null"):
            for name, dataset in file[group].items():
                assert len(dataset) == 7, name
                assert {"unit", "description"} <= set(dataset.attrs), name
        assert file["images/flux"].attrs["unit"] == "nJy"
        assert file["images/variance"].attrs["unit"] == "nJy2"
        assert file["carried/flux_r"].attrs["unit"] == "nJy"
        assert file["carried/flux_r"].attrs["description"] == "Flux in the catalog."


def test_types_are_those_of_the_contract(product: SmallProduct) -> None:
    with h5py.File(data_file(product)) as file:
        assert file["meta/schema_version"].asstr()[()] == "1.0"
        assert file["meta/band_order"].asstr()[:].tolist() == ["g", "r", "i"]
        assert file["meta/image_shape"][:].tolist() == [16, 16]
        assert file["meta/psf_shape"][:].tolist() == [5, 7]
        assert file["images/flux"].dtype == "<f4"
        assert file["images/flux"].shape == (7, 3, 16, 16)
        assert file["images/mask"].dtype == "<i4"
        assert file["images/psf"].shape == (7, 3, 5, 7)
        assert file["images/band"].asstr()[4].tolist() == ["g", "r", "i"]
        assert file["catalog/object_id"].dtype == "<i8"
        assert file["carried/n_visits"].dtype == "<i2"
        assert file["carried/is_star"].dtype == bool
        assert file["meta/mask_planes/name"].asstr()[:].tolist() == [plane.name for plane in PLANES]
        assert file["meta/mask_planes/bit"][:].tolist() == [0, 2, 3, 7]
        assert file["meta/background"].asstr()[()] == "object"
        assert file["provenance/background"].asstr()[:].tolist() == [["object"] * 3, ["object", "object", ""]]
        assert file["wcs"].attrs["ctype"].tolist() == ["RA---TAN", "DEC--TAN"]


def test_floats_lie_as_they_are_and_masks_have_builtin_filters_only(product: SmallProduct) -> None:
    with h5py.File(data_file(product)) as file:
        for name in ("flux", "variance", "psf"):
            assert file[f"images/{name}"].chunks is None
        mask = file["images/mask"]
        assert (mask.chunks, mask.compression, mask.shuffle) == ((1, 1, 16, 16), "gzip", True)


def test_nulls_of_the_catalog_stay_nulls(product: SmallProduct) -> None:
    with h5py.File(data_file(product)) as file:
        rows = file["catalog/row"][:].tolist()
        for name, row in (("flux_r", 1), ("n_visits", 3), ("is_star", 4), ("note", 5)):
            assert np.flatnonzero(file[f"carried_null/{name}"]).tolist() == [rows.index(row)]
        assert np.isnan(file["carried/flux_r"][rows.index(1)])


def test_planes_that_were_not_requested_are_absent(tmp_path: Path) -> None:
    with h5py.File(data_file(SmallProduct(tmp_path, planes=("image",)).make())) as file:
        assert "flux" in file["images"]
        assert not {"variance", "mask", "psf"} & set(file["images"])
        assert not {"mask_planes", "psf_shape"} & set(file["meta"])


def test_same_content_gives_same_bytes(tmp_path: Path) -> None:
    """At another time and place, with other leftovers in memory."""
    columns = some_columns(9)
    with HDF5Writer(tmp_path / "a.hdf5", SMALL, 9) as writer:
        writer.write(0, columns)
    code = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_hdf5 import SMALL, HDF5Writer, some_columns
        with HDF5Writer({str(tmp_path / "elsewhere" / "longer_name.hdf5")!r}, SMALL, 9) as writer:
            writer.write(0, some_columns(9))
    """
    environment = os.environ | {"MALLOC_PERTURB_": "170"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)
    other = tmp_path / "elsewhere" / "longer_name.hdf5"
    assert (tmp_path / "a.hdf5").read_bytes() == other.read_bytes()


def test_bytes_do_not_depend_on_the_blocks(tmp_path: Path) -> None:
    """A restart repackages in other pieces, and perhaps plane by plane."""
    columns = some_columns(9)
    with HDF5Writer(tmp_path / "once.hdf5", SMALL, 9) as writer:
        writer.write(0, columns)
    with HDF5Writer(tmp_path / "blocks.hdf5", SMALL, 9) as writer:
        for start, stop in ((0, 1), (1, 5), (5, 5), (5, 9)):
            block = {path: values[start:stop] for path, values in columns.items()}
            writer.write(start, dict(reversed(block.items())))
    with HDF5Writer(tmp_path / "planes.hdf5", SMALL, 9) as writer:
        positions = {path: columns.pop(path) for path in ("catalog/ra", "catalog/dec")}
        for path, values in columns.items():
            for row in range(9):
                writer.write(row, {path: values[row : row + 1]})
        writer.write(0, positions)
    expected = (tmp_path / "once.hdf5").read_bytes()
    assert (tmp_path / "blocks.hdf5").read_bytes() == expected
    assert (tmp_path / "planes.hdf5").read_bytes() == expected


def test_file_without_rows_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "empty.hdf5"
    with HDF5Writer(path, SMALL, 0) as writer:
        writer.write(0, some_columns(0))
    with HDF5Reader(path) as reader:
        assert (reader.n_rows, reader.size, reader.bands) == (0, 6, ("g", "r"))
        assert reader.read("images/mask").shape == (0, 2, 6, 6)
        assert reader.read("catalog/object_id").shape == (0,)


def test_more_than_31_mask_planes_take_64_bits(tmp_path: Path) -> None:
    planes = tuple(MaskPlane(f"PLANE_{bit}", bit, "") for bit in range(33))
    layout = dataclasses.replace(SMALL, mask_planes=planes, id_type=pa.int64(), carried=())
    columns = blank_columns(layout, 1)
    columns["images/mask"][0, 1, 2, 3] = 1 << 32
    with HDF5Writer(tmp_path / "wide.hdf5", layout, 1) as writer:
        writer.write(0, columns)
    with h5py.File(tmp_path / "wide.hdf5") as file:
        assert file["images/mask"].dtype == "<i8"
        assert file["images/mask"][0, 1, 2, 3] == 4294967296


@pytest.mark.parametrize(
    ("start", "path", "shape", "message"),
    [
        (1, "images/flux", (1, 2, 6, 6), "do not follow"),
        (0, "images/flux", (3, 2, 6, 6), "do not follow"),
        (0, "images/flux", (1, 2, 6, 5), r"\(2, 6, 6\), not \(2, 6, 5\)"),
        (0, "images/band", (1, 2), "no place"),
        (0, "images/noise", (1, 2, 6, 6), "no place"),
    ],
)
def test_wrong_rows_are_our_own_fault(
    tmp_path: Path, start: int, path: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InternalError, match=message), HDF5Writer(tmp_path / "x.hdf5", SMALL, 2) as writer:
        writer.write(start, {path: np.zeros(shape, "f4")})
    assert not list(tmp_path.iterdir())


def test_number_too_large_for_its_column_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InternalError, match="catalog/patch do not fit"),
        HDF5Writer(tmp_path / "x.hdf5", SMALL, 1) as writer,
    ):
        writer.write(0, {"catalog/patch": np.array([1 << 40])})


def test_file_appears_only_when_all_rows_are_written(tmp_path: Path) -> None:
    columns = some_columns(2)
    last = columns.pop("images/psf")
    writer = HDF5Writer(tmp_path / "x.hdf5", SMALL, 2)
    writer.write(0, columns)
    assert not (tmp_path / "x.hdf5").exists()
    writer.write(0, {"images/psf": last[:1]})
    with pytest.raises(InternalError, match=r"its 2 rows of \['images/psf'\]"):
        writer.close()
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_no_file_and_says_try_again(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    code = f"""
        import resource, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_hdf5 import SMALL, HDF5Writer, some_columns
        from lsst.dax.bulkcutout.errors import TransientError
        columns = some_columns(400)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with HDF5Writer({str(tmp_path / "full.hdf5")!r}, SMALL, 400) as writer:
                writer.write(0, columns)
        except TransientError as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True
    )
    assert "full.hdf5" in run.stdout
    assert "try again" in run.stdout
    assert not list(tmp_path.iterdir())


def test_file_in_the_way_of_a_directory_is_the_users_turn(tmp_path: Path) -> None:
    (tmp_path / "size=6").write_text("a file")
    with pytest.raises(UserError, match="size=6"):
        HDF5Writer(tmp_path / "size=6" / "x.hdf5", SMALL, 0)


@pytest.mark.parametrize("name", ["schema_version", "writer_version"])
def test_newer_version_is_refused(tmp_path: Path, name: str) -> None:
    path = data_file(SmallProduct(tmp_path).make())
    with h5py.File(path, "r+") as file:
        del file[f"meta/{name}"]
        file[f"meta/{name}"] = "99"
    with pytest.raises(UserError, match="newer version"):
        HDF5Reader(path)


def test_other_hdf5_files_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["images"] = [1, 2, 3]
    with pytest.raises(CorruptInputError, match="not a file of cutouts"):
        HDF5Reader(tmp_path / "other.hdf5")


def test_file_of_version_1_is_read_for_ever() -> None:
    """tests/data/cutouts_v1.hdf5 was written once and stays as it is."""
    with HDF5Reader(Path(__file__).parent / "data" / "cutouts_v1.hdf5") as reader:
        assert (reader.n_rows, reader.size, reader.bands) == (2, 4, ("g", "r"))
        assert reader.read("catalog/object_id").tolist() == ["first", "zwölf"]
        assert reader.read("catalog/row").tolist() == [3, 12]
        assert reader.read("images/flux")[1, 0].tolist() == [
            [116.0 + 4 * y + x for x in range(4)] for y in range(4)
        ]
        assert np.isnan(reader.read("images/flux")[0, 1]).all()
        assert (reader.read("images/mask")[0] == [[[0] * 4] * 4, [[1] * 4] * 4]).all()
        assert reader.read("images/band_status").tolist() == [[0, 1], [0, 0]]
        assert reader.read("wcs/crpix").tolist() == [[10.0, 20.5], [-7.0, 3.0]]
        assert reader.read("carried/mag").tolist()[1] == 21.5
        assert reader.read("carried_null/mag").tolist() == [True, False]
        assert [plane.name for plane in reader.mask_planes] == [plane.name for plane in PLANES]


def test_file_of_version_2_is_read_for_ever() -> None:
    """tests/data/cutouts_v2.hdf5 was written once and stays as it is."""
    with open_cutouts(Path(__file__).parent / "data" / "cutouts_v2.hdf5") as cutouts:
        assert (len(cutouts), cutouts.bands) == (2, ("g", "r"))
        first, second = cutouts
        assert [cutout.object_id for cutout in cutouts] == [5, 2**62]
        assert [cutout.fallback for cutout in cutouts] == [False, True]
        assert [cutout.carried for cutout in cutouts] == [{"mag": None}, {"mag": 21.5}]
        assert [second.n_patches(band) for band in "gr"] == [2, 3]
        assert [second.stitched(band) for band in "gr"] == [False, True]
        assert second.status == {"g": "no_data", "r": "read_failed"}
        # Element by element the numbers count up through a dataset.
        counted = np.arange(16.0).reshape(4, 4)
        np.testing.assert_array_equal(second.image("r") - second.image("g"), np.full((4, 4), 16))
        np.testing.assert_array_equal(second.image("g") - first.image("g")[0, 0], counted + 32)
        assert second.noise("g").shape == (2, 4, 4)
        np.testing.assert_array_equal(second.noise("g")[1] - first.noise("g")[0, 0, 0], counted + 80)
        np.testing.assert_array_equal(second.mask_fraction("r") - second.mask_fraction("g"), 16)
        assert first.mask_plane("NO_DATA", "g")[0].tolist() == [False, True, False, True]
        files = cutouts.files
    with HDF5Reader(files[0]) as reader:
        assert reader.meta("background_requested") == "pretty"
        # That astropy-healpix gives for nside 256, nested.
        assert reader.read("catalog/healpix").tolist() == [268614, 189104]
        assert reader.read("wcs/exact").tolist() == [False, True]
        assert reader.read("provenance/unit").tolist() == [["nJy", "adu"]]
        assert reader.read("provenance/neighbors/neighbor").tolist() == [4]
        assert "CTYPE1  = 'RA---TPV'" in reader.read("provenance/wcs")[0, 1]


def test_unknown_format_names_the_known_ones() -> None:
    assert writer_class("hdf5") is HDF5Writer
    with pytest.raises(UserError, match="hdf5"):
        writer_class("zarr")
