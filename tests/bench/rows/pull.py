"""Pull of a 500 MB image of 10 000 files against skopeo with umoci, and against podman.

The image in one gzip layer, in one zstd layer (which this umoci does not know), in 60 gzip layers,
and encrypted to a key: time, processor time, and memory of all processes together (`usage`). How
each side works is in `pull_sides`, the floor in `pull_floor`.

Our memory has two rows against the limit of 64 MB: one with PID 1, which is resident and just as
large without a pull, and one of the pull's own processes. Against the peers PID 1 counts.

Goals: five times as fast as skopeo with umoci, three times as fast as podman. An index
over the tar replaces the extraction of every file, which is most of what the peers do. What remains
(TLS, inflate, SHA-256 over blob and tar, writing) the peers do, too, so less processor time can be
saved.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from rootfs_builder.container_image.oci_layout import TAG
from tests.bench.guest_root import GuestRoot, open_guest_root
from tests.bench.large_image import LargeImage, Packing, open_large_image
from tests.bench.measurement import Bench, Row, compare, interleave
from tests.bench.pull_sides import Cost, Pull, Side, measure_cost, measure_memory
from tests.integration.pull.real_registry import (
    Registry,
    make_authority,
    push_image,
    running_registry,
)
from tests.integration.pull.recipients import Recipient, make_recipient

ROUNDS = 5
MORE_ROUNDS = 3
TIME_GOALS = {"skopeo + umoci": 0.2, "podman": 1 / 3}
PROCESSOR_GOAL = 0.5
MEMORY_GOAL = 1.0
MEMORY_LIMIT_MB = 64.0
PEERS = {"skopeo + umoci": "skopeo copy, then umoci unpack", "podman": "podman pull (overlay)"}


def measure(bench: Bench) -> tuple[Row, ...]:
    """Measure each image on all sides in the same rounds."""
    root = open_guest_root(bench)
    authority = make_authority(bench.work / "tls")
    recipient = make_recipient(bench.work / "keys", ec.generate_private_key(ec.SECP256R1()))
    rows: list[Row] = []
    with running_registry(bench.work / "registry", authority) as registry:
        images = _Images(bench, root, registry, recipient)
        for name, make in images.each():
            bench.say(f"pushing the image ({name}) to a registry on loopback")
            pull = make()
            rounds = ROUNDS if pull.key is None and name == Packing.GZIP.value else MORE_ROUNDS
            rows += _measure(bench, name, pull, bench.rounds(rounds))
    return tuple(rows)


class _Images:
    """The images, each pushed when its turn comes."""

    def __init__(
        self, bench: Bench, root: GuestRoot, registry: Registry, recipient: Recipient
    ) -> None:
        self._bench = bench
        self._root = root
        self._registry = registry
        self._recipient = recipient

    def each(self) -> Iterator[tuple[str, Callable[[], Pull]]]:
        for packing in Packing:
            yield packing.value, partial(self._plain, packing)
        yield "encrypted", self._encrypted

    def _plain(self, packing: Packing) -> Pull:
        large = open_large_image(self._bench, packing)
        repository = f"{self._host}/bench/{packing.name.lower()}"
        ca = self._registry.authority.ca
        reference = push_image(large.image, repository, ca)
        return self._pull(reference, large)

    def _encrypted(self) -> Pull:
        large = open_large_image(self._bench)
        repository, ca = f"{self._host}/bench/encrypted", self._registry.authority.ca
        digest = self._bench.work / "digest"
        self._bench.tools.run(
            (
                *("skopeo", "copy", "--quiet", "--insecure-policy", "--dest-cert-dir", ca.parent),
                *(f"--encryption-key=jwe:{self._recipient.public}", "--digestfile", digest),
                *(f"oci:{large.image.layout}:{TAG}", f"docker://{repository}:{TAG}"),
            ),
            directories=(large.image.layout, self._bench.work),
        )
        return self._pull(f"{repository}@{digest.read_text()}", large, self._recipient.private)

    @property
    def _host(self) -> str:
        return f"127.0.0.1:{self._registry.port}"

    def _pull(self, reference: str, large: LargeImage, key: Path | None = None) -> Pull:
        return Pull(
            bench=self._bench,
            root=self._root,
            program=self._root.add_program("pull"),
            registry=self._registry,
            reference=reference,
            file_bytes=large.file_bytes,
            key=key,
        )


def _measure(bench: Bench, name: str, pull: Pull, rounds: int) -> Iterator[Row]:
    peers: dict[str, Side] = {"podman": pull.podman}
    if name != Packing.ZSTD.value:
        peers = {"skopeo + umoci": pull.skopeo_umoci, **peers}
    floor = {} if pull.key is not None else {"floor": pull.floor}
    sides = {"ours": pull.ours, **peers, **floor}
    seen = interleave(
        {side: partial(measure_cost, bench, play) for side, play in sides.items()},
        rounds,
        bench.say,
    )
    bench.say("looking at memory")
    memory = {
        side: measure_memory(bench, play, pull.program)
        for side, play in sides.items()
        if side != "floor"
    }
    yield _memory_row(f"memory of a pull, {name}, with PID 1", memory["ours"].bytes)
    yield _memory_row(f"memory of a pull, {name}, its own processes", memory["ours"].own_bytes)
    for peer in peers:
        yield _time_row(name, peer, seen)
        yield compare(
            f"processor time of a pull, {name}, against {peer}",
            "s",
            ours=[cost.processor_seconds for cost in seen["ours"]],
            peer=[cost.processor_seconds for cost in seen[peer]],
            peer_name=PEERS[peer],
            goal=PROCESSOR_GOAL,
        )
        yield compare(
            f"memory of a pull, {name}, against {peer}",
            "MB",
            ours=[memory["ours"].bytes / 1e6],
            peer=[memory[peer].bytes / 1e6],
            peer_name=PEERS[peer],
            goal=MEMORY_GOAL,
        )


def _memory_row(name: str, ours_bytes: int) -> Row:
    return compare(
        name,
        "MB",
        ours=[ours_bytes / 1e6],
        peer=[MEMORY_LIMIT_MB],
        peer_name=f"the limit of {MEMORY_LIMIT_MB:.0f} MB",
        goal=MEMORY_GOAL,
    )


def _time_row(name: str, peer: str, seen: Mapping[str, tuple[Cost, ...]]) -> Row:
    return compare(
        f"pull of 500 MB, {name}, against {peer}",
        "s",
        ours=[cost.seconds for cost in seen["ours"]],
        peer=[cost.seconds for cost in seen[peer]],
        floor=[cost.seconds for cost in seen.get("floor", ())],
        peer_name=PEERS[peer],
        goal=TIME_GOALS[peer],
    )
