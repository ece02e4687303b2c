"""Each thing that no guest holds is refused for what it is, beside files that every guest holds."""

import stat

import pytest

from ccinit.errors import ConfigError
from rootfs_builder.guest_image.baseline import Member, list_violations, require_baseline

FILE, PROGRAM, FOLDER = stat.S_IFREG | 0o644, stat.S_IFREG | 0o755, stat.S_IFDIR | 0o755
GOOD = (
    Member(path="usr", mode=FOLDER),
    Member(path="usr/bin/python3.13", mode=PROGRAM, data=b"\x7fELF"),
    Member(path="usr/lib/ccinit/ccinit/run/secrets.pyc", mode=FILE),
    Member(path="usr/lib/python3.13/ssl.pyc", mode=FILE),
    Member(path="etc/resolv.conf", mode=stat.S_IFLNK | 0o777),
    Member(path="dev/null", mode=stat.S_IFCHR | 0o666),
    Member(path="dev/urandom", mode=stat.S_IFCHR | 0o444),
    Member(path="modules/virtio_net.ko", mode=FILE),
)
BAD = {
    "usr/bin/dash": (PROGRAM, b"", "a shell"),
    "bin/sh": (stat.S_IFLNK | 0o777, b"", "a shell"),
    "usr/sbin/agetty": (PROGRAM, b"", "a login"),
    "usr/sbin/sshd": (PROGRAM, b"", "a login"),
    "usr/sbin/qemu-ga": (PROGRAM, b"", "an agent of the host"),
    "usr/bin/cloud-init": (PROGRAM, b"", "an agent of the host"),
    "usr/lib/systemd/systemd": (PROGRAM, b"", "a service manager, or one of kernel modules"),
    "usr/sbin/kexec": (PROGRAM, b"", "a service manager, or one of kernel modules"),
    "etc/x.mount": (FILE, b"", "a unit, a generator or a rule"),
    "usr/lib/systemd/system-generators/x": (PROGRAM, b"", "a unit, a generator or a rule"),
    "usr/lib/udev/rules.d/99-serial": (FILE, b"", "a unit, a generator or a rule"),
    "etc/ssl/certs/a": (FILE, b"", "a public authority"),
    "usr/lib/ccinit/certifi/cacert.pem": (FILE, b"", "a public authority"),
    "usr/lib/x": (FILE, b"#\n-----BEGIN CERTIFICATE-----\nMII", "a public authority"),
    "modules/pvpanic-pci.ko": (FILE, b"", "a kernel module that talks to the host"),
    "modules/virtio_console.ko.xz": (FILE, b"", "a kernel module that talks to the host"),
    "usr/bin/mount": (PROGRAM | stat.S_ISUID, b"", "a mode that gives rights"),
    "usr/bin/wall": (PROGRAM | stat.S_ISGID, b"", "a mode that gives rights"),
    "tmp": (stat.S_IFDIR | 0o777, b"", "writable for others"),
    "etc/motd": (stat.S_IFREG | 0o664, b"", "writable for others"),
    "dev/console": (stat.S_IFCHR | 0o600, b"", "neither file nor folder nor link"),
    "run/socket": (stat.S_IFSOCK | 0o600, b"", "neither file nor folder nor link"),
}


def test_what_every_guest_holds_is_accepted() -> None:
    assert list_violations(GOOD) == ()
    require_baseline("root", GOOD)


@pytest.mark.parametrize("path", BAD)
def test_what_no_guest_holds_is_refused_for_its_own_reason(path: str) -> None:
    mode, data, reason = BAD[path]
    found = list_violations((*GOOD, Member(path=path, mode=mode, data=data)))
    assert found == (f"{path}: {reason}",)


def test_refusal_names_everything_that_is_wrong() -> None:
    members = [Member(path=path, mode=mode, data=data) for path, (mode, data, _) in BAD.items()]
    with pytest.raises(ConfigError) as error:
        require_baseline("root", members)
    assert error.value.reason == "image.baseline"
    assert all(path in error.value.detail for path in BAD)
