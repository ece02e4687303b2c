"""Pull of a 500 MB image in one gzip layer, against skopeo with umoci, and against podman.

All pull the same digest from the same docker-registry over TLS on loopback, onto the same disk,
each into nothing; a pull is over when the image's files can be read. Ours is the agent's PULL from
the published root: a fresh PID 1, its four children under their restrictions, every digest checked,
the kernel's tree compared with the tar. The floor is inflating the layer by ISA-L and throwing the
result away; no order of work gets below it, as a gzip stream is serial.

Goals: 0.5 and 0.6. An index over the tar replaces the extraction of every file, which is most of
what the peers do; what remains (TLS, inflate, SHA-256 over blob and tar, writing) is work that the
peers do too. `podman` overlaps the two halves of its work, hence the higher goal.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from isal import isal_zlib

from rootfs_builder.container_image import push_container_image
from tests.bench.guest_root import ENVIRONMENT, GuestRoot, open_guest_root, run
from tests.bench.large_image import LargeImage, open_large_image
from tests.bench.measurement import Bench, BenchError, Row, compare, interleave
from tests.integration.registry_fixture import Registry, make_authority, running_registry

ROUNDS = 5
UMOCI_GOAL = 0.5
PODMAN_GOAL = 0.6
_GZIP_BITS = 31
_CHUNK_BYTES = 1 << 20


def measure(bench: Bench) -> tuple[Row, ...]:
    """Measure all three and the floor in the same rounds."""
    root = open_guest_root(bench)
    large = open_large_image(bench)
    authority = make_authority(bench.work / "tls")
    with running_registry(bench.work / "registry", authority) as registry:
        bench.say("pushing the image to a registry on loopback")
        repository = f"127.0.0.1:{registry.port}/bench/large"
        reference = push_container_image(bench.tools, large.image, repository, authority.ca)
        pulls = _Pulls(bench, root, large, registry, reference)
        seen = interleave(
            {
                "ours": pulls.ours,
                "umoci": pulls.skopeo_umoci,
                "podman": pulls.podman,
                "floor": pulls.inflate,
            },
            bench.rounds(ROUNDS),
            bench.say,
        )
    return tuple(
        compare(
            f"pull of 500 MB against {name}",
            "s",
            ours=seen["ours"],
            peer=seen[side],
            floor=seen["floor"],
            peer_name=peer,
            goal=goal,
        )
        for name, side, peer, goal in (
            ("skopeo + umoci", "umoci", "skopeo copy, then umoci unpack", UMOCI_GOAL),
            ("podman", "podman", "podman pull (overlay)", PODMAN_GOAL),
        )
    )


class _Pulls:
    """Every way to pull; each returns seconds and leaves nothing."""

    def __init__(
        self, bench: Bench, root: GuestRoot, large: LargeImage, registry: Registry, reference: str
    ) -> None:
        self._bench = bench
        self._root = root
        self._program = root.add_program("pull")
        self._large = large
        self._certificates = registry.authority.ca.parent
        self._reference = reference

    def ours(self) -> float:
        """The agent's PULL."""

        def pull(folder: Path) -> None:
            folder.chmod(0o711)  # the children's users pass through it
            shutil.copy(next(self._certificates.iterdir()), folder / "authority.crt")
            arguments = (self._program, self._reference, "/tmp/authority.crt")
            said = run(self._root.command_with_store(folder, *arguments), ENVIRONMENT)
            if int(said) != self._large.file_bytes:
                raise BenchError(f"our pull has {said} bytes of files, {self._large.file_bytes=}")

        return self._timed(pull)

    def skopeo_umoci(self) -> float:
        """Copy to an OCI layout, then unpack."""

        def pull(folder: Path) -> None:
            copy = ("copy", "--quiet", "--src-cert-dir", self._certificates)
            self._run_tool(
                folder, ("skopeo", *copy, f"docker://{self._reference}", f"oci:{folder}/oci:large")
            )
            self._run_tool(folder, ("umoci", "unpack", "--image", f"{folder}/oci:large",
                                    f"{folder}/bundle"))  # fmt: skip

        return self._timed(pull)

    def podman(self) -> float:
        """Pull into a store of its own."""

        def pull(folder: Path) -> None:
            store = ("--root", folder / "root", "--runroot", folder / "run")
            driver = ("--storage-driver", "overlay", "--cgroup-manager", "cgroupfs")
            options = ("pull", "--quiet", "--cert-dir", self._certificates)
            self._run_tool(folder, ("podman", *store, *driver, *options, self._reference))

        return self._timed(pull)

    def inflate(self) -> float:
        """Inflate the layer, in memory."""
        began = time.perf_counter()
        inflater = isal_zlib.decompressobj(wbits=_GZIP_BITS)
        with self._large.layer.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                inflater.decompress(chunk)
        return time.perf_counter() - began

    def _run_tool(self, folder: Path, arguments: Sequence[str | os.PathLike[str]]) -> None:
        command = self._bench.tools.command(
            arguments,
            directories=(folder, self._certificates),
            environment={"TMPDIR": str(folder)},
        )
        run(command)

    def _timed(self, pull: Callable[[Path], None]) -> float:
        folder = self._bench.work.resolve() / "pull"
        folder.mkdir()
        os.sync()  # what the one before left to be written is not this one's load
        began = time.perf_counter()
        try:
            pull(folder)
            return time.perf_counter() - began
        finally:
            shutil.rmtree(folder)
