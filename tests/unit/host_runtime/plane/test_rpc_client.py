"""The host plane's client against a scripted guest at the other end of a socket pair."""

import socket
from collections.abc import Callable, Iterator

import pytest

from ccinit.errors import ConfigError, DeadlineError, FormatError, PeerError
from ccinit.formats.planes.host_rpc import METHODS, PROTOCOL, Code, Phase, RpcError, Value
from ccinit.formats.planes.msgpack_rpc import RequestReader, encode_error, encode_result
from host_runtime.plane import rpc_client
from host_runtime.plane.rpc_client import (
    CallRefusedError,
    GuestClient,
    GuestState,
    NetworkOffer,
    SealedChunk,
)


class ScriptedGuest:
    """A guest whose answers are written before they are asked for; msgids count from 1."""

    def __init__(self) -> None:
        self.inside, self.outside = socket.socketpair()
        self._msgid = 0

    def will_answer(self, method: str, *values: Value) -> None:
        self._msgid += 1
        self.will_send(encode_result(self._msgid, METHODS[method], values))

    def will_refuse(self, method: str, error: RpcError) -> None:
        self._msgid += 1
        self.will_send(encode_error(self._msgid, METHODS[method].reply_bytes, error))

    def will_send(self, data: bytes) -> None:
        self.inside.sendall(data)

    def asked(self) -> tuple[str, tuple[object, ...]]:
        (request,) = RequestReader().feed(self.inside.recv(4096))
        return request.method, request.params


@pytest.fixture
def guest() -> Iterator[ScriptedGuest]:
    guest = ScriptedGuest()
    yield guest
    guest.inside.close()
    guest.outside.close()


@pytest.fixture
def client(guest: ScriptedGuest) -> Iterator[GuestClient]:
    with GuestClient(lambda: guest.outside) as client:
        yield client


def test_hello_returns_the_build(guest: ScriptedGuest, client: GuestClient) -> None:
    guest.will_answer("hello", PROTOCOL, b"b" * 16)
    assert client.hello().build_id == b"b" * 16
    assert guest.asked() == ("hello", (PROTOCOL,))


def test_hello_from_another_version_is_refused(guest: ScriptedGuest, client: GuestClient) -> None:
    guest.will_answer("hello", PROTOCOL + 1, b"b" * 16)
    with pytest.raises(PeerError) as error:
        client.hello()
    assert error.value.reason == "rpc.protocol"


def test_state_and_wait_are_typed(guest: ScriptedGuest, client: GuestClient) -> None:
    expected = GuestState(phase=Phase.RUN, code=Code.OK, sequence=9, is_debug=True)
    guest.will_answer("state", 11, 0, 9, 1)
    guest.will_answer("wait", 11, 0, 9, 1)
    assert client.state() == expected
    guest.asked()
    assert client.wait(8, 90_000) == expected
    assert guest.asked() == ("wait", (8, 60_000))


@pytest.mark.parametrize("values", [(99, 0, 1, 0), (11, 1, 1, 0)])
def test_state_with_unknown_numbers_is_refused(
    guest: ScriptedGuest, client: GuestClient, values: tuple[int, ...]
) -> None:
    guest.will_answer("state", *values)
    with pytest.raises(FormatError) as error:
        client.state()
    assert error.value.reason == "rpc.state"


def test_offer_and_stop_send_their_parameters(guest: ScriptedGuest, client: GuestClient) -> None:
    guest.will_answer("offer_network")
    guest.will_answer("stop")
    offer = NetworkOffer(
        mac=b"m" * 6,
        address=b"a" * 16,
        prefix=24,
        gateway=b"g" * 16,
        mtu=1500,
        dns=(b"d" * 16,),
    )
    client.offer_network(offer)
    assert guest.asked() == (
        "offer_network",
        (b"m" * 6, b"a" * 16, 24, b"g" * 16, 1500, (b"d" * 16,)),
    )
    client.stop(30)
    assert guest.asked() == ("stop", (30,))


@pytest.mark.parametrize("code", [0, 7, 255])
def test_exit_code_is_a_number(guest: ScriptedGuest, client: GuestClient, code: int) -> None:
    guest.will_answer("exit", code)
    assert client.exit_code() == code
    assert guest.asked() == ("exit", ())


