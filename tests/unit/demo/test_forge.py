import hashlib
import struct

import pytest

from ccinit.errors import FormatError
from host_runtime.host_view.efi_variables import EfiVariable, parse_variable_store
from tests.demo.forge import (
    add_variables,
    change_byte,
    encode_variable,
    forge_load_options,
    measured_load_options,
)

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
HEADER_BYTES, STORE_BYTES = 72, 28
DEVICE_PATH = bytes.fromhex("02010c00d041030a00000000 7fff0400")


def make_flash(*variables: EfiVariable) -> bytes:
    header = bytearray(HEADER_BYTES + STORE_BYTES)
    header[40:44] = b"_FVH"
    struct.pack_into("<H", header, 48, HEADER_BYTES)
    content = bytes(header) + b"".join(map(encode_variable, variables))
    return content.ljust(4096, b"\xff")


def make_option(name: str, description: str, data: bytes = b"") -> EfiVariable:
    text = description.encode("utf-16-le") + b"\0\0"
    value = struct.pack("<IH", 1, len(DEVICE_PATH)) + text + DEVICE_PATH + data
    return EfiVariable(vendor=GLOBAL, name=name, value=value)


def test_added_variables_follow_those_that_are_there() -> None:
    old = EfiVariable(vendor=GLOBAL, name="Timeout", value=b"\1\0\2")
    new = EfiVariable(vendor=GLOBAL, name="BootOrder", value=b"\1\0")
    flash = make_flash(old)
    added = add_variables(flash, (new,))
    assert parse_variable_store(added) == (old, new)
    assert len(added) == len(flash)


def test_forged_option_is_the_firmwares_own_with_other_data() -> None:
    made = make_option("Boot0001", "UEFI QEMU QEMU HARDDISK ", bytes(16))
    used = make_flash(make_option("Boot0000", "UiApp"), made)
    order, path = bytes.fromhex("0100"), DEVICE_PATH
    option, boot_order = parse_variable_store(forge_load_options(used, make_flash(), "quiet x"))
    assert option.name == "Boot0001"
    assert option.value == made.value[:-16] + "quiet x\0".encode("utf-16-le")
    assert path in option.value
    assert boot_order == EfiVariable(vendor=GLOBAL, name="BootOrder", value=order)


def test_store_without_a_disk_option_cannot_be_forged() -> None:
    with pytest.raises(FormatError) as error:
        forge_load_options(make_flash(make_option("Boot0000", "UiApp")), make_flash(), "x")
    assert error.value.reason == "forge.option"


def test_changed_byte_is_one_letter_of_the_first_word() -> None:
    assert change_byte(b"..cgroup..cgroup", b"cgroup") == b"..Cgroup..cgroup"
    with pytest.raises(ValueError, match="not found"):
        change_byte(b"...", b"cgroup")


def test_load_options_are_measured_as_the_stub_is_given_them() -> None:
    """systemd-stub: one event in PCR 12, over the UTF-16 text with its end."""
    event = hashlib.sha256(b"q\0u\0i\0e\0t\0\0\0").digest()
    assert measured_load_options("quiet") == hashlib.sha256(bytes(32) + event).digest()
