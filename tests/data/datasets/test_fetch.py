import hashlib
import zipfile

import pytest

from attrcloak.data.datasets import fetch


def test_a_wrong_checksum_leaves_no_file(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"data")
    with pytest.raises(OSError, match="checksum"):
        fetch.download(source.as_uri(), "sha256:00", tmp_path / "got" / "file")
    assert not list((tmp_path / "got").iterdir())
    fetch.download(source.as_uri(), "sha256:" + hashlib.sha256(b"data").hexdigest(), tmp_path / "got" / "file")
    assert (tmp_path / "got" / "file").read_bytes() == b"data"


def test_members_come_out_flat(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("ml/u.data", "1")
    fetch.unpack(tmp_path / "a.zip", ("u.data",), tmp_path / "out")
    assert (tmp_path / "out" / "u.data").read_text() == "1"
