"""What `test_host_plane` sends: requests in every legal form, and what is none, as plain bytes."""

import random
import socket

import pytest

from tests.vm import wire_script as wire

HELLO = wire.request("hello", 1)
STATE = wire.request("state")
WELL_FORMED = (HELLO, STATE)
UNKNOWN = ("exec", "attest", "", "Hello", "x" * 31, "x" * 64)

RESOLVER = "10.213.187.241"
SAID = {
    "address of a resolver": bytes(10) + b"\xff\xff" + socket.inet_aton(RESOLVER),
    "name of a method": b"canary-5f0c93d1a8e24b77",
    "parameter": b"canary-c2b6470e91fd3a58",
    "bytes of an address": b"canary-90ad17c4e",
    "bytes of no request": b"canary-3e8817c5d0f249ab",
}
"""What the host says to the guest, and no guest may repeat."""
CANARIES = {**SAID, "resolver in a file": RESOLVER.encode()}  # which the guest makes of it

OTHER_WIDTHS = (
    pytest.param(b"\x94\x00\xd2\x00\x00\x00\x07\xa5hello\x91\x01", id="msgid-int32"),
    pytest.param(b"\x94\x00\xcf" + bytes(7) + b"\x07\xa5hello\x91\x01", id="msgid-uint64"),
    pytest.param(b"\x94\xcc\x00\x07\xa5hello\x91\xd0\x01", id="type-uint8-proto-int8"),
    pytest.param(b"\xdc\x00\x04\x00\x07\xa5hello\xdd\x00\x00\x00\x01\x01", id="arrays"),
    pytest.param(b"\x94\x00\x07\xd9\x05hello\x91\x01", id="str8"),
    pytest.param(b"\x94\x00\x07\xdb\x00\x00\x00\x05hello\x91\x01", id="str32"),
)
"""`hello` with msgid 7, in encodings that are not the shortest."""

WRONG_PARAMETERS = (
    pytest.param(wire.request("hello"), id="hello-none"),
    pytest.param(wire.request("hello", 1, 1), id="hello-two"),
    pytest.param(wire.request("hello", 256), id="hello-u9"),
    pytest.param(wire.request("hello", "1"), id="hello-str"),
    pytest.param(wire.request("hello", *[True]), id="hello-bool"),
    pytest.param(wire.request("state", 0), id="state-one"),
    pytest.param(wire.request("wait", 0), id="wait-one"),
    pytest.param(wire.request("wait", 1 << 32, 0), id="wait-u33"),
    pytest.param(wire.request("stop"), id="stop-none"),
    pytest.param(wire.request("stop", 65_536), id="stop-u17"),
    pytest.param(wire.request("stop", b"canary in a request"), id="stop-bin"),
    pytest.param(wire.request("offer_network", bytes(6)), id="offer-one"),
)

