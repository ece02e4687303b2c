"""A guest with two containers that write: PID 1's memory, and a program through the owner plane.

One boot like the demo's, with a second container that writes ten lines each second. Memory is what
PID 1 logs of itself when it listens and when the pod begins to run, compared with a bare
interpreter run natively. The goals are sizes, 13 MB and 22 MB, as multiples of that interpreter's.

A round trip is a call on one open connection. Ours runs, in a container, a program that does
nothing, from the request to its exit status; the peer is a call for which nothing is started. Goal:
8. `crun` joins the container's namespaces and cgroup, and starts two programs more than the peer.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ccinit.formats.planes.owner_rpc import ClientRole, Value
from guest_owner.plane.authority import OWNER_AUTHORITY_FILE
from guest_owner.plane.client import Endpoint, OwnerClient
from host_runtime.launch.guest import Guest
from tests.bench.guest_root import open_guest_root
from tests.bench.interpreter import start_bare
from tests.bench.measurement import Bench, BenchError, Row, compare, interleave
from tests.bench.told import Told
from tests.chain import pod
from tests.chain.life import live, owner_address, write_stream
from tests.chain.owner_log import read_log
from tests.chain.show import PartyError, Show
from tests.chain.world import IMAGES, World, make_world, pack_initdata

ROUNDS = 9
LISTEN_BYTES = 13_000_000
RUN_BYTES = 22_000_000
EXEC_GOAL = 8.0
_SECOND = "second"
_NOTHING = ("/lib64/ld-linux-x86-64.so.2", "--version")
_CALL_SECONDS = 120.0
_MIB = 1 << 20
_WRITES = "import time\\nfor number in range(10**9):\\n print('line', number); time.sleep(0.1)"
_CONTAINER = f"""[[container]]
name = "{_SECOND}"
image = "counter"
args = ["/usr/bin/python3", "-I", "-u", "-c", "{_WRITES}"]

"""


def measure(bench: Bench) -> tuple[Row, ...]:
    """Boot once and make rows of what guest and owner saw.

    Raises:
        BenchError: the guest did not get where it had to.
    """
    root = open_guest_root(bench)
    show = Told(bench)
    try:
        with make_world(bench.work, show) as world:
            calls, figures = _visit(replace(world, initdata=add_container(world)), bench, show)
    except PartyError as error:
        raise BenchError(f"{error}; {error.remedy}") from error
    bare, listen, run = start_bare(root).pss_bytes, "listen_pss_bytes", "pss_bytes"
    return (
        memory_row("PID 1: PSS at LISTEN, in the guest", figures[listen], bare, LISTEN_BYTES),
        memory_row("PID 1: PSS at RUN, two containers", figures[run], bare, RUN_BYTES),
        compare(
            "owner plane: exec round trip",
            "ms",
            ours=calls["ours"],
            peer=calls["peer"],
            peer_name="a call that starts nothing",
            goal=EXEC_GOAL,
        ),
    )


def memory_row(name: str, ours: int, bare: int, most: int) -> Row:
    """Make a row of bytes; the goal is met by `most` of them."""
    return compare(
        name,
        "MiB",
        ours=[ours / _MIB],
        peer=[bare / _MIB],
        peer_name="python3.13 -I -S, bare, natively",
        goal=most / bare,
    )


def add_container(world: World) -> Path:
    """Write a second container into the pod, register what comes of it, and return its document."""
    owner, manifest = world.owner, world.folder / "pod.toml"
    before, secret, after = manifest.read_text().partition("[[secret]]")
    text = f"{before}{_CONTAINER}{secret}{after}"
    manifest.write_text(text.replace('exec = ["', f'exec = ["{_SECOND}", "', 1))
    config = world.folder / "ccinit.toml"
    document = pack_initdata(owner, config, manifest, world.initdata, world.platform.tee)
    owner.run("register", "initdata", document, "--name", "demo", "--state", owner.state)
    return document


def _visit(
    world: World, bench: Bench, show: Show
) -> tuple[Mapping[str, tuple[float, ...]], Mapping[str, int]]:
    """Boot, make the calls, and return their milliseconds and what PID 1 said of itself."""
    config = world.guest("two", uki=IMAGES / "ccinit-prod.efi")
    calls: dict[str, tuple[float, ...]] = {}

    def call(_guest: Guest) -> None:
        host, _, port = owner_address(config).partition(":")
        endpoint = Endpoint(
            host=host,
            port=int(port),
            pod=pod.POD,
            roots=world.owner.state / OWNER_AUTHORITY_FILE,
            identity=world.owner.client(ClientRole.EXEC),
        )
        with OwnerClient.connect(endpoint) as client:
            sides = {
                "ours": lambda: _time(client, "exec", _SECOND, _NOTHING, False, 0, 0),  # noqa: FBT003
                "peer": lambda: _time(client, "metrics"),
            }
            calls.update(interleave(sides, bench.rounds(ROUNDS), bench.say))

    life = live(config, show, requests=1, visit=call)
    if not calls:
        phase, code = life.last
        raise BenchError(f"a guest ended in {phase.name} with code {code.name}")
    log = read_log(world.owner, write_stream(life, world.folder / "two.stream"))
    return calls, log.pid1_figures()


def _time(client: OwnerClient, name: str, *params: Value) -> float:
    """Make a call; return how many milliseconds it took."""
    began = time.perf_counter()
    client.call(name, *params, seconds=_CALL_SECONDS)
    return (time.perf_counter() - began) * 1000
