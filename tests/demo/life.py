"""One guest's life as its host drives it: boot, offer a network, watch, collect, stop."""

import ipaddress
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from ccinit.errors import CcinitError
from ccinit.formats.host_rpc import Code, Phase
from host_runtime.launcher import EndReason, Guest, GuestConfig, boot_guest
from host_runtime.rpc_client import GuestState, NetworkOffer
from tests.demo.show import Show

HELLO_SECONDS = 180
RUN_SECONDS = 420
END_SECONDS = 120
ASK_SECONDS = 90


@dataclass(slots=True)
class Life:
    """What the host saw of one guest.

    Attributes:
        seen: (milliseconds since QEMU started, phase, code) of every change.
        stream: the sealed bytes, as collected.
    """

    seen: list[tuple[float, Phase, Code]] = field(default_factory=list)
    stream: bytearray = field(default_factory=bytearray)
    end: EndReason | None = None
    answers: list[bytes] = field(default_factory=list)

    @property
    def last(self) -> tuple[Phase, Code]:
        """The last phase and code that the host was told."""
        return self.seen[-1][1:] if self.seen else (Phase.ENTRY, Code.OK)

    @property
    def reached(self) -> set[Phase]:
        """Every phase that the host was told of."""
        return {phase for _, phase, _ in self.seen}


def live(config: GuestConfig, show: Show, *, requests: int = 0, service_port: int = 0) -> Life:
    """Boot a guest, give it its network, and stay until it ends.

    Args:
        config: the machine.
        show: told every change.
        requests: how often the pod's service is asked once it runs; then the guest is stopped.
        service_port: of the pod's service on loopback.
    """
    life = Life()
    began = time.monotonic()
    with boot_guest(config) as guest:
        try:
            guest.wait_for_hello(HELLO_SECONDS)
        except CcinitError as error:
            show.say("host", f"no hello: {error}")
            life.end = guest.wait_for_end(END_SECONDS)
            return life
        collector = threading.Thread(target=_collect, args=(guest, life), daemon=True)
        collector.start()
        with guest.client() as client:
            client.offer_network(_offer(config))
            state = client.state()
            _note(life, state, began, show)
            deadline = time.monotonic() + RUN_SECONDS
            while state.phase < Phase.RUN and time.monotonic() < deadline:
                state = client.wait(state.sequence, 30_000)
                _note(life, state, began, show)
            if state.phase is Phase.RUN:
                for _ in range(requests):
                    life.answers.append(_ask(service_port))
                client.stop(10)
        _watch_end(guest, life, began, show)
        collector.join(END_SECONDS)
        life.end = guest.wait_for_end(END_SECONDS)
    return life


def _watch_end(guest: Guest, life: Life, began: float, show: Show) -> None:
    try:
        with guest.client() as client:
            state = client.state()
            _note(life, state, began, show)
            while state.phase < Phase.OFF:
                state = client.wait(state.sequence, 30_000)
                _note(life, state, began, show)
    except CcinitError:
        return  # it is gone


def _note(life: Life, state: GuestState, began: float, show: Show) -> None:
    if life.last == (state.phase, state.code) and life.seen:
        return
    milliseconds = (time.monotonic() - began) * 1000
    life.seen.append((milliseconds, state.phase, state.code))
    show.say(
        "host", f"{milliseconds / 1000:7.1f} s  phase {state.phase.name}, code {state.code:#04x}"
    )


def _collect(guest: Guest, life: Life) -> None:
    try:
        with guest.client() as client:
            for chunk in client.collect():
                life.stream += chunk.blob
    except CcinitError:
        return  # the guest ended; what came is kept


def _offer(config: GuestConfig) -> NetworkOffer:
    assert config.network is not None
    return NetworkOffer(
        mac=bytes.fromhex(config.network.mac.replace(":", "")),
        address=_mapped("10.0.2.15"),
        prefix=24,
        gateway=_mapped("10.0.2.2"),
        mtu=1500,
        dns=(),
    )


def _mapped(text: str) -> bytes:
    return ipaddress.IPv6Address(f"::ffff:{text}").packed


def _ask(port: int) -> bytes:
    """Ask the pod's service, which may still be starting."""
    deadline = time.monotonic() + ASK_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as reply:
                return bytes(reply.read())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def write_stream(life: Life, path: Path) -> Path:
    """Keep what was collected where the owner can read it."""
    path.write_bytes(life.stream)
    return path
