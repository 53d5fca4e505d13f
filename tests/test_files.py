"""Files: the digest of a file's content."""

import hashlib
from pathlib import Path

from nas.files import file_sha256


def test_digest_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)

    assert file_sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_digest_of_the_published_test_vector(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")

    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
