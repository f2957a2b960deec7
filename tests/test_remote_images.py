# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""Images in an object store are read in ranges, and as files are."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest

from lsst.dax.bulkcutout.errors import CorruptInputError
from lsst.dax.bulkcutout.readers import open_image
from lsst.dax.bulkcutout.readers.byte_source import LocalBytes, RemoteBytes, open_bytes
from lsst.resources import ResourcePath


class Store(http.server.ThreadingHTTPServer):
    """Serves the files of a directory over HTTP, with ranges."""

    daemon_threads = True

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.directory = directory
        self.ranges: list[tuple[int, int]] = []
        self.fails = False

    def uri(self, name: str) -> ResourcePath:
        return ResourcePath(f"http://127.0.0.1:{self.server_address[1]}/{name}")


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Store
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def do_OPTIONS(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, with_content: bool) -> None:
        path = self.server.directory / self.path.lstrip("/")
        if not path.is_file() or (self.server.fails and with_content):
            self.send_response(403 if path.is_file() else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content, size = path.read_bytes(), path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2]), size - 1)
            content = content[first : last + 1]
            self.server.ranges.append((first, last + 1 - first))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield server
        server.shutdown()


CARDS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 2.0} | {
    "CRPIX1": 1.0,
    "CRPIX2": 1.0,
    "CD1_1": -1e-4,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": 1e-4,
}


def write(path: Path, *, side: int = 1500, codec: str | None = "GZIP_2") -> np.ndarray:
    pixels = np.random.default_rng(5).normal(0, 9, (side, side)).astype("f4")
    with fitsio.FITS(path, "rw") as file:
        file.write(pixels, compress=codec, tile_dims=(100, 100), qlevel=None, header=CARDS)
    return pixels


@pytest.mark.parametrize("codec", ["GZIP_2", None])
def test_only_what_is_wanted_is_fetched(store: Store, tmp_path: Path, codec: str | None) -> None:
    pixels = write(tmp_path / "image.fits", codec=codec)
    size = (tmp_path / "image.fits").stat().st_size
    assert size > 7_000_000
    with open_image(store.uri("image.fits")) as reader:
        tile = reader.n_tiles[0] // 2, 0
        box = reader.tile_box(*tile)
        canvas = np.empty(box.shape, dtype=np.float32)
        assert reader.load_tiles("image", [tile], canvas, box) == []
        np.testing.assert_array_equal(canvas, pixels[box.slices(reader.bbox)])
        fetched = sum(n for _, n in store.ranges)
        assert 0 < fetched < size / 5
        assert len(store.ranges) <= 4
        whole = np.empty(reader.bbox.shape, dtype=np.float32)
        tiles = reader.tiles_touching(reader.bbox)
        assert reader.load_tiles("image", tiles, whole, reader.bbox, threads=2) == []
        np.testing.assert_array_equal(whole, pixels)


def test_error_of_the_store_is_no_damage(store: Store, tmp_path: Path) -> None:
    """It may be repeated; what is really missing is told as damage."""
    pixels = write(tmp_path / "image.fits")
    with open_image(store.uri("image.fits")) as reader:
        tiles = reader.tiles_touching(reader.bbox)
        canvas = np.empty(reader.bbox.shape, dtype=np.float32)
        store.fails = True
        with pytest.raises(OSError, match=r"image\.fits"):
            reader.load_tiles("image", tiles, canvas, reader.bbox)
        store.fails = False
        assert reader.load_tiles("image", tiles, canvas, reader.bbox) == []
        np.testing.assert_array_equal(canvas, pixels)
    with pytest.raises(OSError):
        open_image(store.uri("other.fits"))
    (tmp_path / "no.fits").write_bytes(b"<html>" * 1000)
    with pytest.raises(CorruptInputError, match=r"http://.*no\.fits: not a FITS file"):
        open_image(store.uri("no.fits"))


def test_file_that_is_here_is_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    source = open_bytes(ResourcePath(str(tmp_path / "a")))
    assert isinstance(source, LocalBytes)
    assert (source.size, source.read(3, 4)) == (10, b"3456")
    source.close()
    source.close()


def test_what_was_fetched_is_not_fetched_again(store: Store, tmp_path: Path) -> None:
    content = np.random.default_rng(3).bytes(3_000_000)
    (tmp_path / "a").write_bytes(content)
    source = open_bytes(store.uri("a"))
    assert isinstance(source, RemoteBytes)
    places = [(0, 10), (2880, 5000), (100_000, 50_000), (2_999_990, 10), (2_999_995, 5)]
    for first, size in places:
        assert source.read(first, size) == content[first : first + size]
    assert [first for first, _ in store.ranges] == [0, 2_999_990]
    source.close()
