"""LUKS2 volumes made by cryptsetup in this guest, opened by ours with the real child."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.agent.phases.volumes import find_luks2_disk
from ccinit.agent.processes.children import Children
from ccinit.errors import FormatError, KernelError, VerificationError
from ccinit.formats.disk.luks2 import COPY_BYTES, PAYLOAD_OFFSET, SEAL_OFFSET, make_seal
from ccinit.kernel.block import BlockDevice, read_direct, write_direct
from ccinit.kernel.dm import DmControl, DmDevice
from ccinit.secret import Secret
from ccinit.unlock import stack as stack_module
from ccinit.unlock.luks2 import Luks2Request, activate_luks2
from ccinit.unlock.profile import plan_crypt_target
from ccinit.unlock.stack import activate_crypt
from ccinit.unlock.volume_key import derive_seal_key
from tests.fakes.machine.luks2 import NULL_CIPHERS, PASSPHRASE, make_header
from tests.vm.guest.disks import blank, disk, dm_names, drop_caches, run
from tests.vm.guest.made_elsewhere import LUKS2_FILE, make_luks2

SIZE_BYTES = 256 << 20
PYTHON = "/usr/bin/python3.13"
PLAIN = Luks2Request(pod="web", name="data", sealed=False)
SEALED = Luks2Request(pod="web", name="data", sealed=True)


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """The header of a volume that cryptsetup has made, with a file in it."""
    device, target = disk("volume"), tmp_path_factory.mktemp("elsewhere")
    make_luks2(device, target)
    yield read_direct(device.node, 0, COPY_BYTES)
    blank(device)


@pytest.fixture(autouse=True)
def _header_as_made(header: bytes) -> None:
    write_direct(disk("volume").node, 0, header)


def find(
    request: Luks2Request = PLAIN, released: bytes = PASSPHRASE, serials: tuple[str, ...] = ()
) -> tuple[BlockDevice, Secret]:
    environment = {"PYTHONPATH": f"/src:/site:{Path(__file__).with_name('replaced')}"}
    children = Children((PYTHON, "-m", "ccinit"), environment)
    disks = [disk(serial) for serial in serials or ("volume",)]
    return run(find_luks2_disk(children, request, disks, Secret(released)))


def refusal(request: Luks2Request = PLAIN, released: bytes = PASSPHRASE) -> str:
    with pytest.raises((VerificationError, FormatError)) as error:
        find(request, released)
    assert dm_names() == set()
    return error.value.reason


@contextmanager
def opened(found: tuple[BlockDevice, Secret], target: Path) -> Iterator[None]:
    device, key = found
    with DmControl() as control:
        stack = activate_luks2(control, "data", device, key, str(target))
        try:
            yield
        finally:
            stack.close()


def test_volume_made_by_cryptsetup_opens_and_opens_again(tmp_path: Path) -> None:
    with opened(find(), tmp_path):
        assert (tmp_path / "file").read_bytes() == LUKS2_FILE
        (tmp_path / "ours").write_bytes(b"written here")
    with opened(find(), tmp_path):
        drop_caches()
        assert (tmp_path / "ours").read_bytes() == b"written here"
    assert dm_names() == set()
    assert LUKS2_FILE not in read_direct(disk("volume").node, 0, 64 << 20)


def test_volume_is_found_among_disks_that_are_none() -> None:
    blank(disk("small"))
    device, _ = find(serials=("small", "volume"))
    assert device.serial == "volume"
    with pytest.raises(FormatError) as error:
        find(serials=("small",))
    assert error.value.reason == "luks2.magic"


def test_volume_on_two_disks_is_ambiguous(header: bytes) -> None:
    write_direct(disk("small").node, 0, header)
    try:
        with pytest.raises(VerificationError) as error:
            find(serials=("small", "volume"))
        assert error.value.reason == "volume.ambiguous"
    finally:
        blank(disk("small"))


def test_volume_under_another_key_is_refused() -> None:
    assert refusal(released=PASSPHRASE[::-1]) == "luks2.key"


def test_sealed_header_opens_and_an_unsealed_one_does_not(header: bytes, tmp_path: Path) -> None:
    assert refusal(SEALED) == "luks2.seal"
    with derive_seal_key(Secret(PASSPHRASE), "web", "data") as key:
        write_direct(disk("volume").node, SEAL_OFFSET, make_seal(header, key.reveal()))
    with opened(find(SEALED), tmp_path):
        assert (tmp_path / "file").read_bytes() == LUKS2_FILE


@pytest.mark.parametrize("name", NULL_CIPHERS)
def test_r38_header_whose_cipher_is_another_is_refused(name: str) -> None:
    edit, reason = NULL_CIPHERS[name]
    write_direct(disk("volume").node, 0, make_header(edit, null_slot=name == "keyslot"))
    assert refusal() == reason


def test_r42_header_swapped_after_it_was_read_has_no_effect(tmp_path: Path) -> None:
    found = find()
    write_direct(disk("volume").node, 0, make_header(NULL_CIPHERS["segment"][0]))
    with opened(found, tmp_path):
        assert (tmp_path / "file").read_bytes() == LUKS2_FILE
        (tmp_path / "later").write_bytes(LUKS2_FILE * 1000)
        drop_caches()
        with DmControl() as control:
            (table,) = control.read_table(DmDevice(name="ccinit-data", minor=0))
        assert table.kind == "crypt"
        assert table.parameters == (
            f"capi:xts(aes)-plain64 :64:logon:ccinit:data 0 {disk('volume').number}"
            f" {PAYLOAD_OFFSET // 512} 1 sector_size:4096"
        )
    assert LUKS2_FILE not in read_direct(disk("volume").node, 0, 64 << 20)


def test_r42_table_that_is_not_what_was_loaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_crypt_target

    def plan_elsewhere(*arguments: object, start_bytes: int) -> object:
        is_request = str(arguments[1]).startswith("/dev/")
        return plan(*arguments, start_bytes=start_bytes + 4096 * is_request)  # type: ignore[arg-type]

    monkeypatch.setattr(stack_module, "plan_crypt_target", plan_elsewhere)
    with DmControl() as control, pytest.raises(VerificationError) as error:
        activate_crypt(control, "data", disk("volume"), Secret(bytes(range(64))))
    assert error.value.reason == "crypt.table"
    assert dm_names() == set()


def test_r49_volume_that_cannot_be_mounted_is_taken_down(tmp_path: Path) -> None:
    found = find()
    with pytest.raises(KernelError) as error, opened(found, tmp_path / "absent"):
        pass
    assert (error.value.reason, error.value.errno) == ("kernel.mount", errno.ENOENT)
    assert dm_names() == set()
    assert not os.path.ismount(tmp_path)
