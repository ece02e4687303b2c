"""What a firmware build itself prints and stores: recorded once, removed by exact comparison.

Firmware and boot stub print to the same devices as the guest, before its kernel runs. Their text is
public, but must not serve to hide anything: it is removed only where output *begins with* a
recorded text, byte for byte. A record is a JSON file named by the SHA-256 of the firmware's code.
Since the text depends on the machine's layout (memory size, devices), a sink may have several.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from ccinit.errors import FormatError
from measured_boot.command_line.files import read_capped
from measured_boot.image.ovmf import MAX_FIRMWARE_BYTES

_FOLDER: Final = Path(__file__).with_name("firmware_records")


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareRecord:
    """The texts by sink name, and the keys of variables that the firmware itself writes."""

    firmware: str
    texts: Mapping[str, tuple[bytes, ...]]
    variables: frozenset[str]

    def remove_text(self, sink: str, content: bytes) -> bytes:
        """Return `content` without the longest recorded text that it begins with."""
        texts = sorted(self.texts.get(sink, ()), key=len, reverse=True)
        for text in texts:
            if content.startswith(text):
                return content[len(text) :]
        return content

    def longest_text(self, sink: str) -> int:
        """Return how many bytes of a sink's beginning `remove_text` needs at most."""
        return max(map(len, self.texts.get(sink, ())), default=0)

    def with_boot(self, contents: Mapping[str, bytes], variables: frozenset[str]) -> Self:
        """Return the record plus the output of one more boot, of an empty guest."""
        texts = dict(self.texts)
        for sink, content in contents.items():
            known = texts.get(sink, ())
            if content and content not in known:
                texts[sink] = (*known, content)
        return replace(self, texts=texts, variables=self.variables | variables)


def firmware_name(code: Path) -> str:
    """Return the name of a firmware build: the SHA-256 of its code, in hex."""
    return hashlib.sha256(read_capped(code, MAX_FIRMWARE_BYTES)).hexdigest()


def read_record(firmware: str, folder: Path = _FOLDER) -> FirmwareRecord:
    """Return what is recorded for `firmware`; nothing, if there is no record.

    Raises:
        FormatError: `firmware_text.file`: the record is not of the form `write_record` gives.
    """
    path = folder / f"{firmware}.json"
    if not path.exists():
        return FirmwareRecord(firmware=firmware, texts={}, variables=frozenset())
    try:
        document = json.loads(path.read_text())
        return FirmwareRecord(
            firmware=firmware,
            texts={
                str(sink): tuple(text.encode("latin-1") for text in texts)
                for sink, texts in document["texts"].items()
            },
            variables=frozenset(map(str, document["variables"])),
        )
    except (KeyError, AttributeError, TypeError, UnicodeEncodeError) as error:
        detail = f"{path}: expected texts, a table of arrays of strings, and an array of variables"
        raise FormatError("firmware_text.file", detail) from error
    except ValueError as error:
        raise FormatError("firmware_text.file", f"{path} is not JSON: {error}") from error


def write_record(record: FirmwareRecord, folder: Path = _FOLDER) -> Path:
    """Write `record` to its file and return its path."""
    path = folder / f"{record.firmware}.json"
    document = {
        "texts": {
            sink: [text.decode("latin-1") for text in texts]
            for sink, texts in sorted(record.texts.items())
        },
        "variables": sorted(record.variables),
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path
