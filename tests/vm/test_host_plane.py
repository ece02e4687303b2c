"""The host plane of the real image, over real vsock, in one boot from LISTEN to the end.

Every byte sent here is hand-written (`wire_script`), so what answers is the public wire format and
not two ends of one library. Tests run in the order of the guest's life, and share it.
"""

import hashlib
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from ccinit.errors import PeerError
from ccinit.formats.evidence.log_key import parse_log_evidence
from ccinit.formats.evidence.tpm import parse_tpm_evidence
from ccinit.formats.planes.host_rpc import METHODS, PORT, Code, Phase
from ccinit.formats.sealed_log import SIGNING_KEY_BYTES, Kind, report_data
from ccinit.formats.tcg.tpm2 import parse_tpms_attest
from host_runtime.host_view.search import find_canaries
from host_runtime.launch.guest import EndReason
from host_runtime.machine.swtpm import VirtualTpm
from host_runtime.vsock.capture import Stream, read_capture
from measured_boot.tpm.pcr import ZERO_PCR, extend
from tests.chain.host_view import Contents
from tests.fakes.documents.unsealed_log import unseal
from tests.faults.plugin import FaultSeen
from tests.vm import host_plane_cases as cases
from tests.vm import wire_script as wire
from tests.vm.direct_boot import (
    BOOT_TEST_SECONDS,
    END_SECONDS,
    HELLO_SECONDS,
    DirectImage,
    console_bytes,
    follow_to_the_end,
    guest_sinks,
    make_initdata,
    plan_guest,
    recorded_guest,
    wait_for_phase,
)
from tests.vm.host_plane import Ending, Plane, ask_until_answered, is_turned_away
from tests.vm.host_plane_machine import drive

pytestmark = [pytest.mark.vm, pytest.mark.timeout(BOOT_TEST_SECONDS)]

CONNECTIONS = 4
REQUEST_SECONDS = 10.0
MUTATIONS = 120
PHASE_SECONDS = 120.0
PAUSE_SECONDS = 3.0
MOMENT_SECONDS = 0.3


@pytest.fixture(scope="module")
def plane(
    prod_image: DirectImage, tpm: VirtualTpm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Plane]:
    folder = tmp_path_factory.mktemp("host-plane")
    initdata = make_initdata(folder)
    config = plan_guest(prod_image, folder / "guest", tpm=tpm, initdata_disks=(initdata.disk,))
    with recorded_guest(config, "host plane (prod, direct)") as guest:
        guest.wait_for_port(PORT, HELLO_SECONDS).close()
        yield Plane(guest=guest, config=config, initdata=initdata)


# What the public wire format gives


def test_hello_names_protocol_and_image(plane: Plane) -> None:
    reply = plane.ask(b"\x94\x00\x01\xa5hello\x91\x01")
    assert reply[:8] == b"\x94\x01\x01\xc0\x93\x01\xc4\x10"
    build_id = reply[8:24]
    assert any(build_id)
    assert reply == wire.result(1, build_id)


def test_state_is_four_numbers(plane: Plane) -> None:
    state = wire.decode_state(plane.ask(b"\x94\x00\x01\xa5state\x90"))
    assert Phase.LISTEN <= state.phase <= Phase.NET
    assert (state.code, state.flags) == (Code.OK, 0)


@pytest.mark.parametrize("message", cases.OTHER_WIDTHS)
def test_any_legal_width_is_understood(plane: Plane, message: bytes) -> None:
    canonical = plane.ask(wire.request("hello", 1, msgid=7))
    assert canonical[3:5] == b"\xc0\x93"
    assert plane.ask(message) == canonical


@pytest.mark.parametrize("msgid", [0, 127, 128, 65_535, 65_536, (1 << 32) - 1])
def test_msgid_is_echoed_and_never_compared(plane: Plane, msgid: int) -> None:
    message = wire.request("nothing", msgid=msgid)
    with plane.stream() as stream:
        for _ in range(2):
            assert wire.ask(stream, message) == wire.refusal(wire.BADREQ, msgid)


def test_requests_in_one_segment_are_answered_in_order(plane: Plane) -> None:
    messages = [wire.request("none", msgid=number) for number in range(8)]
    expected = [wire.refusal(wire.BADREQ, number) for number in range(8)]
    assert list(wire.cut_replies(plane.say_all(b"".join(messages)))) == expected


def test_request_byte_by_byte_is_answered(plane: Plane) -> None:
    with plane.stream() as stream:
        for byte in cases.STATE[:-1]:
            stream.send(bytes((byte,)))
        wire.decode_state(wire.ask(stream, cases.STATE[-1:]))


