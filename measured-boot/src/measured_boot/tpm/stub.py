"""What systemd-stub 257 makes of a UKI: the sections it measures, the initrd it hands over.

The stub measures its sections into PCR 11, wraps some of them in small archives after the initrd,
and lets firmware load the kernel, which is thereby measured again, as a program of its own. Earlier
and later versions differ: `stub_version` tells which one is in a file, `measured_boot.platforms`
which ones are known. Whatever is beside the UKI on its partition (addons, credentials, extensions)
shows in PCR 12 and 13, which have to be zero, and in PCR 9.

Specification: systemd-stub(7); UAPI group, Unified Kernel Image and TPM2 PCR registry; and for the
order of sections and the form of archives the stub's behaviour (`tests/vectors/measured_boot`).
"""

from collections.abc import Iterator
from typing import Final

from ccinit.errors import FormatError
from measured_boot.image.pe import PeImage, parse_pe
from measured_boot.tpm.boot_events import (
    BOOT_ATTEMPT,
    SEPARATOR,
    measure_application,
    measure_kernel_inputs,
)
from measured_boot.tpm.pcr import Event, EventKind, measure

SECTIONS: Final = 11
"""The register of a UKI's sections."""

_REQUIRED: Final = (".linux", ".osrel", ".cmdline", ".initrd")
_MEASURED: Final = (
    *(".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".uname", ".sbat"),
    ".pcrpkey",
)
# The effect of these depends on the host's hardware, or on its choice of a profile.
_UNPREDICTABLE: Final = (".dtb", ".dtbauto", ".efifw", ".hwids", ".profile")
_ARCHIVED: Final = (
    (".pcrsig", "tpm2-pcr-signature.json"),
    (".pcrpkey", "tpm2-pcr-public-key.pem"),
    (".osrel", "os-release"),
)
_ARCHIVE_FOLDER: Final = ".extra"
_FOLDER_MODE: Final = 0o040555
_FILE_MODE: Final = 0o100444
# Unlike the other entries, it has hex digits in capital letters, and its name is followed by one
# NUL more than its length says.
_TRAILER: Final = (
    b"070701" + b"0" * 32 + b"00000001" + b"0" * 48 + b"0000000B" + b"0" * 8 + b"TRAILER!!!\0\0\0\0"
)
_VERSION_PREFIX: Final = b"#### LoaderInfo: systemd-stub "
_VERSION_SUFFIX: Final = b" ####"


def stub_version(image: PeImage) -> str:
    """Return the version of the stub in an image, as its distribution names it.

    Raises:
        FormatError: `stub.version`: the image is no UKI of systemd-stub.
    """
    if not image.has_section(".sdmagic"):
        raise FormatError("stub.version", "not a UKI of systemd-stub: no section .sdmagic")
    text = bytes(image.section(".sdmagic")).rstrip(b"\0")
    if not (text.startswith(_VERSION_PREFIX) and text.endswith(_VERSION_SUFFIX)):
        raise FormatError("stub.version", "section .sdmagic names no version of systemd-stub")
    version = text[len(_VERSION_PREFIX) : -len(_VERSION_SUFFIX)]
    try:
        return version.decode("ascii")
    except UnicodeDecodeError as error:
        raise FormatError("stub.version", "the version is not ASCII") from error


def predict_uki(image: PeImage) -> tuple[Event, ...]:
    """Return the events of PCR 4, 9 and 11 of a UKI that firmware starts from a disk.

    Raises:
        FormatError: `stub.section`: a section is missing, empty or of a kind whose effect is up to
            the host; `stub.command_line`; or with a reason below `pe`.
    """
    _require_predictable(image)
    kernel = parse_pe(bytes(image.section(".linux")))
    return (
        BOOT_ATTEMPT,
        SEPARATOR,
        measure_application(image, "UKI"),
        *_measure_sections(image),
        measure_application(kernel, "kernel inside the UKI"),
        *measure_kernel_inputs(command_line(image), initrd_pieces(image)),
    )


def command_line(image: PeImage) -> str:
    """Return the command line that a UKI gives to its kernel.

    Raises:
        FormatError: `stub.command_line`: the stub would change it, or read it as no one expects.
    """
    line = bytes(image.section(".cmdline")).rstrip(b"\0")  # some builders end it with a NUL
    if not line.isascii() or not line.decode("ascii").isprintable():
        raise FormatError("stub.command_line", "section .cmdline is not printable ASCII")
    text = line.decode("ascii")
    if not text or text != text.strip():
        raise FormatError(
            "stub.command_line", "section .cmdline is empty, or has spaces at its ends"
        )
    return text


def initrd_pieces(image: PeImage) -> Iterator[bytes | memoryview]:
    """Yield the initrd that the kernel gets: what the UKI carries, then the stub's own archives."""
    for name in (".ucode", ".initrd"):
        if image.has_section(name):
            content = image.section(name)
            yield content
            yield bytes(-len(content) % 4)
    for name, file_name in _ARCHIVED:
        if image.has_section(name):
            yield _encode_archive(file_name, bytes(image.section(name)))


def _require_predictable(image: PeImage) -> None:
    for name in _REQUIRED:
        if not image.has_section(name):
            raise FormatError("stub.section", f"no section {name}")
    for name in _UNPREDICTABLE:
        if image.has_section(name):
            raise FormatError("stub.section", f"what {name} does is up to the host")
    for name in (*_MEASURED, ".pcrsig"):
        if image.has_section(name) and not image.section(name):
            raise FormatError("stub.section", f"{name} is empty")


def _measure_sections(image: PeImage) -> Iterator[Event]:
    for name in _MEASURED:
        if image.has_section(name):
            yield _section_event(f"{name}\0".encode("ascii"), f"name of section {name}")
            yield _section_event(image.section(name), f"section {name}")


def _section_event(content: bytes | memoryview, subject: str) -> Event:
    return measure(SECTIONS, EventKind.IPL, (content,), subject)


def _encode_archive(file_name: str, content: bytes) -> bytes:
    """Return the archive of one file, byte for byte as the stub writes it."""
    path = f"{_ARCHIVE_FOLDER}/{file_name}"
    return (
        _encode_entry(_ARCHIVE_FOLDER, 1, _FOLDER_MODE, b"")
        + _encode_entry(path, 2, _FILE_MODE, content)
        + _TRAILER
    )


def _encode_entry(path: str, inode: int, mode: int, content: bytes) -> bytes:
    name = path.encode("ascii") + b"\0"
    # inode, mode, uid, gid, links, time, size, device, special device, length of name, checksum
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    return header + bytes(-len(header) % 4) + content + bytes(-len(content) % 4)
