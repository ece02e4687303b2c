"""Rollback counters of persistent volumes: `rollback-counters/POD/VOLUME.json`, one number each.

    {"version": 1, "counter": 7, "holder": BASE64URL}

A counter exists once the owner has registered it, and grows by one at a time. Only the first boot
that asks moves it from N to N + 1, so of two guests on copies of one disk the second is refused.
What the guest compares the counter with is in `ccinit.unlock.rollback`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from ccinit.errors import ConfigError, FormatError, VerificationError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_json import (
    MAX_INTEGER,
    decode_base64url,
    encode_base64url,
    parse_json,
)
from ccinit.formats.kbs.resource_uri import PluginUri
from ccinit.formats.kbs.rollback_counter import CounterAdvance, parse_counter_path
from guest_owner.files import is_file, list_below, read_parsed, write_atomically
from guest_owner.kbs.exclusion import changing

FOLDER = "rollback-counters"
_MAX_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """One counter; `holder` is the boot that moved it last, b"" before the first."""

    value: int
    holder: bytes = b""


class Counters:
    """All counters of one state directory."""

    def __init__(self, root: Path) -> None:
        """Args: root: the state directory."""
        self._root = root

    def begin(self, uri: PluginUri) -> None:
        """Create a counter.

        Raises:
            ConfigError: `counter.exists`: starting over would forget how old the volume may be.
        """
        with changing(self._root):
            if is_file(self._path(uri)):
                value = self.read(uri).value
                raise ConfigError(
                    "counter.exists", f"{uri} is at {value}; --value N sets it on purpose"
                )
            self.set(uri, 0)

    def set(self, uri: PluginUri, value: int) -> None:
        """Set a counter to another number: that of a backup which the owner accepts.

        Raises:
            FormatError: `counter.value`.
        """
        if not 0 <= value < MAX_INTEGER:
            raise FormatError("counter.value", f"{value} is not a counter")
        with changing(self._root):
            self._write(uri, Counter(value=value))

    def read(self, uri: PluginUri) -> Counter:
        """Return a counter.

        Raises:
            VerificationError: `counter.absent`.
            ConfigError: its file is damaged, and is named.
        """
        path = self._path(uri)
        if not is_file(path):
            raise VerificationError("counter.absent", f"{uri} is not registered")
        return read_parsed(path, _MAX_FILE_BYTES, _parse)

    def check(self) -> None:
        """Read every counter.

        Raises:
            ConfigError: a file is damaged, or of a newer version, and is named.
        """
        for path in list_below(self._root / FOLDER, 1):
            if path.suffix == ".json":
                read_parsed(path, _MAX_FILE_BYTES, _parse)

    def advance(self, uri: PluginUri, asked: CounterAdvance) -> Counter:
        """Move a counter by one; it is on the disk before this returns.

        Raises:
            VerificationError: `counter.absent`; `counter.taken`, it is not at the guest's number.
        """
        wanted = Counter(value=asked.to, holder=asked.holder)
        with changing(self._root):  # the owner may set it at the same time
            now = self.read(uri)
            if now == wanted:  # the same boot asks again: its reply was lost
                return now
            if asked.to != now.value + 1:
                raise VerificationError(
                    "counter.taken", f"it is at {now.value}, not {asked.to - 1}"
                )
            self._write(uri, wanted)
        return wanted

    def _write(self, uri: PluginUri, counter: Counter) -> None:
        value = {
            "version": 1,
            "counter": counter.value,
            "holder": encode_base64url(counter.holder),
        }
        write_atomically(self._path(uri), json.dumps(value).encode() + b"\n")

    def _path(self, uri: PluginUri) -> Path:
        # A PluginUri can be built without its parser, so check again before making a path of it.
        return self._root / FOLDER / f"{parse_counter_path(uri.path).path}.json"


def _parse(data: bytes) -> Counter:
    with Fields(parse_json(data, "counter", _MAX_FILE_BYTES), "counter") as fields:
        fields.integer("version", low=1, high=1)
        return Counter(
            value=fields.integer("counter", low=0, high=MAX_INTEGER),
            holder=decode_base64url(fields.text("holder"), "counter.holder"),
        )
