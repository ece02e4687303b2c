"""The operations of the runtime-spec on containers: create, start, state, kill, delete; and ps.

Specification: OCI runtime-spec 1.2, `runtime.md` (Operations). Some texts are those that engines
look for in a runtime's errors: "does not exist", "container not running".
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ccinit.errors import ChildError, ConfigError, DeadlineError
from host_runtime.oci_runtime.bundle import CONFIG_FILE, MAX_CONFIG_BYTES, parse_bundle
from host_runtime.oci_runtime.container_disks import make_disks
from host_runtime.oci_runtime.container_state import (
    ContainerRecord,
    Status,
    encode_state,
    parse_id,
)
from host_runtime.oci_runtime.container_store import Container, ContainerStore, write_whole
from host_runtime.oci_runtime.guest_choice import choose_guest
from host_runtime.oci_runtime.operator_config import OperatorConfig
from host_runtime.oci_runtime.signals import choose_signal
from host_runtime.oci_runtime.supervisor import GO, READY, GuestPlan
from host_runtime.oci_runtime.wishes import START_SIGNAL
from host_runtime.process import python_command, python_environment

_END_SECONDS: Final = 20.0
_RETRY_SECONDS: Final = 0.05
_UP: Final = frozenset({Status.CREATED, Status.RUNNING})
_FOLDERS: Final = ("XDG_RUNTIME_DIR", "TMPDIR", "HOME", "XDG_CACHE_HOME")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The operations, on the containers of a store."""

    store: ContainerStore

    def create(
        self, name: str, bundle: Path, config: OperatorConfig, *, pid_file: Path | None = None
    ) -> None:
        """Boot the guest that a bundle asks for; it runs when this returns.

        Raises:
            ConfigError, FormatError, LimitExceededError: as `parse_bundle`, `choose_guest`,
                `make_disks`; `container.id`, `container.exists`.
            ChildError: the guest does not boot, with the reason for it.
        """
        folder = bundle.resolve()
        with (folder / CONFIG_FILE).open("rb") as file:
            asked = parse_bundle(file.read(MAX_CONFIG_BYTES + 1))
        choice = choose_guest(asked.annotations, config)
        now = datetime.now(UTC)
        record = ContainerRecord(
            id=parse_id(name),
            bundle=str(folder),
            annotations=asked.annotations,
            created=now.isoformat(),
        )
        with (
            self.store.new(record) as container,
            make_disks(container.folder, choice, config) as disks,
        ):
            config.log_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            plan = GuestPlan(
                boot=disks.words,
                descriptors=disks.descriptors,
                network_namespace=asked.network_namespace,
                stop_grace_seconds=config.stop_grace_seconds,
                sealed_log=str(config.log_folder / f"{name}-{now:%Y%m%dT%H%M%S.%fZ}.sealed"),
                sealed_log_bytes=config.allow.sealed_log_bytes,
            )
            plan.write(container.folder)
            with _supervisor(container.folder, disks.descriptors) as pid:
                container.write(record.with_process(pid))
                if pid_file is not None:
                    write_whole(pid_file, str(pid))

    def start(self, name: str) -> None:
        """Let the pod start, if the measured document waits for the host.

        Raises:
            ConfigError: `container.unknown`, `container.state`.
        """
        with self.store.lock(parse_id(name)) as container:
            status = container.status()
            if status is not Status.CREATED:
                raise ConfigError("container.state", f"cannot start a {status} container")
            if not container.send(START_SIGNAL):  # before it is written down: twice does no harm
                raise _not_running(name)
            container.write(container.record().with_start())

    def state(self, name: str) -> str:
        """Return a container's state as JSON.

        Raises:
            ConfigError: `container.unknown`.
        """
        return encode_state(*self.store.look(parse_id(name)))

    def processes(self, name: str) -> tuple[int, ...]:
        """Return the processes of this host that are a container: one, or none once it has ended.

        containerd asks after a restart of its own, and takes a container without any for a leaving
        of a crash, which it removes.

        Raises:
            ConfigError: `container.unknown`.
        """
        record, status = self.store.look(parse_id(name))
        return (record.pid,) if status in _UP else ()

    def kill(self, name: str, number: int, *, is_for_all: bool = False) -> None:
        """Ask a guest for its end, or end it.

        Args:
            name: of the container.
            number: of the signal.
            is_for_all: whether whatever is left is to be ended, which may be nothing.

        Raises:
            ConfigError: `container.unknown`, `container.state`; `container.signal`: a guest cannot
                be told this one.
        """
        with self.store.lock(parse_id(name)) as container:
            told = choose_signal(number, container.record().annotations)
            if container.status() in _UP and container.send(told):
                return
            is_over = is_for_all and told == signal.SIGKILL and not container.is_alive()
            if not is_over:
                raise _not_running(name)

    def delete(self, name: str, *, is_forced: bool) -> None:
        """Remove what a container has on this host, but for its sealed log.

        Raises:
            ConfigError: `container.unknown` (not if forced); `container.state`; `container.life`:
                it has begun to live.
            DeadlineError: `container.runs`: its machine does not end.
        """
        try:
            with self.store.lock(parse_id(name)) as container:
                _require_end(container, is_forced=is_forced)
                with container.without_life():
                    self.store.remove(container)
        except ConfigError as error:
            if not (is_forced and error.reason == "container.unknown"):
                raise


