import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ccinit.errors import FormatError
from measured_boot.image.pe import PeImage, parse_pe
from measured_boot.tpm.pcr import replay
from measured_boot.tpm.stub import command_line, initrd_pieces, predict_uki, stub_version
from tests.fakes.published.pe_images import (
    STUB_MARK,
    STUB_VERSION,
    kernel_image,
    uki_image,
    uki_sections,
)

VECTORS = Path("tests/vectors/measured_boot")
LONG = (".linux", ".initrd")


def image(changes: dict[str, bytes | None] | None = None) -> PeImage:
    return parse_pe(uki_image(changes))


def recorded(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())
    return value


def logged(name: str, register: int) -> list[str]:
    return [row[2] for row in recorded(name)["events"] if row[0] == register]


def predicted(uki: PeImage, register: int) -> list[str]:
    return [event.digest.hex() for event in predict_uki(uki) if event.register == register]


def image_of(name: str) -> PeImage:
    """Return the recorded UKI with another stub, kernel and initrd."""
    contents = recorded(name)["contents"]
    return image({section: bytes.fromhex(content) for section, content in contents.items()})


@pytest.mark.parametrize("name", ["uki", "all_sections"])
def test_predict_uki_recorded_sections_give_the_recorded_pcr_11(name: str) -> None:
    digests = recorded(name)["sections"]
    other = {
        hashlib.sha256(uki_sections()[section]).hexdigest(): digests[section] for section in LONG
    }
    ours = [other.get(digest, digest) for digest in predicted(image_of(name), 11)]
    assert ours == logged(name, 11)
    assert replay(map(bytes.fromhex, ours)).hex() == recorded(name)["pcr"]["11"]


@pytest.mark.parametrize("name", ["uki", "all_sections"])
def test_predict_uki_recorded_programs_give_the_recorded_pcr_4(name: str) -> None:
    uki = image_of(name)
    other = {
        uki.authenticode().hex(): recorded(name)["authenticode"],
        parse_pe(kernel_image()).authenticode().hex(): recorded(name)["linux_authenticode"],
    }
    assert [other.get(digest, digest) for digest in predicted(uki, 4)] == logged(name, 4)


@pytest.mark.parametrize("name", ["uki", "all_sections"])
def test_predict_uki_recorded_command_line_gives_the_recorded_event(name: str) -> None:
    line, initrd = predicted(image_of(name), 9)
    assert line == logged(name, 9)[0]
    assert len(initrd) == len(logged(name, 9)[1])


def test_predict_uki_measures_the_file_and_the_kernel_as_programs() -> None:
    uki = image()
    kernel = parse_pe(kernel_image())
    assert predicted(uki, 4)[2:] == [uki.authenticode().hex(), kernel.authenticode().hex()]


def test_predict_uki_measures_each_section_by_name_and_content() -> None:
    subjects = [event.subject for event in predict_uki(image()) if event.register == 11]
    names = (".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat")
    assert subjects == [
        text for name in names for text in (f"name of section {name}", f"section {name}")
    ]


def test_predict_uki_is_the_same_for_another_order_in_the_file() -> None:
    def sections_of(names: list[str]) -> list[bytes]:
        fake = {name: uki_sections()[name] for name in names}
        everything: dict[str, bytes | None] = {**dict.fromkeys(uki_sections()), **fake}
        return [event.digest for event in predict_uki(image(everything)) if event.register == 11]

    assert sections_of(list(uki_sections())) == sections_of(sorted(uki_sections()))


def test_initrd_has_the_archive_of_os_release_behind_it() -> None:
    pieces = b"".join(initrd_pieces(image({".osrel": b"ID=x\n"})))
    assert pieces.startswith(b"archive\x00070701000000010000416d")
    assert b".extra/os-release\x00ID=x\n\x00\x00\x00070701" in pieces
    assert pieces.endswith(b"TRAILER!!!\0\0\0\0")
    assert len(pieces) % 4 == 0


