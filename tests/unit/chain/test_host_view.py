from pathlib import Path

import pytest

from host_runtime.host_view.search import Encoding, Hit
from host_runtime.launch.guest_files import GuestFiles
from tests.chain.host_view import HostView, require_findable, require_recorded
from tests.chain.show import PartyError

CANARIES = {"secret": b"canary-0123456789abcdef", "line": b"canary-fedcba9876543210"}


def test_views_add_up_by_sink() -> None:
    hit = Hit(sink="vsock", canary="secret", encoding=Encoding.RAW)
    total = HostView(sinks={"serial": 0, "vsock": 5}) + HostView(sinks={"vsock": 7}, hits=(hit,))
    assert total == HostView(sinks={"serial": 0, "vsock": 12}, hits=(hit,))


def test_silent_view_has_no_complaints() -> None:
    assert HostView(sinks={"serial": 0, "vsock": 9000, "network": 1}).complaints() == ()


@pytest.mark.parametrize("name", ["vsock", "network", "disks"])
def test_sink_that_every_pod_fills_is_named_where_it_is_empty(name: str) -> None:
    full = {"serial": 0, "vsock": 1, "network": 1, "disks": 1}
    assert HostView(sinks=full).unheard == ()
    assert HostView(sinks={**full, name: 0}).unheard == (name,)


RECORDS = (
    *("serial", "console", "debugcon", "firmware-debug", "network.pcap", "events.jsonl"),
    *("variables.fd", "vsock.capture", "error-records"),
)


@pytest.fixture
def recorded(tmp_path: Path) -> GuestFiles:
    for name in RECORDS:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "serial").write_bytes(b"BdsDxe: starting Boot0001")
    require_recorded(GuestFiles(folder=tmp_path))
    return GuestFiles(folder=tmp_path)


@pytest.mark.parametrize("name", RECORDS)
def test_record_that_is_not_there_ends_the_search(recorded: GuestFiles, name: str) -> None:
    (recorded.folder / name).unlink()
    with pytest.raises(PartyError, match=f"nobody wrote down {name}$"):
        require_recorded(recorded)


def test_serial_port_on_which_not_even_firmware_spoke_ends_the_search(recorded: GuestFiles) -> None:
    (recorded.folder / "serial").write_bytes(b"")
    with pytest.raises(PartyError, match=r"nobody wrote down serial$"):
        require_recorded(recorded)


@pytest.mark.parametrize(
    "name", ["serial", "console", "debugcon", "firmware_debug", "pvpanic", "pstore", "erst"]
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
    with pytest.raises(PartyError, match="line"):
        require_findable(CANARIES, (file,), b"nothing")
