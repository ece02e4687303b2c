"""Order and content of the events are those that firmware and stub logged for a TPM, and those of a
trust domain on hardware.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from measured_boot.image.pe import parse_pe
from measured_boot.tdx.registers import ZERO_RTMR, replay_rtmrs, rtmr_of
from measured_boot.tpm.boot_events import EXITS
from measured_boot.tpm.direct_boot import predict_direct_boot
from measured_boot.tpm.pcr import Event, EventKind
from measured_boot.tpm.stub import predict_uki
from tests.fakes.published.pe_images import kernel_image, uki_image

VECTORS = Path("tests/vectors/measured_boot")
KERNEL = parse_pe(kernel_image())
DIRECT = predict_direct_boot(KERNEL, b"initrd", "quiet")
BOOT = (*DIRECT, *EXITS)


def recorded(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())
    return value


def folded(name: str, rtmr: int) -> list[str]:
    """Return the recorded events of the registers that one RTMR folds; one separator is left."""
    digests, has_separator = [], False
    for register, kind, digest, _ in recorded(name)["events"]:
        if register in {0, 10} or register > 15 or rtmr_of(register) != rtmr:
            continue
        if kind == EventKind.SEPARATOR and has_separator:
            continue
        has_separator = has_separator or kind == EventKind.SEPARATOR
        digests.append(digest)
    return digests


def predicted(events: tuple[Event, ...], rtmr: int, real: dict[str, str]) -> list[str]:
    ours = [event.digest.hex() for event in (*events, *EXITS) if rtmr_of(event.register) == rtmr]
    return [real.get(digest, digest) for digest in ours]


@pytest.mark.parametrize("rtmr", [1, 2])
def test_direct_boot_has_the_recorded_events(rtmr: int) -> None:
    vector = recorded("direct")
    events = predict_direct_boot(KERNEL, b"initrd", vector["command_line"])
    real = {
        KERNEL.authenticode().hex(): vector["kernel_authenticode"],
        hashlib.sha256(b"initrd").hexdigest(): vector["initrd"],
    }
    assert predicted(events, rtmr, real) == folded("direct", rtmr)


def test_uki_boot_has_the_recorded_events_of_programs() -> None:
    vector = recorded("uki")
    uki = parse_pe(uki_image())
    real = {
        uki.authenticode().hex(): vector["authenticode"],
        KERNEL.authenticode().hex(): vector["linux_authenticode"],
    }
    assert predicted(predict_uki(uki), 1, real) == folded("uki", 1)


def test_uki_boot_has_the_recorded_number_of_events_of_sections_and_inputs() -> None:
    assert len(predicted(predict_uki(parse_pe(uki_image())), 2, {})) == len(folded("uki", 2))


def test_a_trust_domain_on_hardware_measured_a_direct_boot_as_predicted() -> None:
    vector = recorded("tdx_direct")
    ours = [(rtmr_of(event.register), event.kind, event.wide_digest.hex()) for event in BOOT]
    theirs = [(rtmr, kind, digest) for rtmr, kind, digest in vector["events"]]
    assert [event[:2] for event in ours] == [event[:2] for event in theirs]
    # Kernel, command line and initrd were others; all that firmware says by itself is the same.
    same = {index for index, pair in enumerate(zip(ours, theirs, strict=True)) if len({*pair}) == 1}
    assert same == {1, 2, 5, 6}
    for index in (1, 2):
        value: bytes = ZERO_RTMR
        for rtmr, _, digest in theirs:
            if rtmr == index:
                value = hashlib.sha384(value + bytes.fromhex(digest)).digest()
        assert value.hex() == vector["rtmr"][str(index)]


def test_replay_rtmrs_is_a_chain_in_sha384() -> None:
    registers = replay_rtmrs(DIRECT)
    for index in (1, 2):
        value: bytes = ZERO_RTMR
        for event in (*DIRECT, *EXITS):
            if rtmr_of(event.register) == index:
                value = hashlib.sha384(value + event.wide_digest).digest()
        assert registers[index] == value


@pytest.mark.parametrize(
    ("events", "changed"),
    [
        (predict_direct_boot(KERNEL, b"initre", "quiet"), {2}),
        (predict_direct_boot(KERNEL, b"initrd", "quieu"), {2}),
        (predict_direct_boot(parse_pe(kernel_image() + b"\0"), b"initrd", "quiet"), {1}),
    ],
)
def test_replay_rtmrs_changes_where_the_input_is_measured(
    events: tuple[Event, ...], changed: set[int]
) -> None:
    before, after = replay_rtmrs(DIRECT), replay_rtmrs(events)
    assert {index for index in before if before[index] != after[index]} == changed


@pytest.mark.parametrize("register", [0, 16, 23])
def test_rtmr_of_refuses_what_has_none(register: int) -> None:
    assert [rtmr_of(index) for index in (1, 7, 2, 6, 8, 15)] == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="has no RTMR"):
        rtmr_of(register)
