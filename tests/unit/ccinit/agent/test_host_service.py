"""What the host may set off, and what it is told, by the measured configuration's leave."""

import socket
from collections.abc import Coroutine

import pytest

from ccinit.agent import host_service as module
from ccinit.agent.host_service import HostService
from ccinit.agent.state import BootState
from ccinit.boot.network_offer import NetworkOffer
from ccinit.formats.planes.host_rpc import METHODS, PROTOCOL, Code, Phase, RpcError, Value
from ccinit.formats.planes.msgpack_rpc import Request, encode_error, encode_result
from ccinit.kernel.event_loop import EventLoop, TaskGroup, sleep
from ccinit.rpc.dispatch import Refusal, answer
from ccinit.seal.ring import SealedRing


class Plane:
    """Stands for the owner plane."""

    def __init__(self) -> None:
        self.is_full = False
        self.taken: list[socket.socket] = []

    def take(self, connection: socket.socket) -> None:
        self.taken.append(connection)

    async def end_copies(self) -> None: ...


@pytest.fixture
def state() -> BootState:
    return BootState()


@pytest.fixture
def ring() -> SealedRing:
    return SealedRing(capacity=1 << 20)


@pytest.fixture
def service(state: BootState, ring: SealedRing) -> HostService:
    return HostService(state, bytes(16), ring)


def call(service: HostService, name: str, *params: Value) -> tuple[Value, ...]:
    async def main(coroutine: Coroutine[object, None, tuple[Value, ...]]) -> tuple[Value, ...]:
        return await coroutine

    result = EventLoop().run(main(service.call(METHODS[name], params)))
    encode_result(1, METHODS[name], result)  # of the schema, or ValueError
    return result


def refusal(service: HostService, name: str, *params: Value) -> RpcError:
    with pytest.raises(Refusal) as caught:
        call(service, name, *params)
    return caught.value.error


def test_hello_names_protocol_and_image_and_no_other_protocol(service: HostService) -> None:
    assert call(service, "hello", PROTOCOL) == (PROTOCOL, bytes(16))
    assert refusal(service, "hello", PROTOCOL + 1) is RpcError.DENIED


def test_state_is_phase_code_and_count(state: BootState, service: HostService) -> None:
    state.enter(Phase.NET)
    state.fail(Code.STORAGE)
    assert call(service, "state") == (Phase.NET, Code.STORAGE, 2, 0)
    assert service.phase is Phase.NET


def test_wait_ends_with_a_change_or_with_its_time(state: BootState, service: HostService) -> None:
    state.enter(Phase.NET)
    assert call(service, "wait", 0, 60_000) == (Phase.NET, Code.OK, 1, 0)
    assert call(service, "wait", 1, 1) == (Phase.NET, Code.OK, 1, 0)


