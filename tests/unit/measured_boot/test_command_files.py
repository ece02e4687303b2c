from pathlib import Path

import pytest

from ccinit.errors import CcinitError, FormatError, LimitExceededError
from measured_boot.cli import main
from measured_boot.command_files import read_capped, reading
from tests.fakes.built_image import write_built_image

ENDLESS = "/dev/zero"


def test_read_capped_takes_no_more_than_allowed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"four")
    assert read_capped(path, 4) == b"four"
    for larger, limit in ((path, 3), (Path(ENDLESS), 4)):
        with pytest.raises(LimitExceededError) as error:
            read_capped(larger, limit)
        assert error.value.reason == "file.length"
        assert error.value.detail == f"{larger}: more than {limit} bytes"


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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_built_image(tmp_path)
    (tmp_path / "noise").write_bytes(b"noise" * 100)
    (tmp_path / "link.json").symlink_to(ENDLESS)
    (tmp_path / "line").write_bytes(b"quiet")
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
        "predict ccinit-prod.json --platform snp_direct_qemu-10 --firmware /dev/zero",
        "predict ccinit-prod.json --platform snp_direct_qemu-10 --firmware line --svsm /dev/zero",
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
