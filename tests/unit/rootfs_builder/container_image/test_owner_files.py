"""Keys beside an image: made once, whoever else is making them."""

import threading
from pathlib import Path

import pytest

from ccinit.formats.kbs.resource_uri import ResourceUri
from measured_boot.command_line.files import write_whole
from rootfs_builder import key_file
from rootfs_builder.container_image.owner_files import open_key

URI = ResourceUri("ccinit", "shop", "image-key-web")


def test_key_is_made_once(tmp_path: Path) -> None:
    made = open_key(tmp_path, URI)
    assert open_key(tmp_path, URI) == made
    path = tmp_path / "keys/ccinit/shop/image-key-web"
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (made.key, 0o600)


def test_two_that_make_a_key_at_once_have_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one encrypts to a key that is nowhere, and its image opens for nobody."""
    found: list[bytes] = []
    other = threading.Thread(target=lambda: found.append(open_key(tmp_path, URI).key))

    def write_late(path: Path, data: bytes, mode: int) -> None:
        if threading.current_thread() is not other:
            other.start()
            other.join(0.5)  # as long as it needs, if nothing keeps it
        write_whole(path, data, mode)

    monkeypatch.setattr(key_file, "write_whole", write_late)
    found.append(open_key(tmp_path, URI).key)
    other.join(60)
    assert len(found) == 2
    assert found[0] == found[1]
