"""Guests that end before they attest: why differs, how they go does not.

One boot for each cause. A host must not be able to tell causes apart by the way the machine goes
down, so each of them, and the orderly stop in `test_measured_boots`, must give the same event. That
a panic of the real kernel gives it too is for the fault suite to show.
"""

from pathlib import Path

import pytest

from ccinit.errors import ChildError
from ccinit.formats.planes.host_rpc import Code, Phase
from host_runtime.launch.guest import EndReason
from host_runtime.machine.swtpm import VirtualTpm
from host_runtime.vsock.capture import Stream, read_capture
from tests.faults.plugin import FaultSeen
from tests.vm.direct_boot import (
    BOOT_TEST_SECONDS,
    END_SECONDS,
    HELLO_SECONDS,
    ONE_END,
    DirectImage,
    console_bytes,
    end_events,
    follow_to_the_end,
    guest_sinks,
    make_initdata,
    plan_guest,
    recorded_guest,
)

pytestmark = [pytest.mark.vm, pytest.mark.timeout(BOOT_TEST_SECONDS)]


def test_r01_command_line_with_one_word_more_ends_in_stage_0(
    prod_image: DirectImage, tpm: VirtualTpm, tmp_path: Path, fault_seen: FaultSeen
) -> None:
    """The untampered line is booted by `test_host_plane`, through the same harness."""
    initdata = make_initdata(tmp_path)
    config = plan_guest(
        prod_image,
        tmp_path / "guest",
        tpm=tpm,
        initdata_disks=(initdata.disk,),
        command_line=f"{prod_image.command_line} nokaslr",
    )
    with recorded_guest(config, "another command line (prod, direct)") as guest:
        with pytest.raises(ChildError) as error:
            guest.wait_for_hello(HELLO_SECONDS)
        assert error.value.reason == "guest.ended"
        assert guest.wait_for_end(END_SECONDS) is EndReason.RESET
        assert end_events(guest) == ONE_END
    assert console_bytes(guest_sinks(guest, config)) == {}
    # Nothing crossed but, at most, the host's own attempts.
    streams = read_capture(guest.files.vsock_capture)
    assert {stream for _, stream in streams} <= {Stream.HOST_PAYLOAD}
    fault_seen.host("no hello", "a reset")


def test_r02_guest_without_its_document_stops_in_config(
    prod_image: DirectImage, tpm: VirtualTpm, tmp_path: Path, fault_seen: FaultSeen
) -> None:
    """On the real machine; the other faults of the document are `test_configuration`'s."""
    config = plan_guest(prod_image, tmp_path / "guest", tpm=tpm, initdata_disks=())
    with recorded_guest(config, "no initdata (prod, direct)") as guest:
        guest.wait_for_hello(HELLO_SECONDS)
        states, sealed = follow_to_the_end(guest)
        assert guest.wait_for_end(END_SECONDS) is EndReason.RESET
        assert end_events(guest) == ONE_END
    assert states[-1].code is Code.CONFIG
    assert {state.code for state in states} <= {Code.OK, Code.CONFIG}
    assert {state.phase for state in states} <= {
        Phase.LISTEN,
        Phase.CONFIG,
        Phase.STOP,
        Phase.OFF,
    }
    assert sealed == b""  # nobody's key is known, so nothing is written for anybody
    assert console_bytes(guest_sinks(guest, config)) == {}
    fault_seen.host(states[-1].code.name, "a reset")
