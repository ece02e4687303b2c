from pathlib import Path

import pytest

from rootfs_builder.container_image.oci_layout import placing


def test_layout_that_finds_no_room_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    layout = tmp_path / "web"

    def write(to: str) -> None:
        with placing(layout) as partial:
            partial.mkdir()
            Path(to).write_bytes(b"much")

    with pytest.raises(OSError, match="No space left") as full:
        write("/dev/full")
    assert full.value.filename == str(layout)
    with pytest.raises(FileNotFoundError) as absent:
        write(str(tmp_path / "absent" / "blob"))
    assert absent.value.filename == str(tmp_path / "absent" / "blob")
    assert list(tmp_path.iterdir()) == []
