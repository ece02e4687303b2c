"""What a file brings into a layer, and what it may not."""

import errno
import io
import os
import tarfile
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from rootfs_builder.container_image.layer_tar import tar_tree


@pytest.mark.parametrize("absent", [errno.ENODATA, errno.ENOTSUP])
def test_file_whose_capabilities_would_be_lost_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: int
) -> None:
    for name in ("dumpcap", "web"):
        (tmp_path / name).write_bytes(b"program")

    def getxattr(path: Path, name: str, *, follow_symlinks: bool) -> bytes:
        assert (name, follow_symlinks) == ("security.capability", False)
        if path.name == "web":
            raise OSError(absent, os.strerror(absent), str(path))
        return bytes.fromhex("0100000200300000000000000000000000000000")

    monkeypatch.setattr(os, "getxattr", getxattr)
    with pytest.raises(ConfigError) as refused:
        tar_tree(tmp_path)
    assert refused.value.reason == "build.file"
    assert refused.value.detail.startswith(f"{tmp_path}/dumpcap has capabilities")
    (tmp_path / "dumpcap").unlink()
    with tarfile.open(fileobj=io.BytesIO(tar_tree(tmp_path))) as tar:
        assert tar.getnames() == [".", "web"]