@pytest.mark.parametrize("error_code", RpcError)
def test_refused_call_says_why(
    guest: ScriptedGuest, client: GuestClient, error_code: RpcError
) -> None:
    guest.will_refuse("stop", error_code)
    with pytest.raises(CallRefusedError) as error:
        client.stop(1)
    assert error.value.error is error_code
    guest.will_answer("state", 0, 0, 0, 0)  # the connection is still good
    assert client.state().phase is Phase.ENTRY


def test_collect_goes_on_to_the_last_chunk(guest: ScriptedGuest, client: GuestClient) -> None:
    guest.will_answer("collect", 3, False, b"abc")  # noqa: FBT003
    guest.will_answer("collect", 3, False, b"")  # noqa: FBT003
    guest.will_answer("collect", 5, True, b"de")  # noqa: FBT003
    assert list(client.collect()) == [
        SealedChunk(next_cursor=3, is_last=False, blob=b"abc"),
        SealedChunk(next_cursor=5, is_last=True, blob=b"de"),
    ]


def test_collect_from_a_guest_that_does_not_wait_is_paced(
    guest: ScriptedGuest, client: GuestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("host_runtime.plane.rpc_client.time.sleep", pauses.append)
    guest.will_answer("collect", 0, False, b"")  # noqa: FBT003
    guest.will_answer("collect", 3, True, b"abc")  # noqa: FBT003
    assert [chunk.blob for chunk in client.collect()] == [b"abc"]
    assert sum(pauses) >= 0.1


def test_collect_without_following_stops_where_nothing_waits(
    guest: ScriptedGuest, client: GuestClient
) -> None:
    guest.will_answer("collect", 3, False, b"abc")  # noqa: FBT003
    guest.will_answer("collect", 3, False, b"")  # noqa: FBT003
    chunks = list(client.collect(wait_ms=0, follow=False))
    assert chunks == [SealedChunk(next_cursor=3, is_last=False, blob=b"abc")]


@pytest.mark.parametrize(("following", "blob"), [(4, b"x"), (5, b"x")])
def test_collect_with_a_cursor_that_does_not_grow_is_refused(
    guest: ScriptedGuest, client: GuestClient, following: int, blob: bytes
) -> None:
    guest.will_answer("collect", following, False, blob)  # noqa: FBT003
    with pytest.raises(FormatError) as error:
        next(client.collect(5))
    assert error.value.reason == "rpc.cursor"


def good_state() -> bytes:
    return encode_result(1, METHODS["state"], (0, 0, 0, 0))


def other_msgid() -> bytes:
    return encode_result(2, METHODS["state"], (0, 0, 0, 0))


def other_shape() -> bytes:
    return b"\x93" + good_state()[1:]


@pytest.mark.parametrize(
    ("make", "reason"), [(other_msgid, "rpc.msgid"), (other_shape, "rpc.reply")]
)
def test_reply_of_another_form_is_refused(
    guest: ScriptedGuest, client: GuestClient, make: Callable[[], bytes], reason: str
) -> None:
    guest.will_send(make())
    with pytest.raises(FormatError) as error:
        client.state()
    assert error.value.reason == reason


def test_good_reply_in_the_same_harness_is_taken(guest: ScriptedGuest, client: GuestClient) -> None:
    guest.will_send(good_state())
    assert client.state().code is Code.OK


def test_guest_that_closes_is_a_peer_error(guest: ScriptedGuest, client: GuestClient) -> None:
    guest.will_send(good_state()[:10])
    guest.inside.shutdown(socket.SHUT_WR)
    with pytest.raises(PeerError) as error:
        client.state()
    assert error.value.reason == "rpc.closed"


def test_guest_that_is_silent_is_a_deadline(
    client: GuestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_client, "_CALL_SECONDS", 0.05)
    with pytest.raises(DeadlineError) as error:
        client.state()
    assert error.value.reason == "rpc.silent"


def test_method_outside_the_table_is_refused_here(
    client: GuestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc_client, "METHODS", {})
    with pytest.raises(ConfigError) as error:
        client.state()
    assert error.value.reason == "rpc.method"
