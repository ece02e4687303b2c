"""Volumes as owners make them outside of a guest: LUKS2 by cryptsetup, erofs with a hash tree."""

import subprocess
from pathlib import Path

from ccinit.formats.disk.verity import BLOCK_BYTES, Salt, VerityParameters, build_hash_tree
from ccinit.kernel.block import BlockDevice, write_direct
from ccinit.kernel.mount import mount, unmount
from tests.fakes.machine.luks2 import PASSPHRASE
from tests.vm.guest.disks import blank, format_device, run

LUKS2_FILE = b"canary of the owner's volume"
VERITY_FILE = bytes(range(256)) * 4096


def make_luks2(device: BlockDevice, target: Path) -> None:
    """Make a LUKS2 volume whose ext4 has one file, `file`."""
    blank(device)
    _cryptsetup(
        *("luksFormat", "--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512"),
        *("--hash", "sha256", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"),
        *("--sector-size", "4096", device.node),
    )
    _cryptsetup("open", device.node, "elsewhere")
    run(format_device("/dev/mapper/elsewhere", ("-q", "/dev/mapper/elsewhere")))
    mount("/dev/mapper/elsewhere", str(target), "ext4")
    (target / "file").write_bytes(LUKS2_FILE)
    unmount(str(target))
    _cryptsetup("close", "elsewhere")


def _cryptsetup(*arguments: str) -> None:
    Path("/run/cryptsetup").mkdir(exist_ok=True)
    done = subprocess.run(
        ("cryptsetup", "-q", "--disable-keyring", "--key-file", "-", *arguments),
        input=PASSPHRASE,
        capture_output=True,
        check=False,
        env={"PATH": "/usr/sbin", "DM_DISABLE_UDEV": "1"},
    )
    assert done.returncode == 0, done.stderr.decode()


def make_verity(device: BlockDevice, directory: Path) -> VerityParameters:
    """Make a verity volume of two files, `model` and `name`; `directory` is for its parts."""
    (directory / "tree").mkdir()
    (directory / "tree/model").write_bytes(VERITY_FILE)
    (directory / "tree/name").write_text("a model")
    image = directory / "image"
    subprocess.run(("mkfs.erofs", image, directory / "tree"), check=True, capture_output=True)
    data = image.read_bytes()
    data += bytes(-len(data) % BLOCK_BYTES)
    parameters, tree = build_hash_tree([data], Salt(bytes(range(32))))
    write_direct(device.node, 0, data + tree)
    return parameters
