import hashlib
from pathlib import Path

import pytest
from sevsnpmeasure.sev_hashes import SevHashes  # type: ignore[import-untyped]

from ccinit.errors import FormatError
from measured_boot.sev.kernel_hashes import TABLE_BYTES, hash_kernel_files


def test_hash_kernel_files_hashes_the_line_with_its_end() -> None:
    hashes = hash_kernel_files(b"kernel", b"initrd", "quiet")
    assert hashes.kernel == hashlib.sha256(b"kernel").digest()
    assert hashes.initrd == hashlib.sha256(b"initrd").digest()
    assert hashes.command_line == hashlib.sha256(b"quiet\0").digest()


@pytest.mark.parametrize(
    ("initrd", "line"), [(b"initrd", "quiet"), (b"", "quiet"), (b"initrd", ""), (b"", "")]
)
def test_to_bytes_is_the_other_programs_table(tmp_path: Path, initrd: bytes, line: str) -> None:
    for name, data in (("kernel", b"kernel"), ("initrd", initrd)):
        (tmp_path / name).write_bytes(data)
    theirs = SevHashes(f"{tmp_path}/kernel", f"{tmp_path}/initrd", line).construct_table()
    ours = hash_kernel_files(b"kernel", initrd, line).to_bytes()
    assert ours == theirs
    assert len(ours) == TABLE_BYTES


@pytest.mark.parametrize("line", ["a\nb", "a\0", "\xe9"])
def test_hash_kernel_files_refuses_a_line_that_may_be_read_in_two_ways(line: str) -> None:
    with pytest.raises(FormatError) as error:
        hash_kernel_files(b"", b"", line)
    assert error.value.reason == "sev.command_line"
