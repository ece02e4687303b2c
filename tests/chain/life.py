"""One guest's life as its host drives it: boot, offer a network, watch, collect, stop."""

import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ccinit.errors import CcinitError
from ccinit.formats.planes.host_rpc import Code, Phase
from host_runtime.launch.guest import EndReason, Guest
from host_runtime.launch.launcher import GuestConfig, boot_guest
from host_runtime.launch.network_offer import offer_user_network
from host_runtime.machine.qemu import UserNetwork
from host_runtime.plane.rpc_client import GuestClient, GuestState, NetworkOffer
from tests.chain.parties import BIN
from tests.chain.show import Show

HELLO_SECONDS = 300
RUN_SECONDS = 900
END_SECONDS = 120
ASK_SECONDS = 90
PROGRESS_MS = 15_000


@dataclass(slots=True)
class Life:
    """What the host saw of one guest.

    Attributes:
        hello_ms: milliseconds from QEMU's start to the guest's hello; None if there was none.
        seen: (milliseconds since QEMU started, phase, code) of every change.
        stream: the sealed bytes, as collected.
        chunks: how many of them came at a time.
        answers: what the pod's service said to the host's requests.
    """

    hello_ms: float | None = None
    seen: list[tuple[float, Phase, Code]] = field(default_factory=list)
    stream: bytearray = field(default_factory=bytearray)
    chunks: list[int] = field(default_factory=list)
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

    @property
    def codes(self) -> set[Code]:
        """Every code that the host was told."""
        return {code for _, _, code in self.seen}


def live(
    config: GuestConfig,
    show: Show,
    *,
    requests: int = 0,
    visit: Callable[[Guest], None] | None = None,
    watch: Callable[[Guest], None] | None = None,
) -> Life:
    """Boot a guest, give it its network, and stay until it ends.

    Args:
        config: the machine.
        show: told every change.
        requests: how often the pod's service is asked once it runs; then the guest is stopped.
        visit: called once the pod runs and has answered.
        watch: called in every new state, the last one aside.
    """
    with boot_guest(config) as guest:
        return accompany(guest, config, show, requests=requests, visit=visit, watch=watch)


def live_together(configs: Mapping[str, GuestConfig], show: Show) -> Mapping[str, Life]:
    """Boot several guests, by party, and stay until all have ended."""
    # If this is interrupted, the guests end first, so that nobody waits for them any more.
    with ThreadPoolExecutor(len(configs)) as pool, ExitStack() as stack:
        # All are started before the first thread is: a fork from threads could stop in a lock.
        guests = {
            party: stack.enter_context(boot_guest(config)) for party, config in configs.items()
        }
        lives = {
            party: pool.submit(accompany, guest, configs[party], show, party=party)
            for party, guest in guests.items()
        }
        return {party: future.result() for party, future in lives.items()}


def accompany(
    guest: Guest,
    config: GuestConfig,
    show: Show,
    *,
    requests: int = 0,
    party: str = "host",
    visit: Callable[[Guest], None] | None = None,
    watch: Callable[[Guest], None] | None = None,
) -> Life:
    """Be the host of a guest that was just started, as `live` is; `party` is who says so."""
    life = Life()
    told = _Witness(
        life=life,
        began=guest.started_at,
        show=show,
        party=party,
        watch=lambda: None if watch is None else watch(guest),
    )
    try:
        guest.wait_for_hello(HELLO_SECONDS)
    except CcinitError:
        life.end = guest.wait_for_end(END_SECONDS)
        show.say(party, f"{told.milliseconds() / 1000:7.1f} s  no hello; it ended: {life.end}")
        return life
    life.hello_ms = told.milliseconds()
    show.say(party, f"{life.hello_ms / 1000:7.1f} s  hello")
    collector = threading.Thread(target=_collect, args=(guest, life), daemon=True)
    collector.start()
    with guest.client() as client:
        client.offer_network(_offer(config))
        state = client.state()
        told.note(state)
        deadline = time.monotonic() + RUN_SECONDS
        while state.phase < Phase.RUN and time.monotonic() < deadline:
            state = told.wait(client, state)
        if state.phase is Phase.RUN:
            for _ in range(requests):
                life.answers.append(_ask(service_port(config)))
            if visit is not None:
                visit(guest)
        if state.phase <= Phase.RUN:
            with suppress(CcinitError):  # a visit may have ended it
                client.stop(10)
    _watch_end(guest, told)
    collector.join(END_SECONDS)
    life.end = guest.wait_for_end(END_SECONDS)
    show.say(party, f"{told.milliseconds() / 1000:7.1f} s  it ended: {life.end}")
    return life


def service_port(config: GuestConfig) -> int:
    """The port on loopback that leads to the pod's service."""
    assert isinstance(config.network, UserNetwork)
    return config.network.host_forwards[0].host_port


def owner_address(config: GuestConfig) -> str:
    """HOST:PORT on loopback that leads to the owner plane."""
    assert isinstance(config.network, UserNetwork)
    return f"127.0.0.1:{config.network.host_forwards[1].host_port}"


@contextmanager
def relaying(guest: Guest) -> Iterator[str]:
    """Have the host relay to the owner plane; yields HOST:PORT."""
    command = (BIN / "host-runtime", "relay", "--guest", guest.files.folder, "--listen", ":0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["listening"]
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Witness:
    """Writes down what the host is told."""

    life: Life
    began: float
    show: Show
    party: str
    watch: Callable[[], None]

    def milliseconds(self) -> float:
        """Since QEMU started."""
        return (time.monotonic() - self.began) * 1000

    def wait(self, client: GuestClient, state: GuestState) -> GuestState:
        """Return the guest's next state, or the same after a while in which something is said."""
        fresh = client.wait(state.sequence, PROGRESS_MS)
        if fresh.sequence == state.sequence:
            seconds, sealed = self.milliseconds() / 1000, len(self.life.stream)
            self.show.say(self.party, f"{seconds:7.1f} s  … and {sealed} sealed bytes so far")
        self.note(fresh)
        return fresh

    def note(self, state: GuestState) -> None:
        """Write a state down if it is a new one."""
        life = self.life
        if life.seen and life.last == (state.phase, state.code):
            return
        now = self.milliseconds()
        life.seen.append((now, state.phase, state.code))
        what = f"phase {state.phase.value} ({state.phase.name}), code {state.code:#04x}"
        self.show.say(self.party, f"{now / 1000:7.1f} s  {what}")
        if state.phase < Phase.OFF:
            self.watch()


def _watch_end(guest: Guest, told: _Witness) -> None:
    try:
        with guest.client() as client:
            state = client.state()
            told.note(state)
            while state.phase < Phase.OFF:
                state = told.wait(client, state)
    except CcinitError:
        return  # it is gone


def _collect(guest: Guest, life: Life) -> None:
    try:
        with guest.client() as client:
            for chunk in client.collect():
                life.stream += chunk.blob
                life.chunks.append(len(chunk.blob))
    except CcinitError:
        return  # the guest ended; what came is kept


def _offer(config: GuestConfig) -> NetworkOffer:
    """Offer no nameserver: everything that the pod's documents name is an address."""
    assert isinstance(config.network, UserNetwork)
    return replace(offer_user_network(config.network), dns=())


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
