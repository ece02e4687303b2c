"""Calls of the CRI, as Kubernetes' kubelet makes them, to a containerd of ours.

gRPC is HTTP/2 with messages of Protocol Buffers, so `curl` of the tools tree carries them. Fields:
`k8s.io/cri-api` 0.32, `runtime/v1/api.proto`.
"""

import hashlib
import io
import json
import subprocess
import tarfile
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from tests.integration.host.containerd import CRI_NAMESPACE, PAUSE, Containerd
from tests.integration.host.protobuf import Message, Value, decode, encode, encode_map

_SECONDS = 300
_START_SECONDS = 60
_ON_HOST_NETWORK: Final[Mapping[int, Value]] = {1: {1: 2}}


class State(IntEnum):
    """Of a container."""

    CREATED = 0
    RUNNING = 1
    EXITED = 2


class CriError(Exception):
    """A call was refused, in these words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cri:
    """A client of the runtime service."""

    containerd: Containerd

    def call(self, method: str, message: Mapping[int, Value]) -> Message:
        """Make a call.

        Raises:
            CriError: it was refused.
        """
        body = encode(message)
        headers = self.containerd.folder / "headers"
        command = self.containerd.tree.command(
            *("curl", "--silent", "--show-error", "--http2-prior-knowledge", "--unix-socket"),
            *(self.containerd.folder / "containerd.sock", "--dump-header", headers),
            *("--header", "content-type: application/grpc"),
            *("--data-binary", "@-", f"http://localhost/runtime.v1.RuntimeService/{method}"),
        )
        done = subprocess.run(
            command,
            input=b"\0" + len(body).to_bytes(4, "big") + body,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = dict(
            line.split(": ", 1) for line in headers.read_text().splitlines() if ": " in line
        )
        if told["grpc-status"] != "0":
            raise CriError(urllib.parse.unquote(told.get("grpc-message", "")))
        return decode(done.stdout[5:])

    def wait_until_served(self) -> None:
        """Wait until a containerd that was started has looked for its pods."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_served():
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def run_pod(self, name: str, annotations: Mapping[str, str], *, cgroup: str = "") -> "CriPod":
        """Run a pod's sandbox; a kubelet has made the cgroup of the pod."""
        config: Mapping[int, Value] = {
            1: {1: name, 2: f"{name}-uid", 3: "default"},
            3: str(self.containerd.folder / "logs"),
            7: encode_map(annotations),
            8: {1: cgroup, 2: _ON_HOST_NETWORK},
        }
        answer = self.call("RunPodSandbox", {1: config, 2: "ccinit"})
        return CriPod(cri=self, id=answer.text(1), config=config)

    @property
    def containers(self) -> list[str]:
        """The runtime's, of all pods."""
        return [path.name for path in (self.containerd.folder / "runtimes/k8s.io").glob("*")]

    def pid(self, container: str) -> int:
        """Return the id of the process that a container, or a sandbox, is on this host."""
        for line in self.containerd("--namespace", CRI_NAMESPACE, "tasks", "list").splitlines():
            if line.startswith(container):
                return int(line.split()[1])
        raise AssertionError(f"no task {container}")

    def _is_served(self) -> bool:
        try:
            self.call("ListPodSandbox", {})
        except CriError as error:
            if "not initialized yet" not in str(error):
                raise
            return False
        return True

    def stop_pod(self, pod: str) -> None:
        """Stop a pod."""
        self._call_again("StopPodSandbox", pod, "ttrpc: closed")

    def remove_pod(self, pod: str) -> None:
        """Remove a pod."""
        self._call_again("RemovePodSandbox", pod, "still running")

    def _call_again(self, method: str, pod: str, passing: str, seconds: float = 90.0) -> None:
        """Call as a kubelet does: again, until containerd has heard of each end.

        All containers of a pod end at once here, and the sandbox with them. containerd removes
        those that it takes for ended without waiting for the word, and kills the sandbox though its
        shim may have gone since it looked.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.call(method, {1: pod})
            except CriError as error:
                if passing not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def remove_all(self) -> None:
        """Stop and remove every pod."""
        for pod in self.call("ListPodSandbox", {}).messages(1):
            self.stop_pod(pod.text(1))
            self.remove_pod(pod.text(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class CriPod:
    """A pod whose sandbox has been run."""

    cri: Cri
    id: str
    config: Mapping[int, Value]

    def create(
        self,
        name: str,
        annotations: Mapping[str, str] | None = None,
        *,
        attempt: int = 0,
        has_terminal: bool = False,
    ) -> str:
        """Create a container; return its id. A name's next life is the next attempt."""
        config: Mapping[int, Value] = {
            1: {1: name, 2: attempt},
            2: {1: PAUSE},
            10: encode_map(annotations or {}),
            11: f"{name}.log",
            14: has_terminal,
            15: {2: {3: {1: 2}}},  # the host's network, as the sandbox
        }
        request: Mapping[int, Value] = {1: self.id, 2: config, 3: self.config}
        return self.cri.call("CreateContainer", request).text(1)

    def start(self, container: str) -> None:
        """Start a container."""
        self.cri.call("StartContainer", {1: container})

    def run(self, name: str, *, attempt: int = 0) -> str:
        """Create and start a container; return its id."""
        container = self.create(name, attempt=attempt)
        self.start(container)
        return container

    def status(self, container: str) -> tuple[State, int]:
        """Return a container's state and its exit status, if it has ended."""
        status = self.cri.call("ContainerStatus", {1: container}).message(1)
        return State(status.number(3)), status.number(7)

    def wait_for_end(self, container: str, seconds: float = 90.0) -> int:
        """Wait for a container's end; return its exit status."""
        deadline = time.monotonic() + seconds
        while (status := self.status(container))[0] is not State.EXITED:
            assert time.monotonic() < deadline, self.said(container)
            time.sleep(0.2)
        return status[1]

    def stop_container(self, container: str, timeout: int = 1) -> None:
        """Stop a container: by its image's signal, and after `timeout` seconds by KILL."""
        self.cri.call("StopContainer", {1: container, 2: timeout})

    def said(self, name: str) -> str:
        """The log of a container by its name, as `kubectl logs` prints it."""
        path = self.cri.containerd.folder / f"logs/{name}.log"
        return path.read_text() if path.exists() else ""

    def is_up(self) -> bool:
        """Whether the sandbox is up."""
        return self.cri.call("PodSandboxStatus", {1: self.id}).message(1).number(3) == 0

    def wait_until_down(self, seconds: float = 90.0) -> None:
        """Wait until containerd has heard of its end, too: it hears of each process by itself."""
        deadline = time.monotonic() + seconds
        while self.is_up():
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop it."""
        self.cri.stop_pod(self.id)

    def remove(self) -> None:
        """Remove it."""
        self.cri.remove_pod(self.id)


def import_image(containerd: Containerd) -> None:
    """Give containerd the image that stands for every other: no guest sees any of it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("pod"))
    digest = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/pod"], "StopSignal": "SIGWINCH"},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]
    archive = containerd.folder / "image.tar"
    _write_tar(
        archive,
        {
            "layer.tar": layer.getvalue(),
            "config.json": json.dumps(config).encode(),
            "manifest.json": json.dumps(manifest).encode(),
        },
    )
    # Not by the daemon: containerd 2 unpacks for the snapshotter of its settings only.
    how = ("--local", "--snapshotter", "native")
    containerd("--namespace", CRI_NAMESPACE, "images", "import", *how, archive)


def _write_tar(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