def test_initrd_parts_come_in_the_stubs_order() -> None:
    extra: dict[str, bytes | None] = {".ucode": b"ucode", ".pcrpkey": b"key", ".pcrsig": b"sig"}
    pieces = b"".join(initrd_pieces(image(extra)))
    spots = [
        pieces.index(text)
        for text in (
            b"ucode\0\0\0",
            b"archive\0",
            b"signature.json",
            b"public-key.pem",
            b"os-release",
        )
    ]
    assert spots == sorted(spots)
    assert spots[0] == 0


def test_predict_uki_signature_of_registers_is_not_measured_itself() -> None:
    def events(signature: bytes) -> list[bytes]:
        uki = image({".pcrsig": signature})
        return [event.digest for event in predict_uki(uki) if event.register == 11]

    assert events(b"one") == events(b"two")


def test_predict_uki_any_changed_section_changes_the_prediction() -> None:
    good = {event.digest for event in predict_uki(image())}
    for name in (".osrel", ".cmdline", ".uname", ".initrd", ".sbat"):
        changed = predict_uki(image({name: uki_sections()[name] + b"x"}))
        assert {event.digest for event in changed} != good, name


@pytest.mark.parametrize("name", [".linux", ".osrel", ".cmdline", ".initrd"])
def test_predict_uki_missing_section_is_refused(name: str) -> None:
    assert predict_uki(image())
    with pytest.raises(FormatError) as error:
        predict_uki(image({name: None}))
    assert error.value.reason == "stub.section"
    assert name in error.value.detail


@pytest.mark.parametrize("name", [".dtb", ".dtbauto", ".efifw", ".hwids", ".profile"])
def test_predict_uki_section_that_the_host_decides_on_is_refused(name: str) -> None:
    with pytest.raises(FormatError) as error:
        predict_uki(image({name: b"content"}))
    assert error.value.reason == "stub.section"


@pytest.mark.parametrize("name", [".initrd", ".uname", ".pcrsig"])
def test_predict_uki_empty_section_is_refused(name: str) -> None:
    with pytest.raises(FormatError) as error:
        predict_uki(image({name: b""}))
    assert error.value.reason == "stub.section"
    assert "empty" in error.value.detail


def test_predict_uki_kernel_that_is_no_program_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        predict_uki(image({".linux": b"\x7fELF" + bytes(100)}))
    assert error.value.reason == "pe.magic"


def test_command_line_may_end_with_nul() -> None:
    assert command_line(image({".cmdline": b"quiet\0"})) == "quiet"


@pytest.mark.parametrize(
    "line",
    [b"", b"\0", b" quiet", b"quiet ", b"quiet\n", b"a\tb", b"a\0b", b"x\xc3\xa9", b"\xff"],
)
def test_command_line_that_the_stub_would_change_is_refused(line: bytes) -> None:
    with pytest.raises(FormatError) as error:
        command_line(image({".cmdline": line}))
    assert error.value.reason == "stub.command_line"


def test_stub_version_is_read_from_its_mark() -> None:
    assert stub_version(image()) == STUB_VERSION


@pytest.mark.parametrize(
    "mark", [None, b"", b"#### LoaderInfo: systemd-boot 257 ####", STUB_MARK[:-1], b"\xff" * 40]
)
def test_stub_version_of_another_program_is_refused(mark: bytes | None) -> None:
    with pytest.raises(FormatError) as error:
        stub_version(image({".sdmagic": mark}))
    assert error.value.reason == "stub.version"


def test_stub_version_that_is_not_ascii_is_refused() -> None:
    mark = STUB_MARK.replace(b"257", b"\xff\xff\xff")
    with pytest.raises(FormatError) as error:
        stub_version(image({".sdmagic": mark}))
    assert error.value.reason == "stub.version"


def test_predict_uki_initrd_digest_is_of_all_pieces() -> None:
    uki = image()
    (_, initrd) = (event for event in predict_uki(uki) if event.register == 9)
    assert initrd.digest == hashlib.sha256(b"".join(initrd_pieces(uki))).digest()
