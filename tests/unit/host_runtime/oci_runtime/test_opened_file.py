"""Files that are open, in the words of errors."""

from pathlib import Path

from host_runtime.oci_runtime.opened_file import descriptor_path, name_descriptors, opened_inside


def test_error_of_qemu_names_the_file_and_not_our_descriptor(tmp_path: Path) -> None:
    disk = tmp_path / "data.img"
    disk.touch()
    with opened_inside(disk, (tmp_path,)) as descriptor:
        text = f'Failed to get "write" lock on [{descriptor_path(descriptor)}]'
        assert name_descriptors(text) == f'Failed to get "write" lock on [{disk}]'
    assert name_descriptors("[/proc/self/fd/99999]") == "[/proc/self/fd/99999]"
