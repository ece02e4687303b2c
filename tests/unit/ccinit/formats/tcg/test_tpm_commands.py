"""The commands as calls: what is asked for comes back, in its order, or not at all."""

import hashlib
import struct

import pytest

from ccinit.errors import FormatError, PeerError
from ccinit.formats.tcg.tpm2 import ALL_SHA256_PCRS, parse_tpms_attest
from ccinit.formats.tcg.tpm_commands import TpmCommands
from tests.fakes.platforms.tpm_device import (
    AK_HANDLE,
    SimulatedDevice,
    SimulatedTpm,
    scripted_device,
)
from tests.fakes.platforms.tpm_quote import FakeTpm, rsa_key


def simulated() -> SimulatedDevice:
    return SimulatedDevice(SimulatedTpm(tpm=FakeTpm(key=rsa_key(0))))


def test_registers_are_read_eight_at_a_time_in_the_asked_order() -> None:
    device = simulated()
    for pcr in range(24):
        device.tpm.tpm.pcrs[pcr] = bytes((pcr,)) * 32
    order = tuple(reversed(range(24)))
    assert TpmCommands(device).read_pcrs(order) == tuple(bytes((pcr,)) * 32 for pcr in order)
    assert device.tpm.commands == [0x17E] * 3


def test_r98_bank_without_values_is_refused() -> None:
    empty = struct.pack(">HII", 0x8001, 28, 0) + struct.pack(">IIHB", 1, 1, 11, 3) + bytes(7)
    device, peer = scripted_device(empty)
    with device, peer, pytest.raises(PeerError) as refused:
        TpmCommands(device).read_pcrs((8,))
    assert refused.value.reason == "tpm.pcr_bank"


def test_r98_register_that_was_not_asked_for_is_refused() -> None:
    other = struct.pack(">IIHB", 1, 1, 11, 3) + b"\x01\0\0" + struct.pack(">IH", 1, 32) + bytes(32)
    device, peer = scripted_device(struct.pack(">HII", 0x8001, 10 + len(other), 0) + other)
    with device, peer, pytest.raises(PeerError) as refused:
        TpmCommands(device).read_pcrs((8,))
    assert refused.value.reason == "tpm.pcr_bank"


def test_extend_changes_one_register() -> None:
    device = simulated()
    TpmCommands(device).extend_pcr(14, b"\x01" * 32)
    assert device.tpm.tpm.pcrs[14] == hashlib.sha256(bytes(32) + b"\x01" * 32).digest()
    assert device.tpm.tpm.pcrs.count(bytes(32)) == 23


def test_quote_and_public_key_are_those_of_the_key() -> None:
    device = simulated()
    tpm = TpmCommands(device)
    quote = tpm.quote(AK_HANDLE, b"fresh", ALL_SHA256_PCRS)
    assert parse_tpms_attest(quote.message).extra_data == b"fresh"
    modulus = device.tpm.tpm.key.public_key().public_numbers().n
    assert int.from_bytes(tpm.read_public(AK_HANDLE).modulus, "big") == modulus


def test_reply_of_another_command_is_refused() -> None:
    device, peer = scripted_device(struct.pack(">HII", 0x8001, 10, 0))
    with device, peer, pytest.raises(FormatError) as refused:
        TpmCommands(device).extend_pcr(8, bytes(32))
    assert refused.value.reason == "tpm2.tag"
