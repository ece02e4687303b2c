"""What the host may set off, and what it is told, by the measured configuration's leave."""

import socket
from collections.abc import Coroutine

import pytest

from ccinit.agent.host_service import HostService
from ccinit.agent.state import BootState
from ccinit.formats.host_rpc import METHODS, RpcError, Value
from ccinit.formats.msgpack_rpc import encode_result
from ccinit.kernel.event_loop import EventLoop
from ccinit.rpc.dispatch import Refusal
from ccinit.seal.log import SealedLog


class Plane:
    """Stands for the owner plane."""

    def __init__(self) -> None:
        self.is_full = False
        self.taken: list[socket.socket] = []

    def take(self, connection: socket.socket) -> None:
        self.taken.append(connection)


@pytest.fixture
def service() -> HostService:
    return HostService(BootState(), bytes(16), SealedLog().ring)


def call(service: HostService, name: str, *params: Value) -> tuple[Value, ...]:
    async def main(coroutine: Coroutine[object, None, tuple[Value, ...]]) -> tuple[Value, ...]:
        return await coroutine

    result = EventLoop().run(main(service.call(METHODS[name], params)))
    encode_result(1, METHODS[name], result)  # of the schema, or ValueError
    return result


def refusal(service: HostService, name: str) -> RpcError:
    with pytest.raises(Refusal) as caught:
        call(service, name)
    return caught.value.error


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
