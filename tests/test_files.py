"""Files: digests, and writes that fail."""

import hashlib
import resource
from pathlib import Path

import pytest

from nas.files import file_sha256, write_atomic


def test_digest_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)

    assert file_sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_digest_of_the_published_test_vector(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")

    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_write_without_room_names_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    file = write_atomic(tmp_path / "a.txt", "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*a\.txt"):
            write_atomic(file, "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("a.txt", "old")]
