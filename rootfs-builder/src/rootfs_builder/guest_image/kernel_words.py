"""Whether a kernel knows the words of its command line, and has those that it needs.

A kernel notes a word that it does not know in its log, passes it to PID 1 and boots, without what
the word was for. Since a newer kernel may have dropped or renamed one, the builder checks. Values
are not checked: `pci=noearly` is known as `pci`.

Specification: Linux `struct obs_kernel_param` (include/linux/init.h) and `struct kernel_param`
(include/linux/moduleparam.h). The kernel has an array of each, whose elements begin with the
address of a name. Neither array is named in the file, so each is found by an element that every
kernel has.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ccinit.errors import ConfigError, FormatError
from rootfs_builder.elf import Segment, parse_elf

_HEAD: Final = struct.Struct("<QQQ")
_ADDRESS: Final = struct.Struct("<Q")
_KERNEL_ADDRESSES: Final = 0xFFFF_FFFF_8000_0000
_MAX_NAME_BYTES: Final = 96

_READ_DIRECTLY: Final = frozenset(
    {
        "clearcpuid",
        "kaslr",
        "mem_encrypt",
        "nokaslr",
        "nospec_store_bypass_disable",
        "nospectre_v2",
        "spec_store_bypass_disable",
        "spectre_v2",
        "spectre_v2_user",
        "tsx",
    }
)
"""Words that x86 code looks for by itself (`cmdline_find_option`); neither array has them."""

_NEEDED: Final = {
    "acpi.poweroff_on_fatal": "0",  # 7.1: a host's ACPI table could power a guest off
    "damon_stat.enabled": "0",  # 6.17: watches how all memory is used, and shows it in /sys
}
"""Words that a kernel must be given if it knows them: by default it does what they turn off."""


def require_words(code: bytes, command_line: str) -> None:
    """Refuse a command line with a word that this kernel does not know, or without one it needs.

    A word with a dot may be a parameter of a module. It is let pass if the kernel has nothing of
    that module built in, since then either there is no such driver in the guest or `modules.list`
    has its parameters.

    Args:
        code: the kernel's ELF file.
        command_line: without our own words.

    Raises:
        ConfigError: `cmdline.word`, it does not know one of the words; `cmdline.needed`, it lacks
            one; `kernel.words`, there is no telling.
    """
    known = _known_words(code)
    prefixes = {name.partition(".")[0] for name in known if "." in name}
    words = command_line.split()
    unknown = [
        word
        for word in words
        if (name := _normal(word.partition("=")[0])) not in known
        and ("." not in name or name.partition(".")[0] in prefixes)
    ]
    if unknown:
        detail = f"this kernel does not know {', '.join(unknown)}, and boots without what that does"
        raise ConfigError("cmdline.word", detail)
    for name, value in _NEEDED.items():
        if name in known and f"{name}={value}" not in words:
            raise ConfigError("cmdline.needed", f"this kernel needs {name}={value}")


def _known_words(code: bytes) -> frozenset[str]:
    try:
        image = _Image(data=code, segments=parse_elf(code).loaded)
    except FormatError as error:
        raise ConfigError("kernel.words", "this kernel is not an ELF file") from error
    found = [
        image.names_beside(name, kind)
        for name, kind in ((b"console=", _SETUP), (b"initcall_debug", _PARAMETER))
    ]
    if not all(found):
        raise ConfigError("kernel.words", "the words that this kernel knows were not found")
    return _READ_DIRECTLY.union(
        *({_normal(name.removesuffix("=")) for name in one} for one in found)
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the arrays: the size of its elements, and which second and third field they have."""

    size: int
    second: range
    third: range

    def fits(self, second: int, third: int) -> bool:
        return second in self.second and third in self.third


_CODE: Final = range(_KERNEL_ADDRESSES, 1 << 64)
_SETUP: Final = _Kind(24, _CODE, range(2))  # name, function, whether early
_PARAMETER: Final = _Kind(40, range(1), _CODE)  # name, no module, operations, …


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """The kernel's ELF file."""

    data: bytes
    segments: tuple[Segment, ...]

    def names_beside(self, name: bytes, kind: _Kind) -> frozenset[str]:
        """Return the names in the array that has an element of this name, if there is one."""
        arrays = (
            frozenset((*self._walk(at, kind, -kind.size), *self._walk(at, kind, kind.size)))
            for text in self._places(b"\0" + name + b"\0")
            for at in self._places(_ADDRESS.pack(self._address(text + 1)))
            if at % _ADDRESS.size == 0
        )
        return max(arrays, key=len, default=frozenset())

    def _walk(self, at: int, kind: _Kind, step: int) -> Iterator[str]:
        while 0 <= at <= len(self.data) - _HEAD.size:
            address, second, third = _HEAD.unpack_from(self.data, at)
            name = self._text(address) if kind.fits(second, third) else ""
            if not name:
                return
            yield name
            at += step

    def _places(self, wanted: bytes) -> Iterator[int]:
        at = self.data.find(wanted)
        while at >= 0:
            yield at
            at = self.data.find(wanted, at + 1)

    def _address(self, place: int) -> int:
        for segment in self.segments:
            if segment.offset <= place < segment.offset + segment.size:
                return segment.address + place - segment.offset
        return 0

    def _text(self, address: int) -> str:
        for segment in self.segments:
            if segment.address <= address < segment.address + segment.size:
                place = segment.offset + address - segment.address
                end = self.data.find(b"\0", place, place + _MAX_NAME_BYTES)
                return self.data[place : max(end, place)].decode("ascii", "replace")
        return ""


def _normal(name: str) -> str:
    return name.replace("-", "_")
