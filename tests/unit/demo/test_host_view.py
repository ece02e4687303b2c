from pathlib import Path

import pytest

from host_runtime.search import Encoding, Hit
from tests.demo.host_view import HostView, require_findable
from tests.demo.show import DemoError

CANARIES = {"secret": b"canary-0123456789abcdef", "line": b"canary-fedcba9876543210"}


def test_views_add_up_by_sink() -> None:
    hit = Hit(sink="vsock", canary="secret", encoding=Encoding.RAW)
    total = HostView(sinks={"serial": 0, "vsock": 5}) + HostView(sinks={"vsock": 7}, hits=(hit,))
    assert total == HostView(sinks={"serial": 0, "vsock": 12}, hits=(hit,))


def test_silent_view_has_no_complaints() -> None:
    assert HostView(sinks={"serial": 0, "vsock": 9000, "network": 1}).complaints() == ()


@pytest.mark.parametrize(
    "name", ["serial", "console", "debugcon", "firmware_debug", "pvpanic", "pstore"]
)
def test_one_byte_on_a_console_is_a_complaint(name: str) -> None:
    assert HostView(sinks={name: 1}).complaints() == (f"1 bytes came out of {name}",)


def test_canary_anywhere_is_a_complaint() -> None:
    hit = Hit(sink="disks", canary="secret", encoding=Encoding.HEX_LOWER)
    assert HostView(sinks={}, hits=(hit,)).complaints() == ("secret stands in disks as hex-lower",)


def test_control_finds_canaries_in_files_and_log(tmp_path: Path) -> None:
    file = tmp_path / "pod.toml"
    file.write_bytes(b'env = "' + CANARIES["secret"] + b'"')
    hits = require_findable(CANARIES, (file,), b"counter " + CANARIES["line"])
    assert {hit.canary for hit in hits} == {"secret", "line"}


def test_control_that_finds_too_little_fails(tmp_path: Path) -> None:
    file = tmp_path / "pod.toml"
    file.write_bytes(CANARIES["secret"])
    with pytest.raises(DemoError, match="line"):
        require_findable(CANARIES, (file,), b"nothing")
