"""UNLOCK as the agent does it: every kind of volume in one manifest, on the guest's disks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ccinit.agent.guest import Guest
from ccinit.agent.phases import storage
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.processes.children import Children
from ccinit.agent.teardown import Teardown
from ccinit.errors import VerificationError
from ccinit.formats.disk.verity import VerityParameters
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.secret import Secret
from tests.fakes.machine.luks2 import PASSPHRASE
from tests.vm.guest.disks import RELEASED, blank, disk, dm_names, format_device, run
from tests.vm.guest.made_elsewhere import LUKS2_FILE, make_luks2, make_verity
from tests.vm.guest.unlocking import unlock

DATA, OLD = (f"kbs:///ccinit/web/volume-key-{name}" for name in ("data", "old"))


@dataclass(frozen=True, slots=True)
class Disks:
    """What is on the disks besides blanks."""

    parameters: VerityParameters


@pytest.fixture(autouse=True)
def _mkfs_without_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_formatter", lambda _: format_device)


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    blank(disk("small"))
    make_luks2(disk("volume"), tmp_path_factory.mktemp("luks2"))
    yield Disks(make_verity(disk("odd"), tmp_path_factory.mktemp("verity")))
    for serial in ("small", "volume", "odd"):
        blank(disk(serial))


def volumes(parameters: VerityParameters) -> str:
    return f"""
[[volume]]
name = "data"
kind = "persistent"
size_bytes = {disk("small").size_bytes}
key = "{DATA}"
[[volume]]
name = "old"
kind = "persistent"
size_bytes = {disk("volume").size_bytes}
format = "luks2"
key = "{OLD}"
[[volume]]
name = "model"
kind = "verity"
size_bytes = {disk("odd").size_bytes}
root_hash = "{parameters.root_hash.hex()}"
salt = "{parameters.salt.hex()}"
data_blocks = {parameters.data_blocks}
[[volume]]
name = "cache"
kind = "tmpfs"
size_bytes = 1048576
"""


def make_guest() -> Guest:
    environment = {"PYTHONPATH": f"/src:/site:{Path(__file__).with_name('replaced')}"}
    children = Children(("/usr/bin/python3.13", "-m", "ccinit"), environment)
    return cast("Guest", SimpleNamespace(teardown=Teardown(), children=children, event=print))


def unlock_all(
    guest: Guest, disks: Disks, *, create: bool, old: bytes = PASSPHRASE
) -> dict[str, Path]:
    """Open everything; return what containers would see."""
    keys = {DATA: Grant(secret=Secret(RELEASED), create=create)}
    keys[OLD] = Grant(secret=Secret(old), create=False)
    attested = Attested(grants={parse_resource_uri(uri, "uri"): one for uri, one in keys.items()})
    seen = unlock(guest, volumes(disks.parameters), map(disk, ("small", "volume", "odd")), attested)
    assert all(len(grant.secret) == 0 for grant in keys.values())
    return seen


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def close(guest: Guest) -> None:
    assert run(guest.teardown.run()) == ()
    assert dm_names() == set()


def test_every_kind_of_volume_opens_in_one_pod_and_again(disks: Disks) -> None:
    for boot in range(2):
        guest = make_guest()
        try:
            seen = unlock_all(guest, disks, create=boot == 0)
            assert (seen["old"] / "file").read_bytes() == LUKS2_FILE
            assert (seen["model"] / "name").read_text() == "a model"
            assert names(seen["scratch"]) == names(seen["cache"]) == []
            assert names(seen["data"]) == ["boot"] * boot
            (seen["data"] / "boot").write_text(str(boot))
            with pytest.raises(OSError, match="No space left"):
                (seen["cache"] / "large").write_bytes(bytes(2 << 20))
        finally:
            close(guest)


def test_volume_that_is_refused_leaves_no_disk_open(disks: Disks) -> None:
    guest = make_guest()
    with pytest.raises(VerificationError) as error:
        unlock_all(guest, disks, create=True, old=PASSPHRASE[::-1])
    assert error.value.reason == "luks2.key"
    close(guest)