@pytest.mark.parametrize("name", ["wait", "collect"])
def test_nobody_waits_longer_than_a_minute(
    state: BootState, service: HostService, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    waited: list[float] = []

    async def wait(_what: int, seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(state, "wait_for_change", wait)
    monkeypatch.setattr(service, "_wait_for_bytes", wait)
    for milliseconds in (0, 1500, 60_000, 60_001, 2**32 - 1):
        call(service, name, 0, milliseconds)
    assert waited == [0, 1.5, 60, 60, 60]


def test_newest_offer_of_a_network_waits_for_its_phase(service: HostService) -> None:
    for last in (b"\1", b"\2"):
        address = bytes(15) + last
        assert call(service, "offer_network", bytes(6), address, 24, bytes(16), 1500, ()) == ()
    assert EventLoop().run(service.next_offer()) == NetworkOffer(
        mac=bytes(6), address=bytes(15) + b"\2", prefix=24, gateway=bytes(16), mtu=1500, dns=()
    )
    assert service.offer is None


def test_phase_of_the_network_waits_for_an_offer(service: HostService) -> None:
    async def take_two() -> list[bytes]:
        return [(await service.next_offer()).mac for _ in range(2)]

    async def wait_twice() -> list[bytes]:
        async with TaskGroup() as group:
            taking = group.start(take_two(), "NET")
            for mac in (b"\1" * 6, b"\2" * 6):
                await sleep(0)
                params = (mac, bytes(16), 24, bytes(16), 1500, ())
                await service.call(METHODS["offer_network"], params)
                await sleep(0)
            return await taking.join()

    assert EventLoop().run(wait_twice()) == [b"\1" * 6, b"\2" * 6]


def test_first_wish_to_stop_counts(service: HostService) -> None:
    assert not service.stopping.is_set()
    assert call(service, "stop", 30) == call(service, "stop", 1) == ()  # R84
    assert service.stopping.is_set()
    assert service.stop_grace_seconds == 30


def test_sealed_bytes_are_handed_out_from_a_cursor_on(
    service: HostService, ring: SealedRing
) -> None:
    ring.append(b"sealed" * 20_000)
    following, last, data = call(service, "collect", 0, 0)
    assert (following, last, data) == (65_536, False, (b"sealed" * 20_000)[:65_536])
    ring.close()
    assert call(service, "collect", 65_536, 60_000) == (
        120_000, True, (b"sealed" * 20_000)[65_536:],
    )  # fmt: skip
    assert refusal(service, "collect", 120_001, 0) is RpcError.DENIED


def test_collect_waits_for_bytes_on_a_grid(
    service: HostService, ring: SealedRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid: list[float] = []

    async def sleep(seconds: float) -> None:
        grid.append(seconds)
        if len(grid) == 3:
            ring.append(b"sealed")

    monkeypatch.setattr(module, "sleep", sleep)
    assert call(service, "collect", 0, 60_000) == (6, False, b"sealed")
    assert grid == [0.25] * 3


def test_first_answer_is_noted(service: HostService, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((7, 8))
    monkeypatch.setattr(module, "boottime_us", lambda: next(times))
    assert refusal(service, "start") is RpcError.DENIED
    assert service.first_answer_us == 0
    call(service, "state")
    call(service, "state")
    assert service.first_answer_us == 7


def test_start_is_for_guests_that_wait_for_it(service: HostService) -> None:
    assert refusal(service, "start") is RpcError.DENIED
    assert not service.starting.is_set()
    service.may_start = True
    assert call(service, "start") == call(service, "start") == ()  # R84
    assert service.starting.is_set()


def test_metrics_are_coarse_and_by_leave_only(service: HostService) -> None:
    assert refusal(service, "metrics") is RpcError.DENIED
    service.may_measure = True
    total, available, vcpus = call(service, "metrics")
    assert isinstance(total, int)
    assert isinstance(available, int)
    assert 0 < available <= total < 1 << 20
    assert isinstance(vcpus, int)
    assert vcpus > 0


@pytest.mark.parametrize("code", [0, 7, 137, 255])
def test_exit_code_is_told_by_leave_only(service: HostService, code: int) -> None:
    service.exit_code = code
    assert refusal(service, "exit") is RpcError.DENIED
    service.may_tell_exit = True
    assert call(service, "exit") == (code,)


def test_pod_that_did_not_end_by_itself_has_no_exit_code(service: HostService) -> None:
    assert refusal(service, "exit") is RpcError.DENIED  # whatever became of it
    service.may_tell_exit = True
    assert refusal(service, "exit") is RpcError.FAILED


@pytest.mark.parametrize("phase", Phase)
def test_exit_code_is_for_the_end_and_its_replies_differ_in_no_size(
    state: BootState, service: HostService, phase: Phase
) -> None:
    state.phase = phase
    replies = []
    for may_tell, code in ((False, None), (False, 7), (True, None), (True, 7), (True, 200)):
        service.may_tell_exit, service.exit_code = may_tell, code
        request = Request(msgid=1, method="exit", params=())
        replies.append(EventLoop().run(answer(request, service)).data)
    size = METHODS["exit"].reply_bytes
    expected = {encode_error(1, size, RpcError.NOT_NOW)}
    if phase in {Phase.STOP, Phase.OFF}:
        expected = {encode_error(1, size, one) for one in (RpcError.DENIED, RpcError.FAILED)}
        expected |= {encode_result(1, METHODS["exit"], (code,)) for code in (7, 200)}
        assert replies[0] == replies[1] == encode_error(1, size, RpcError.DENIED)
    assert set(replies) == expected
    assert {len(reply) for reply in replies} == {64}


def test_relay_needs_an_owner_plane_with_room(service: HostService) -> None:
    assert refusal(service, "relay") is RpcError.DENIED
    plane = service.owner = Plane()
    assert call(service, "relay") == ()
    plane.is_full = True
    assert refusal(service, "relay") is RpcError.BUSY


def test_relayed_connection_goes_to_the_owner_plane_or_nowhere(service: HostService) -> None:
    near, far = socket.socketpair()
    with near, far:
        service.take_over(far)
        assert near.recv(1) == b""
    near, far = socket.socketpair()
    with near, far:
        plane = service.owner = Plane()
        service.take_over(far)
        assert plane.taken == [far]
