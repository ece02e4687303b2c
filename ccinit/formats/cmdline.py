"""Our part of the kernel command line: where the root is and what it must hash to.

The whole line is compared with the expected one, byte for byte; only then are its `ccinit.` words
parsed. The comparison is a second line of defence (`rdinit=` acts before any code of ours): a
verifier checks the register into which the line was measured.
"""

from enum import StrEnum

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.disk.verity import HASH_BYTES, SALT_BYTES, RootHash, Salt, VerityParameters
from ccinit.formats.encoding.hexadecimal import decode_hex
from ccinit.values import frozen

MAX_BYTES = 2048
"""COMMAND_LINE_SIZE on x86: the kernel cuts a longer line."""

_PREFIX = "ccinit."
_MAX_BLOCKS_DIGITS = 10


class Carrier(StrEnum):
    """How the root image reaches the guest."""

    DISK = "disk"
    RAM = "ram"


@frozen
class RootLocation:
    """Where stage 0 finds the root.

    Attributes:
        verity: what the disk must verify as; None with carrier `ram`, whose image is in the initrd
            and measured with it.
    """

    carrier: Carrier
    verity: VerityParameters | None = None

    def __post_init__(self) -> None:
        if (self.verity is None) != (self.carrier is Carrier.RAM):
            raise FormatError("cmdline.carrier", "a disk, and no other carrier, has a root hash")

    def to_tokens(self) -> str:
        """Return the words that `parse_root_location` reads, separated by spaces."""
        words = [f"ccinit.carrier={self.carrier}"]
        if self.verity is not None:
            words += [
                f"ccinit.root={self.verity.root_hash.hex()}",
                f"ccinit.salt={self.verity.salt.hex()}",
                f"ccinit.blocks={self.verity.data_blocks}",
            ]
        return " ".join(words)


def verify_cmdline(actual: bytes, expected: bytes) -> str:
    """Return the command line if it is exactly the expected one.

    Args:
        actual: content of /proc/cmdline, to which the kernel adds one newline.
        expected: the line of this boot path, without newline.

    Raises:
        VerificationError: `boot.cmdline`.
        FormatError: `cmdline.text`, the line is not plain ASCII or too long.
    """
    line = actual.removesuffix(b"\n")
    if line != expected:
        raise VerificationError("boot.cmdline", "the command line is not the one of this image")
    if len(line) > MAX_BYTES or not line.isascii():
        raise FormatError(
            "cmdline.text", f"expected at most {MAX_BYTES} bytes of ASCII, found {len(line)}"
        )
    return line.decode("ascii")


def parse_root_location(line: str) -> RootLocation:
    """Read the `ccinit.` words of a command line; other words are the kernel's.

    Raises:
        FormatError: `cmdline.duplicate`, `cmdline.unknown`, `cmdline.missing`, `cmdline.carrier`,
            `cmdline.hex`, `cmdline.blocks`.
    """
    words: dict[str, str] = {}
    for word in line.split(" "):
        if not word.startswith(_PREFIX):
            continue
        key, _, value = word.removeprefix(_PREFIX).partition("=")
        if key in words:
            raise FormatError("cmdline.duplicate", f"{_PREFIX}{key} appears twice")
        words[key] = value
    carrier = _parse_carrier(_take(words, "carrier"))
    verity = None
    if carrier is Carrier.DISK:
        verity = VerityParameters(
            root_hash=RootHash(decode_hex(_take(words, "root"), HASH_BYTES, "cmdline.hex")),
            salt=Salt(decode_hex(_take(words, "salt"), SALT_BYTES, "cmdline.hex")),
            data_blocks=_parse_blocks(_take(words, "blocks")),
        )
    if words:
        raise FormatError("cmdline.unknown", f"{_PREFIX}{min(words)} has no meaning here")
    return RootLocation(carrier=carrier, verity=verity)


def _take(words: dict[str, str], key: str) -> str:
    if key not in words:
        raise FormatError("cmdline.missing", f"no {_PREFIX}{key}")
    return words.pop(key)


def _parse_carrier(text: str) -> Carrier:
    try:
        return Carrier(text)
    except ValueError as error:
        raise FormatError("cmdline.carrier", f"{text[:80]!r} is not a carrier") from error


def _parse_blocks(text: str) -> int:
    if (
        not (text.isascii() and text.isdecimal())
        or len(text) > _MAX_BLOCKS_DIGITS
        or text.startswith("0")
    ):
        raise FormatError("cmdline.blocks", "expected a plain decimal number")
    return int(text)
