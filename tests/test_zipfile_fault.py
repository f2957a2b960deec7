# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The fault of some Pythons that spoils the reading of quantum graphs."""

from __future__ import annotations

import contextlib
import io
import random
import zipfile

import pytest

from lsst.dax.bulkcutout.zipfile_fault import has_zipfile_fault, mend_zipfile

N_MEMBERS = 330


def content(member: int) -> bytes:
    return b"".join(f"{member:04d}:{record:04d};".encode() for record in range(40))


@pytest.fixture(scope="module")
def archive() -> io.BytesIO:
    """More members than one graph file of a few hundred quanta has, stored as
    these are.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as file:
        for member in range(N_MEMBERS):
            file.writestr(f"{member}", content(member))
    return stream


def read_alternately(archive: io.BytesIO) -> list[bool]:
    """Whether records are right that are read by their offset, each from
    another member than the one before.
    """
    rng = random.Random(4)
    right = []
    with zipfile.ZipFile(archive) as file, contextlib.ExitStack() as stack:
        members = [stack.enter_context(file.open(f"{member}")) for member in range(N_MEMBERS)]
        for _ in range(3):
            for member in rng.sample(range(N_MEMBERS), N_MEMBERS):
                record = rng.randrange(40)
                members[member].seek(10 * record)
                try:
                    found = members[member].read(10)
                except (EOFError, zipfile.BadZipFile):
                    found = b""
                right.append(found == content(member)[10 * record : 10 * record + 10])
    return right


def test_members_are_read_alternately(archive: io.BytesIO) -> None:
    """Wrongly just where the fault is found, and rightly everywhere once it
    is mended.
    """
    assert all(read_alternately(archive)) == (not has_zipfile_fault())
    with mend_zipfile():
        assert not has_zipfile_fault()
        assert all(read_alternately(archive))


def test_mending_ends_with_the_context() -> None:
    """Also after an error, and one inside the other."""
    faulty, seek = has_zipfile_fault(), zipfile._SharedFile.seek
    with pytest.raises(KeyError), mend_zipfile():
        with mend_zipfile():
            assert not has_zipfile_fault()
        assert not has_zipfile_fault()
        raise KeyError
    assert zipfile._SharedFile.seek is seek
    assert has_zipfile_fault() == faulty


def test_other_ways_to_seek_stay_as_they_are(archive: io.BytesIO) -> None:
    with mend_zipfile(), zipfile.ZipFile(archive) as file, file.open("7") as one, file.open("8") as other:
        assert one.seek(-10, io.SEEK_END) == 390 and one.read() == b"0007:0039;"
        assert other.seek(20) == 20 and other.seek(10, io.SEEK_CUR) == 30 and other.read(10) == b"0008:0003;"
        assert one.seek(0) == 0 and one.read(10) == b"0007:0000;" and one.tell() == 10
