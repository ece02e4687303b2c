import os
import stat
import tracemalloc
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, FormatError, LimitExceededError
from measured_boot.cli import main
from measured_boot.command_line.files import read_capped, read_text_capped, reading, write_whole
from tests.fakes.machine.disk_log import log_disk
from tests.fakes.machine.scarcity import room_for
from tests.fakes.published.built_image import write_built_image

ENDLESS = "/dev/zero"
SNP = "ccinit-prod.json --platform snp_direct_qemu-10 --cpu-model EPYC-v4"
SVSM = (
    "ccinit-prod.json --platform snp-svsm_stub-257.13_qemu-8.0-svsm --cpu-model EPYC-v4"
    " --firmware page"
)


def test_read_capped_takes_no_more_than_allowed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"four")
    assert read_capped(path, 4) == b"four"
    for larger, limit in ((path, 3), (Path(ENDLESS), 4)):
        with pytest.raises(LimitExceededError) as error:
            read_capped(larger, limit)
        assert error.value.reason == "file.length"
        assert error.value.detail == f"{larger}: more than {limit} bytes"


def test_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(10 << 30)
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceededError) as error:
            read_capped(path, 64 << 20)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert error.value.reason == "file.length"


def test_cap_takes_no_memory_that_the_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"small")
    assert read_capped(path, 1 << 62) == b"small"
    with Path("/dev/null").open("rb") as null:
        assert read_capped(Path(f"/dev/fd/{null.fileno()}"), 1 << 62) == b""


def test_file_that_opens_and_cannot_be_read_is_named() -> None:
    with pytest.raises(OSError, match="Input/output error") as error:
        read_capped(Path("/proc/self/mem"), 4)
    assert error.value.filename == "/proc/self/mem"


def test_text_is_utf8_or_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("§ 1".encode())
    assert read_text_capped(path) == "§ 1"
    with pytest.raises(LimitExceededError):
        read_text_capped(path, 3)
    path.write_bytes(b"ab\xff")
    with pytest.raises(FormatError) as error:
        read_text_capped(path)
    assert (error.value.reason, error.value.detail) == ("file.text", f"{path}: not UTF-8 at byte 3")


@pytest.mark.parametrize("family", [FormatError, LimitExceededError])
def test_reading_names_the_file_whose_content_is_wrong(
    tmp_path: Path, family: type[CcinitError]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"four")
    with reading(path, 4) as data:
        assert data == b"four"
    with pytest.raises(family) as error, reading(path, 4):
        raise family("some.reason", "not so")
    assert type(error.value) is family
    assert (error.value.reason, error.value.detail) == ("some.reason", f"{path}: not so")


@pytest.mark.parametrize("old", [None, b"old"])
def test_write_whole_leaves_what_was_there_if_it_cannot_write_all(
    tmp_path: Path, old: bytes | None
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(OSError, match="File too large") as error, room_for(4):
        write_whole(path, b"longer")
    assert error.value.filename == str(path)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == ([] if old is None else [old])
    with room_for(4):
        write_whole(path, b"four")
    assert path.read_bytes() == b"four"
    assert list(tmp_path.iterdir()) == [path]


def test_written_file_is_on_the_disk_before_its_name_leads_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = log_disk(monkeypatch)
    write_whole(tmp_path / "file", b"content")
    assert done == ["flush file", "place", "flush folder"]


def test_write_whole_keeps_mode_and_link_of_what_it_replaces(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    write_whole(target, b"a key", 0o600)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    link.symlink_to("target")
    write_whole(link, b"another")
    assert link.is_symlink()
    assert target.read_bytes() == b"another"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_write_whole_shows_nobody_what_replaces_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    modes: list[int] = []
    path = tmp_path / "file"
    write_whole(path, b"private", 0o600)
    monkeypatch.setattr(os, "fsync", note)
    write_whole(path, b"private, too")
    assert path.read_bytes() == b"private, too"
    assert modes[0] == 0o600


def test_write_whole_takes_no_file_that_somebody_left_in_its_way(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"kept")
    (tmp_path / f".{os.getpid()}.partial").symlink_to(other)
    write_whole(tmp_path / "file", b"content")
    assert other.read_bytes() == b"kept"
    assert not (tmp_path / "file").is_symlink()


def test_write_whole_writes_to_a_device_as_it_is(tmp_path: Path) -> None:
    write_whole(Path(os.devnull), b"gone")
    assert not Path(os.devnull).is_file()
    for path, words in ((Path("/dev/full"), "No space"), (tmp_path, "Is a directory")):
        with pytest.raises(OSError, match=words) as error:
            write_whole(path, b"content")
        assert error.value.filename == str(path)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments", ["predict ccinit-prod.json --output out", "explain ccinit-prod.json --svg out"]
)
def test_output_that_finds_no_room_leaves_no_file(
    arguments: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.iterdir())
    with room_for(64):
        assert main(arguments.split()) == 1
    assert "out: File too large" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before
    assert main(arguments.split()) == 0
    assert (folder / "out").stat().st_size > 64


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_built_image(tmp_path)
    (tmp_path / "noise").write_bytes(b"noise" * 100)
    (tmp_path / "link.json").symlink_to(ENDLESS)
    (tmp_path / "line").write_bytes(b"quiet")
    (tmp_path / "page").write_bytes(bytes(4096))
    (tmp_path / "empty.json").write_bytes(b"{}")
    (tmp_path / "lone.json").write_bytes((tmp_path / "ccinit-prod.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [
        "predict /dev/zero",
        "predict link.json",
        "predict ccinit-prod.vmlinuz --initrd /dev/zero --command-line line",
        "predict ccinit-prod.vmlinuz --initrd line --command-line /dev/zero",
        f"predict {SNP} --firmware /dev/zero",
        f"predict {SVSM} --svsm /dev/zero",
        "explain /dev/zero",
        "replay /dev/zero",
        "replay /dev/zero --quote /dev/zero",
        "verify . --builder-key /dev/zero",
        "unverified cca /dev/zero",
        "unverified se /dev/zero",
    ],
)
def test_no_command_reads_a_file_without_end(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 1
    words = capsys.readouterr().err
    assert "more than " in words
    assert ".length]" in words


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("predict noise", "noise: not an EFI program: no DOS header [pe.magic]"),
        ("predict empty.json", "empty.json is not a report of a built image [image_report.json]"),
        ("predict lone.json", "lone.efi is missing, or lone.json does not name it"),
        (f"predict {SNP} --firmware noise", "noise: 500 bytes are not whole pages of firmware"),
        (f"predict {SVSM} --svsm noise", "noise: 500 bytes are not whole pages"),
        ("explain noise", "noise: not an EFI program: no DOS header [pe.magic]"),
        ("replay noise", "noise: "),
        ("verify . --builder-key noise", "noise: no PEM public key [verify.key]"),
        ("unverified cca noise", "noise: malformed JSON [realm.json]"),
        ("unverified se noise", "noise: "),
    ],
)
def test_commands_name_the_file_whose_content_is_wrong(
    arguments: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 1
    assert capsys.readouterr().err.startswith(f"measured-boot: {words}")
