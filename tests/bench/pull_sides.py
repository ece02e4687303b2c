"""Every way to pull one image: ours, skopeo with umoci, podman, and the floor.

All pull the same digest from the same registry over TLS on loopback, onto the same disk, each into
an empty store; a pull is over when the image's files can be read. Ours is the agent's PULL from the
published root: PID 1, its children under their restrictions, every digest checked, the kernel's
tree compared with the tar. As in a guest, PID 1 exists before the pull begins and after it is over;
so does the floor's process. The children that receive the image are started when the guest begins
to attest; the others are started within the pull, as the peers are.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rootfs_builder.container_image.oci_layout import TAG
from tests.bench.guest_root import ENVIRONMENT, GuestRoot, run, start_ready
from tests.bench.measurement import Bench, BenchError
from tests.bench.pull_floor import FloorImage, pull_to_nowhere
from tests.bench.usage import Peak, processor_seconds, watch_memory
from tests.integration.pull.real_registry import Registry

Start = Callable[[], None]
"""Pulls; what was before it is not measured."""

Side = Callable[[Path], AbstractContextManager[Start]]
"""One of the sides, to pull into that folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one pull took."""

    seconds: float
    processor_seconds: float


def _from_nothing(
    pull: Callable[["Pull", Path], None],
) -> Callable[["Pull", Path], AbstractContextManager[Start]]:
    """Make a side of what has nothing to be started ahead."""

    @contextmanager
    def side(self: "Pull", folder: Path) -> Iterator[Start]:
        yield partial(pull, self, folder)

    return side


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One image in the registry.

    Attributes:
        file_bytes: of all files, by which our side shows that it has them.
        key: file that opens its layers, or None.
    """

    bench: Bench
    root: GuestRoot
    program: str
    registry: Registry
    reference: str
    file_bytes: int
    key: Path | None = None

    @property
    def certificates(self) -> Path:
        """The folder with the registry's authority."""
        return self.registry.authority.ca.parent

    @contextmanager
    def ours(self, folder: Path) -> Iterator[Start]:
        """The agent's PULL."""
        folder.chmod(0o711)  # the children's users pass through it
        shutil.copy(self.registry.authority.ca, folder / "authority.crt")
        arguments = [self.program, self.reference, "/tmp/authority.crt"]
        if self.key is not None:
            shutil.copy(self.key, folder / "key.pem")
            arguments.append("/tmp/key.pem")
        command = self.root.command_with_store(folder, *arguments)
        said: list[str] = []
        with start_ready(command, ENVIRONMENT) as program:
            yield lambda: said.append(program.go())
        if said != [f"{self.file_bytes}\n"]:
            raise BenchError(f"our pull has {said} bytes of files, not {self.file_bytes}")

    @_from_nothing
    def skopeo_umoci(self, folder: Path) -> None:
        """Copy to an OCI layout, then unpack."""
        certificates = ("--src-cert-dir", str(self.certificates))
        copy = ("copy", "--quiet", *certificates, *self._decryption())
        self._run_tool(
            folder, ("skopeo", *copy, f"docker://{self.reference}", f"oci:{folder}/oci:large")
        )
        unpack = ("umoci", "unpack", "--image", f"{folder}/oci:large", f"{folder}/bundle")
        self._run_tool(folder, unpack)

    @_from_nothing
    def podman(self, folder: Path) -> None:
        """Pull into a store of its own."""
        store = ("--root", folder / "root", "--runroot", folder / "run")
        driver = ("--storage-driver", "overlay", "--cgroup-manager", "cgroupfs")
        certificates = ("--cert-dir", str(self.certificates))
        options = ("pull", "--quiet", *certificates, *self._decryption())
        # It does not decrypt what it was asked for by digest.
        tagged = f"{self.reference.partition('@')[0]}:{TAG}"
        name = self.reference if self.key is None else tagged
        self._run_tool(folder, ("podman", *store, *driver, *options, name))

    @_from_nothing
    def floor(self, _folder: Path) -> None:
        """Only the unavoidable."""
        host, _slash, rest = self.reference.partition("/")
        repository, _at, digest = rest.partition("@")
        pull_to_nowhere(
            FloorImage(
                port=int(host.rpartition(":")[2]),
                repository=repository,
                digest=digest,
                ca=str(self.registry.authority.ca),
            )
        )

    def _decryption(self) -> tuple[str, ...]:
        return () if self.key is None else (f"--decryption-key={self.key}",)

    def _run_tool(self, folder: Path, arguments: Sequence[str | os.PathLike[str]]) -> None:
        keys = () if self.key is None else (self.key.parent,)
        command = self.bench.tools.command(
            arguments,
            directories=(folder, self.certificates, *keys),
            environment={"TMPDIR": str(folder)},
        )
        run(command)


def measure_cost(bench: Bench, side: Side) -> Cost:
    """Pull once; the processor time is that of the processes that the side starts."""
    before = processor_seconds()
    with _folder(bench) as folder, side(folder) as start:
        began = time.perf_counter()
        start()
        seconds = time.perf_counter() - began
    return Cost(seconds=seconds, processor_seconds=processor_seconds() - before)


def measure_memory(bench: Bench, side: Side, resident: str = "") -> Peak:
    """Pull once more; return the most memory that its processes had together.

    Args:
        resident: see `watch_memory`.
    """
    with _folder(bench) as folder, watch_memory(resident) as peak, side(folder) as start:
        start()
    return peak


@contextmanager
def _folder(bench: Bench) -> Iterator[Path]:
    folder = bench.work.resolve() / "pull"
    folder.mkdir()
    os.sync()  # the dirty pages of the side before must not burden this one
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
