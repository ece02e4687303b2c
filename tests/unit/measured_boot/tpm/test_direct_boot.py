import hashlib
import json
from pathlib import Path

import pytest

from ccinit.errors import FormatError
from measured_boot.image.pe import parse_pe
from measured_boot.tpm.direct_boot import predict_direct_boot
from measured_boot.tpm.pcr import ZERO_PCR, replay_events
from tests.fakes.published.pe_images import FakePe, kernel_image, uki_sections

RECORDED = json.loads(Path("tests/vectors/measured_boot/direct.json").read_text())
KERNEL = parse_pe(kernel_image())
LINE = RECORDED["command_line"]


def recorded(register: int) -> list[str]:
    return [row[2] for row in RECORDED["events"] if row[0] == register]


def test_predict_direct_boot_gives_the_recorded_events_for_the_recorded_files() -> None:
    """With the recorded digests in place of those of the kernel and the initrd used here."""
    real = {
        KERNEL.authenticode().hex(): RECORDED["kernel_authenticode"],
        hashlib.sha256(b"initrd").hexdigest(): RECORDED["initrd"],
    }
    events = predict_direct_boot(KERNEL, b"initrd", LINE)
    for register in (4, 9):
        ours = [event.digest.hex() for event in events if event.register == register]
        assert [real.get(digest, digest) for digest in ours] == recorded(register)


def test_recorded_kernel_was_measured_unmodified_and_pcr_11_is_zero() -> None:
    assert recorded(4)[0] == RECORDED["kernel_authenticode"]
    assert RECORDED["pcr"]["11"] == ZERO_PCR.hex()
    assert recorded(11) == []


def test_predict_direct_boot_leaves_pcr_11_zero() -> None:
    registers = replay_events(predict_direct_boot(KERNEL, b"initrd", LINE))
    assert registers[11] == ZERO_PCR
    assert ZERO_PCR not in {registers[4], registers[9]}


@pytest.mark.parametrize(
    ("initrd", "line", "reason"),
    [
        (b"", "quiet", "direct.initrd"),
        (b"i", "", "direct.command_line"),
        (b"i", "quiet\n", "direct.command_line"),
        (b"i", "x\xe9", "direct.command_line"),
        (b"i", "quiet initrd=initrd", "direct.command_line"),
    ],
)
def test_predict_direct_boot_refuses(initrd: bytes, line: str, reason: str) -> None:
    assert predict_direct_boot(KERNEL, b"i", "quiet")
    with pytest.raises(FormatError) as error:
        predict_direct_boot(KERNEL, initrd, line)
    assert error.value.reason == reason


@pytest.mark.parametrize("only", [(".linux", ".cmdline"), (".sdmagic",), tuple(uki_sections())])
def test_uki_in_the_kernels_place_is_refused(only: tuple[str, ...]) -> None:
    """Its stub would measure sections into PCR 11, and hand over its own line and initrd."""
    sections = {name: data for name, data in uki_sections().items() if name in only}
    assert sections
    with pytest.raises(FormatError) as error:
        predict_direct_boot(parse_pe(FakePe(sections=sections).to_bytes()), b"i", "quiet")
    assert error.value.reason == "direct.kernel"