NO_REQUESTS = (
    pytest.param(b"\xc1", id="never-used-code"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
    pytest.param(b"\x80", id="map"),
    pytest.param(b"\x93\x02\xa5state\x90", id="notification"),
    pytest.param(b"\x94\x01\x01\xc0\xc0", id="response"),
    pytest.param(b"\x93\x00\x01\xa5state", id="three-items"),
    pytest.param(b"\x95\x00\x01\xa5state\x90\x90", id="five-items"),
    pytest.param(b"\x94\x00\xff\xa5state\x90", id="msgid-negative"),
    pytest.param(b"\x94\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xa5state\x90", id="msgid-u33"),
    pytest.param(b"\x94\x00\xca\x00\x00\x00\x00\xa5state\x90", id="msgid-float"),
    pytest.param(b"\x94\xc2\x01\xa5state\x90", id="type-bool"),
    pytest.param(b"\x94\x00\x01\xc4\x05state\x90", id="method-bin"),
    pytest.param(b"\x94\x00\x01\xc0\x90", id="method-nil"),
    pytest.param(b"\x94\x00\x01\xa2\xff\xfe\x90", id="method-not-utf8"),
    pytest.param(b"\x94\x00\x01\xd9\x41" + b"x" * 65 + b"\x90", id="method-long"),
    pytest.param(b"\x94\x00\x01\xa5state\x80", id="params-map"),
    pytest.param(b"\x94\x00\x01\xa5state\xc0", id="params-nil"),
    pytest.param(b"\x94\x00\x01\xa5hello\x91\xcb" + bytes(8), id="param-double"),
    pytest.param(b"\x94\x00\x01\xa5hello\x91\xcb\x7f\xf8" + bytes(6), id="param-nan"),
    pytest.param(b"\x94\x00\x01\xa5hello\x91\xc0", id="param-nil"),
    pytest.param(b"\x94\x00\x01\xa5hello\x91\xd4\x01\x00", id="param-ext"),
    pytest.param(b"\x94\x00\x01\xa5hello\x91\xd6\xff\x00\x00\x00\x00", id="param-timestamp"),
    pytest.param(b"\x94\x00\x01\xa5hello\x91\x81\x01\x01", id="param-map"),
    pytest.param(b"\x94\x00\x01\xa5hello\x91\x91\x90", id="depth-four"),
    pytest.param(b"\x94\x00\x01\xa5hello" + b"\x91" * 2000, id="depth-endless"),
    pytest.param(b"\x94\x00\x01\xa5hello\xdc\x00\x41" + bytes(65), id="items-65"),
    pytest.param(b"\xdd\xff\xff\xff\xff", id="array-endless"),
    pytest.param(b"\xdf\xff\xff\xff\xff", id="map-endless"),
    pytest.param(b"\x94\x00\x01\xdb\xff\xff\xff\xff" + bytes(4096), id="str-endless"),
    pytest.param(b"\x94\x00\x01\xa5hello\x91\xc6\xff\xff\xff\xff" + bytes(4096), id="bin-endless"),
    pytest.param(
        b"\x94\x00\x01\xa5hello\x92" + (b"\xc5\x0f\xa0" + bytes(4000)) * 2, id="over-4-KiB"
    ),
)
"""After each of these the connection is closed without a byte."""


REFUSED_WITH_WORDS = (
    wire.request(SAID["name of a method"].decode()),
    wire.request("stop", SAID["parameter"]),
    wire.request("wait", SAID["parameter"], 0),
    wire.request("hello", SAID["parameter"].decode()),
    wire.request("start", SAID["parameter"]),
    wire.request("relay", SAID["parameter"]),
)
"""Each is a bad request, of a method with short replies."""


def mutate(chance: random.Random, message: bytes) -> bytes:
    """Change, add, remove or repeat a few bytes, or make them all anew."""
    data = bytearray(message)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[place : place + 1] = chance.randbytes(1)
            case 1:
                data[place:place] = chance.randbytes(chance.randint(1, 4))
            case 2:
                del data[place : place + chance.randint(1, 3)]
            case 3:
                data += data[:place]
            case _:
                data = bytearray(chance.randbytes(chance.randint(1, 200)))
    return bytes(data)


def known_replies(reply: bytes, build_id: bytes, state: wire.State) -> frozenset[bytes]:
    """Return all that `hello`, `state` and refusals may say, for the msgid that `reply` echoes."""
    msgid, _ = wire.take_uint(reply, 2)
    refusals = (wire.refusal(code, msgid) for code in range(1, 6))
    hello = wire.result(1, build_id, msgid=msgid)
    now = wire.result(state.phase, state.code, state.seq, state.flags, msgid=msgid)
    return frozenset((hello, now, *refusals))


def offer(
    *,
    mac: str = "525400cc0001",
    address: str = "10.0.2.15",
    prefix: int = 24,
    gateway: str = "10.0.2.2",
    mtu: int = 1500,
    dns: tuple[str, ...] = (),
    msgid: int = 1,
) -> bytes:
    servers: list[wire.Item] = [mapped(server) for server in dns]
    interface = (bytes.fromhex(mac), mapped(address), prefix, mapped(gateway), mtu, servers)
    return wire.request("offer_network", *interface, msgid=msgid)


def mapped(address: str) -> bytes:
    return bytes(10) + b"\xff\xff" + socket.inet_aton(address)


BAD_OFFERS = (
    offer(address="127.0.0.1", gateway="127.0.0.2"),
    offer(address="224.0.0.1", gateway="224.0.0.2"),
    offer(address="0.0.0.0", gateway="0.0.0.1"),
    offer(address="169.254.1.1", gateway="169.254.1.2"),
    offer(address="10.0.2.255"),
    offer(gateway="10.0.3.2"),
    offer(gateway="10.0.2.15"),
    offer(gateway="127.0.0.1"),
    offer(prefix=0),
    offer(prefix=31),
    offer(mtu=68),
    offer(mtu=1279),
    offer(mac="015e00000001"),
    offer(mac="000000000000"),
    offer(dns=("127.0.0.1",)),
    wire.request(
        *("offer_network", bytes.fromhex("525400cc0001"), SAID["bytes of an address"], 64),
        *(mapped("10.0.2.2"), 1500, []),
    ),
)

BY_HAND = (
    pytest.param("system_powerdown", {}, id="power-button"),
    pytest.param("inject-nmi", {}, id="nmi"),
    pytest.param(
        "send-key",
        {
            "keys": [
                {"type": "qcode", "data": "alt"},
                {"type": "qcode", "data": "sysrq"},
                {"type": "qcode", "data": "b"},
            ]
        },
        id="sysrq",
    ),
    pytest.param(
        "send-key",
        {"keys": [{"type": "qcode", "data": "ctrl"}, {"type": "qcode", "data": "scroll_lock"}]},
        id="show-state",
    ),
    pytest.param(
        "send-key",
        {
            "keys": [
                {"type": "qcode", "data": "ctrl"},
                {"type": "qcode", "data": "alt"},
                {"type": "qcode", "data": "delete"},
            ]
        },
        id="ctrl-alt-del",
    ),
    pytest.param(
        "device_add",
        {"driver": "virtserialport", "name": "org.qemu.guest_agent.0"},
        id="agents-port",
    ),
    pytest.param("set_link", {"name": "net", "up": False}, id="cable-out"),
    pytest.param("set_link", {"name": "net", "up": True}, id="cable-in"),
)
"""Commands of QEMU's machine protocol. No guest has a keyboard, so what is typed is lost."""