def test_wait_answers_at_once_for_an_old_number_and_in_time_for_this_one(plane: Plane) -> None:
    wait_for_phase(plane.guest, Phase.NET, PHASE_SECONDS)
    current = plane.state()
    with plane.stream() as stream:
        began = time.monotonic()
        old = wire.ask(stream, wire.request("wait", (current.seq - 1) % (1 << 32), 60_000))
        assert time.monotonic() - began < 10
        assert wire.decode_state(old) == current
        began = time.monotonic()
        same = wire.ask(stream, wire.request("wait", current.seq, 1500))
        assert time.monotonic() - began > 1.4
        assert wire.decode_state(same) == current


def test_collect_has_one_size_with_and_without_bytes(plane: Plane) -> None:
    with plane.stream() as stream:
        full = wire.ask(stream, wire.request("collect", 0, 0), wire.COLLECT_REPLY_BYTES)
        assert full[:5] == b"\x94\x01\x01\xc0\x94"
        cursor, offset = wire.take_uint(full, 5)
        assert cursor > 0
        assert full[offset] == 0xC2  # not the last
        began = time.monotonic()
        empty = wire.ask(stream, wire.request("collect", cursor, 700), wire.COLLECT_REPLY_BYTES)
        assert time.monotonic() - began > 0.6
        head = b"\x94\x01\x01\xc0\x94" + wire.encode_uint(cursor) + b"\xc2\xc4\x00"
        assert empty.startswith(head)
        assert len(empty) == wire.COLLECT_REPLY_BYTES


# What is refused with a reply


@pytest.mark.parametrize("name", cases.UNKNOWN)
def test_r83_unknown_method_is_a_bad_request(plane: Plane, name: str) -> None:
    assert name not in METHODS
    assert plane.ask(wire.request(name)) == wire.refusal(wire.BADREQ)


@pytest.mark.parametrize("message", cases.WRONG_PARAMETERS)
def test_wrong_parameters_are_a_bad_request(plane: Plane, message: bytes) -> None:
    assert plane.ask(message) == wire.refusal(wire.BADREQ)


def test_wrong_parameters_of_collect_are_refused_in_its_own_size(plane: Plane) -> None:
    expected = wire.refusal(wire.BADREQ, size=wire.COLLECT_REPLY_BYTES)
    assert plane.ask(wire.request("collect", 0), wire.COLLECT_REPLY_BYTES) == expected


def test_protocol_or_cursor_that_the_guest_does_not_have_is_denied(plane: Plane) -> None:
    assert plane.ask(wire.request("hello", 2)) == wire.refusal(wire.DENIED)
    beyond = wire.request("collect", 1 << 40, 0)
    expected = wire.refusal(wire.DENIED, size=wire.COLLECT_REPLY_BYTES)
    assert plane.ask(beyond, wire.COLLECT_REPLY_BYTES) == expected


def test_r87_words_of_a_refused_request_do_not_come_back(
    plane: Plane, fault_seen: FaultSeen
) -> None:
    """Where else they must not be is looked up at the guest's end."""
    for message in cases.REFUSED_WITH_WORDS:
        assert plane.ask(message) == wire.refusal(wire.BADREQ)
    assert plane.say_all(cases.SAID["bytes of no request"]) == b""
    fault_seen.host("BADREQ", "a closed connection")


# What ends the connection without a byte


@pytest.mark.parametrize("message", cases.NO_REQUESTS)
def test_r80_r82_bytes_that_are_no_request_end_the_connection(
    plane: Plane, message: bytes, fault_seen: FaultSeen
) -> None:
    with plane.stream() as stream:
        stream.sendall(message)
        assert wire.read_to_the_end(stream, seconds=8) == b""
    fault_seen.host("a closed connection")


def test_garbage_behind_a_request_is_not_answered(plane: Plane) -> None:
    (reply,) = wire.cut_replies(plane.say_all(cases.STATE + b"\xc1" + cases.STATE))
    wire.decode_state(reply)


def test_r80_r82_mutated_requests_get_known_replies_or_none(plane: Plane) -> None:
    """Whatever the bytes, an answer is one of a finite set."""
    wait_for_phase(plane.guest, Phase.NET, PHASE_SECONDS)
    state, build_id = plane.state(), plane.ask(cases.HELLO)[8:24]
    chance = random.Random(20_250_101)  # noqa: S311  # the same mutations in every run
    answered = 0
    for _ in range(MUTATIONS):
        message = cases.mutate(chance, chance.choice(cases.WELL_FORMED))
        for reply in wire.cut_replies(plane.say_all(message)):
            answered += 1
            known = cases.known_replies(reply, build_id, state)
            assert reply in known, (message.hex(), reply.hex())
    assert 0 < answered < MUTATIONS
    wire.decode_state(plane.ask(cases.STATE))


