"""R83: every method, in every phase as the guest comes to it, from a host that keeps up with it.

What may come back is written down here by hand, from docs/host-rpc.md; every byte is compared. The
guest goes on while it is asked, so a reply is right if it is right in the phase before or after it.
Calls that would be carried out, and so change what the other tests see, are left to those.
"""

from collections.abc import Callable, Collection

from ccinit.formats.planes.host_rpc import PORT, Phase
from host_runtime.launch.guest import Guest
from tests.vm import host_plane_cases as cases
from tests.vm import wire_script as wire

_OFFERS = range(Phase.LISTEN, Phase.NET + 1)  # taken there
_STARTS = range(Phase.NET, Phase.START + 1)
_METRICS = range(Phase.NET, Phase.OFF)
_EXITS = range(Phase.STOP, Phase.OFF + 1)
_RELAYS = range(Phase.UNLOCK, Phase.OFF)  # taken there


def sweep(guest: Guest) -> frozenset[Phase]:
    """Ask everything once; return the phases in which that was.

    Raises:
        AssertionError: a reply is none of those that the phase allows.
        CcinitError, OSError: the guest is gone.
    """
    with guest.connect(PORT) as stream:

        def ask(message: bytes, size: int = wire.REPLY_BYTES) -> bytes:
            return wire.ask(stream, message, size)

        before = wire.decode_state(ask(cases.STATE)).phase
        asked = [(message, ask(message), expected) for message, expected in _calls(before)]
        head = ask(wire.request("collect", 0, 0), wire.COLLECT_REPLY_BYTES)
        hello = ask(cases.HELLO)
        after = wire.decode_state(ask(cases.STATE)).phase
    phases = frozenset(Phase(number) for number in range(before, after + 1))
    for message, reply, expected in asked:
        assert reply in {expected(phase) for phase in phases}, (phases, message, reply)
    assert len(head) == wire.COLLECT_REPLY_BYTES
    assert head.startswith(b"\x94\x01\x01\xc0\x94")
    assert hello == wire.result(1, hello[8:24])
    return phases


def _calls(now: int) -> Collection[tuple[bytes, Callable[[int], bytes]]]:
    """Requests, and what each is answered in a phase."""
    calls: list[tuple[bytes, Callable[[int], bytes]]] = [
        (wire.request("start"), lambda phase: _refusal(phase in _STARTS)),
        (wire.request("metrics"), lambda phase: _refusal(phase in _METRICS)),
        (wire.request("exit"), lambda phase: _refusal(phase in _EXITS)),
        (wire.request("exec", "sh"), lambda _: wire.refusal(wire.BADREQ)),
        (wire.request("stop"), lambda _: wire.refusal(wire.BADREQ)),
    ]
    if now not in _OFFERS:
        calls.append((cases.offer(), lambda _: wire.refusal(wire.NOT_NOW)))
    if now < min(_RELAYS) - 1:  # and not the one before, which may end meanwhile
        calls.append((wire.request("relay"), lambda _: wire.refusal(wire.NOT_NOW)))
    return calls


def _refusal(is_its_phase: bool) -> bytes:  # noqa: FBT001
    """A call that the owner has not allowed."""
    return wire.refusal(wire.DENIED if is_its_phase else wire.NOT_NOW)