@contextmanager
def _supervisor(folder: Path, descriptors: tuple[int, ...]) -> Iterator[int]:
    """Start a container's life, which boots its guest; it is ended if the caller fails.

    It inherits `descriptors`. If this process is killed meanwhile, it ends itself: it goes on only
    once it is told that the caller has done its part.

    Raises:
        ChildError: the guest does not boot.
    """
    ours, its = socket.socketpair()
    command = (*python_command("host_runtime.oci_runtime.supervisor"), str(folder))
    # Engines name folders that nobody has made.
    inherited = {name: os.environ[name] for name in _FOLDERS if os.environ.get(name)}
    inherited = {name: path for name, path in inherited.items() if Path(path).is_dir()}
    with ours:
        with its:
            process = subprocess.Popen(
                (*command, "--creator", str(its.fileno())),
                stdin=subprocess.DEVNULL,
                env={**inherited, **python_environment()},
                pass_fds=(its.fileno(), *descriptors),
                cwd="/",
                start_new_session=True,
            )
        try:
            _require_ready(ours)
            yield process.pid
            ours.sendall(GO)
        except BaseException:
            process.kill()
            process.wait()
            raise
    process.returncode = 0  # it is not ours any more: whoever reaps for the container has it


def _require_ready(supervisor: socket.socket) -> None:
    with supervisor.makefile("rb") as answers:
        answer = answers.readline()
    try:
        told = json.loads(answer)
        if told.get(READY):
            return
        reason, detail = str(told["reason"]), str(told["detail"])
    except (ValueError, KeyError, AttributeError):
        reason, detail = "process.ended", "the guest's process ended without a word"
    raise ChildError(reason, detail)


def _require_end(container: Container, *, is_forced: bool) -> None:
    """Wait until nothing of the guest is left: whoever starts it anew wants its disks and vTPM."""
    status = container.status()
    name = container.record().id
    if status is not Status.STOPPED and not is_forced:
        raise ConfigError("container.state", f"cannot delete container {name}: it is {status}")
    deadline = time.monotonic() + _END_SECONDS
    while container.send(signal.SIGKILL) or container.is_alive() or container.has_machine():
        if time.monotonic() > deadline:
            raise DeadlineError("container.runs", f"{name}: its machine has not ended")
        time.sleep(_RETRY_SECONDS)


def _not_running(name: str) -> ConfigError:
    return ConfigError("container.state", f"container not running: {name}")