# What one peer may cost


def test_r81_fifth_connection_is_closed_and_its_place_is_free_again(plane: Plane) -> None:
    with ExitStack() as stack:
        streams = [stack.enter_context(plane.stream()) for _ in range(CONNECTIONS)]
        for stream in streams:
            wire.decode_state(wire.ask(stream, cases.STATE))
        assert is_turned_away(plane)
        for stream in streams:
            wire.decode_state(wire.ask(stream, cases.STATE))
    wire.decode_state(ask_until_answered(plane, cases.STATE))


def test_r81_half_a_request_is_given_ten_seconds_and_an_idle_peer_any_time(plane: Plane) -> None:
    with plane.stream() as idle, plane.stream() as half:
        began = time.monotonic()
        half.sendall(cases.STATE[:5])
        assert wire.read_to_the_end(half) == b""
        assert REQUEST_SECONDS - 1 < time.monotonic() - began < REQUEST_SECONDS + 10
        wire.decode_state(wire.ask(idle, cases.STATE))


def test_r81_peers_that_leave_at_once_cost_nothing(plane: Plane) -> None:
    for number in range(40):
        # More than the guest has places for are refused, which costs nothing either.
        with suppress(PeerError), plane.stream() as stream:
            stream.sendall(cases.STATE[: number % len(cases.STATE)])
    wire.decode_state(ask_until_answered(plane, cases.STATE))


# The network's offer


def test_r96_bad_offers_leave_the_guest_waiting_for_a_good_one(
    plane: Plane, fault_seen: FaultSeen
) -> None:
    wait_for_phase(plane.guest, Phase.NET, PHASE_SECONDS)
    waiting = plane.state()
    assert waiting.phase == Phase.NET
    with plane.stream() as stream:
        for bad in cases.BAD_OFFERS:
            assert wire.ask(stream, bad) == wire.result()
            unchanged = wire.request("wait", waiting.seq, 200)
            assert wire.decode_state(wire.ask(stream, unchanged)) == waiting
        assert wire.ask(stream, cases.offer(dns=(cases.RESOLVER,))) == wire.result()
    state = wait_for_phase(plane.guest, Phase.ATTEST, PHASE_SECONDS)
    assert (state.phase, state.code) == (Phase.ATTEST, Code.OK)
    fault_seen.host("NET, as before")


def test_offer_after_its_phase_comes_too_late(plane: Plane) -> None:
    assert plane.state().phase == Phase.ATTEST
    assert plane.ask(cases.offer()) == wire.refusal(wire.NOT_NOW)
    assert plane.state().phase == Phase.ATTEST


def test_r83_what_the_owner_has_not_allowed_is_refused_and_changes_nothing(plane: Plane) -> None:
    """This guest starts by itself, keeps its metrics, and goes on without an owner plane yet."""
    before = plane.state()
    with plane.stream() as stream:
        assert wire.ask(stream, wire.request("start")) == wire.refusal(wire.DENIED)
        assert wire.ask(stream, wire.request("metrics")) == wire.refusal(wire.DENIED)
        assert wire.ask(stream, wire.request("relay")) == wire.refusal(wire.NOT_NOW)
        assert wire.ask(stream, wire.request("exit")) == wire.refusal(wire.NOT_NOW)
        assert wire.decode_state(wire.ask(stream, cases.STATE)) == before


def test_r95_guest_that_stood_still_goes_on(plane: Plane, fault_seen: FaultSeen) -> None:
    """With the connection that was open, and in the same state; ATTEST is still in its time."""
    before = plane.state()
    with plane.stream() as stream:
        plane.guest.qmp.execute("stop")
        stream.sendall(cases.STATE)
        stream.settimeout(PAUSE_SECONDS)
        with pytest.raises(TimeoutError):
            stream.recv(1)
        plane.guest.qmp.execute("cont")
        assert wire.decode_state(wire.read_exactly(stream, wire.REPLY_BYTES)) == before
        assert wire.decode_state(wire.ask(stream, cases.STATE)) == before
    fault_seen.host(Phase(before.phase).name)


@pytest.mark.parametrize(("command", "arguments"), cases.BY_HAND)
def test_what_a_host_does_to_the_machine_changes_nothing(
    plane: Plane, command: str, arguments: dict[str, object]
) -> None:
    before = plane.state()
    plane.guest.qmp.execute(command, **arguments)
    time.sleep(MOMENT_SECONDS)
    assert plane.state() == before


def test_r83_r84_r86_random_calls_get_known_replies_and_change_nothing(plane: Plane) -> None:
    """This guest finds no KBS, so it stays in ATTEST whatever the host does."""
    state, build_id = plane.state(), plane.ask(cases.HELLO)[8:24]
    assert state.phase == Phase.ATTEST
    drive(lambda: plane.guest.connect(PORT), state, build_id)
    assert wire.decode_state(ask_until_answered(plane, cases.STATE)) == state


# The end


@pytest.fixture(scope="module")
def ending(plane: Plane) -> Ending:
    """Stop the guest, which is in ATTEST by now and finds no KBS."""
    with plane.stream() as stream:
        for grace_seconds in (5, 5, 60_000):
            assert wire.ask(stream, wire.request("stop", grace_seconds)) == wire.result()
        state = wire.decode_state(wire.ask(stream, cases.STATE))
        while state.phase < Phase.STOP:
            state = wire.decode_state(wire.ask(stream, wire.request("wait", state.seq, 60_000)))
        exit_reply = wire.ask(stream, wire.request("exit"))
    states, sealed = follow_to_the_end(plane.guest)
    reason = plane.guest.wait_for_end(END_SECONDS)
    return Ending(states=states, reason=reason, sealed=sealed, exit=exit_reply)


def test_r84_stop_is_an_orderly_reset(ending: Ending, fault_seen: FaultSeen) -> None:
    assert ending.reason is EndReason.RESET
    assert {state.code for state in ending.states} == {Code.OK}
    assert {state.phase for state in ending.states} <= {Phase.ATTEST, Phase.STOP, Phase.OFF}
    fault_seen.host("OK", "a reset")


def test_exit_code_is_the_owners_by_default(ending: Ending) -> None:
    """Not even whether there is one: no pod has run here. An allowed one takes as many bytes."""
    assert ending.exit == wire.refusal(wire.DENIED)
    assert len(ending.exit) == len(wire.result(7))


def test_stream_is_whole_and_says_no_more_than_the_host_knows(plane: Plane, ending: Ending) -> None:
    log = unseal(ending.sealed, plane.initdata.log_key)
    assert (log.findings, log.ended, log.mixed) == ((), True, False)
    # The log's key may be the host's until the owner's KBS has spoken: numbers only.
    assert {entry.kind for entry in log.entries} == {Kind.EVIDENCE, Kind.CODE, Kind.END}
    codes = [tuple(entry.data) for entry in log.entries if entry.kind is Kind.CODE]
    told = (Phase.NET, Phase.RANDOM, Phase.ATTEST, Phase.STOP)
    assert codes == [(phase, Code.OK) for phase in told]
    assert log.entries[-1].dropped > 0


def test_first_record_is_a_quote_over_the_streams_key_and_the_document(
    plane: Plane, ending: Ending
) -> None:
    log = unseal(ending.sealed, plane.initdata.log_key)
    assert log.boot_id is not None
    data = log.entries[0].data
    key, evidence = data[:SIGNING_KEY_BYTES], parse_log_evidence(data[SIGNING_KEY_BYTES:])
    quote = parse_tpm_evidence(evidence.evidence)
    assert parse_tpms_attest(quote.message).extra_data == report_data(log.boot_id, key)
    assert quote.pcrs[8] == extend(ZERO_PCR, hashlib.sha256(plane.initdata.document).digest())


def test_r87_words_of_the_host_are_in_no_sink_and_in_no_log(
    plane: Plane, ending: Ending, fault_seen: FaultSeen
) -> None:
    sinks = guest_sinks(plane.guest, plane.config)
    assert find_canaries(cases.CANARIES, sinks) == ()
    log = unseal(ending.sealed, plane.initdata.log_key)
    sealed = Contents(contents=tuple(entry.data for entry in log.entries))
    assert find_canaries(cases.CANARIES, (sealed,)) == ()
    # The control: all of it was said, and the search finds it in the record of the same device.
    capture = read_capture(plane.guest.files.vsock_capture)
    hosts = (data for (_, stream), data in capture.items() if stream is Stream.HOST_PAYLOAD)
    said = Contents(contents=tuple(hosts))
    assert {hit.canary for hit in find_canaries(cases.SAID, (said,))} == cases.SAID.keys()
    fault_seen.owner("none of the words")


def test_host_saw_nothing_but_numbers_and_ciphertext(plane: Plane, ending: Ending) -> None:
    assert ending.sealed
    sinks = guest_sinks(plane.guest, plane.config)
    assert console_bytes(sinks) == {}
    seen = {sink.name: sink.bytes_seen() for sink in sinks}
    assert seen["vsock"] > 0
    assert seen["network"] > 0  # it looked for the KBS
    assert seen["disks"] == 0
