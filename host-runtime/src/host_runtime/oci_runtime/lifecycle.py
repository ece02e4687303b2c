"""The operations of the runtime-spec on containers: create, start, state, kill, delete; and ps.

Specification: OCI runtime-spec 1.2, `runtime.md` (Operations). Some texts are those that engines
look for in a runtime's errors: "does not exist", "container not running".
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError, DeadlineError, FormatError
from host_runtime.oci_runtime import pod_member_process, supervisor
from host_runtime.oci_runtime.bundle import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    Bundle,
    changes_resources,
    parse_bundle,
)
from host_runtime.oci_runtime.container import FILE_MODE, Container
from host_runtime.oci_runtime.container_cgroup import leave_no_cgroup
from host_runtime.oci_runtime.container_disks import ContainerFiles, make_disks
from host_runtime.oci_runtime.container_state import (
    ContainerRecord,
    Status,
    encode_state,
    parse_id,
)
from host_runtime.oci_runtime.container_store import ContainerStore
from host_runtime.oci_runtime.guest_choice import choose_guest
from host_runtime.oci_runtime.guest_plan import GuestPlan
from host_runtime.oci_runtime.host_requests import START_SIGNAL
from host_runtime.oci_runtime.life import say
from host_runtime.oci_runtime.life_start import started_life
from host_runtime.oci_runtime.network_release import release_network
from host_runtime.oci_runtime.oom_score import give_oom_score
from host_runtime.oci_runtime.opened_file import read_regular
from host_runtime.oci_runtime.operator_config import Cgroup, OperatorConfig
from host_runtime.oci_runtime.pod_member import require_member, require_same_guest
from host_runtime.oci_runtime.pod_part import INFRA_ID
from host_runtime.oci_runtime.sealed_logs import sealed_log_name
from host_runtime.oci_runtime.signals import choose_member_signal, choose_signal
from measured_boot.command_line.files import write_whole

_END_SECONDS: Final = 20.0
_OWN_END_SECONDS: Final = 5.0
_MACHINE_SECONDS: Final = 10.0  # a QEMU that is told to end may have to write to slow disks
_MEMBERS_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.05
_UP: Final = frozenset({Status.CREATED, Status.RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The operations, on the containers of a store."""

    store: ContainerStore

    def create(
        self, name: str, bundle: Path, config: OperatorConfig, *, pid_file: Path | None = None
    ) -> None:
        """Boot the guest that a bundle asks for, or stand for a container of a running guest.

        The life is running when this returns.

        Raises:
            ConfigError, FormatError, LimitExceededError: as `parse_bundle`, `choose_guest`,
                `make_disks`; `bundle.file`: `config.json` is no regular one; `container.id`,
                `container.exists`; of a pod's container as `require_member`,
                `require_same_guest`; `sandbox.state`: its guest does not run.
            ChildError: the guest does not boot, with the reason for it.
        """
        folder = Path(os.path.realpath(bundle, strict=True))  # `resolve`: a circle is no OSError
        asked = parse_bundle(read_regular(folder / CONFIG_FILE, MAX_CONFIG_BYTES, "bundle.file"))
        record = ContainerRecord(
            id=parse_id(name),
            bundle=str(folder),
            annotations=asked.annotations,
            created=datetime.now(UTC).isoformat(),
            resources=asked.resources,
            cgroup=asked.cgroup if config.cgroup is Cgroup.BUNDLE else None,
        )
        if asked.part is not None:
            part = asked.part
            record = replace(record, sandbox=parse_id(part.sandbox), member=part.member)
        if record.member:
            self._join(record, asked, pid_file)
        else:
            self._boot(record, asked, config, pid_file)

    def _boot(
        self, record: ContainerRecord, asked: Bundle, config: OperatorConfig, pid_file: Path | None
    ) -> None:
        if record.sandbox not in {"", record.id}:
            raise ConfigError(
                "bundle.kubernetes", f"sandbox {record.sandbox!r:.80} as container {record.id}"
            )
        self._require_one_guest(asked.annotations)
        choice = choose_guest(asked.annotations, config)
        log_name = sealed_log_name(record.id, datetime.now(UTC))
        with (
            self._new(record) as container,
            make_disks(container.folder, choice, config) as disks,
        ):
            config.log_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            plan = GuestPlan(
                boot=disks.arguments,
                descriptors=disks.descriptors,
                network_namespace=asked.network_namespace,
                resolver_file=asked.resolver_file,
                stop_grace_seconds=config.stop_grace_seconds,
                sealed_log=str(config.log_folder / log_name),
                sealed_log_bytes=config.allow.sealed_log_bytes,
                all_sealed_logs_bytes=config.allow.all_sealed_logs_bytes,
            )
            plan.write(container.folder)
            with started_life(
                supervisor.MODULE,
                container.folder,
                disks.descriptors,
                oom_score_adj=asked.oom_score_adj,
            ) as pid:
                _write_down(container, record.with_process(pid), pid_file)

    def _require_one_guest(self, annotations: Mapping[str, str]) -> None:
        """Refuse a container in a podman pod whose infra container is a guest.

        Whoever asked for a pod would get two guests of one document. An infra container of another
        runtime is fine: it only lends its network, as any container may.
        """
        infra = annotations.get(INFRA_ID)
        if infra is None:
            return
        try:
            self.store.look(parse_id(infra))
        except ConfigError:  # not one of ours
            return
        raise ConfigError(
            "bundle.kubernetes",
            f"the pod's infra container {infra:.12} is a guest already: make the pod without one"
            " (`--infra=false`), or start that by another runtime",
        )

    def _join(self, record: ContainerRecord, asked: Bundle, pid_file: Path | None) -> None:
        with self._locked_sandbox(record.sandbox) as sandbox:
            require_same_guest(record.annotations, sandbox.record().annotations)
            document = ContainerFiles(folder=sandbox.folder).document
            require_member(record.member, document.read_bytes())
            with (
                self._new(record) as container,
                started_life(
                    pod_member_process.MODULE,
                    container.folder,
                    oom_score_adj=asked.oom_score_adj,
                ) as pid,
            ):
                _write_down(container, record.with_process(pid), pid_file)
            if asked.oom_score_adj is not None:
                _give_oom_score(sandbox, asked.oom_score_adj)

    @contextmanager
    def _new(self, record: ContainerRecord) -> Iterator[Container]:
        """Make a container; if the caller fails, nothing of it is left when this returns.

        Otherwise a second try would find the disks, the vTPM or the cgroup in use, and the network
        namespace would not answer for its address.
        """
        with self.store.new(record) as container:
            try:
                yield container
            except BaseException:
                # The first error is the one to tell.
                with suppress(DeadlineError):
                    _end(container, container)
                    release_network(container)
                    leave_no_cgroup(container)
                raise

    @contextmanager
    def _locked_sandbox(self, name: str) -> Iterator[Container]:
        """Yield, locked, the container of a sandbox whose guest runs.

        Raises:
            ConfigError: `sandbox.state`.
        """
        try:
            with self.store.lock(name) as sandbox:
                _require_sandbox(sandbox)
                yield sandbox
        except ConfigError as error:
            if error.reason != "container.unknown":
                raise
            detail = f"there is no sandbox {name}, or no longer: its guest has ended"
            raise ConfigError("sandbox.state", detail) from error

    def start(self, name: str) -> None:
        """Let the pod start, if the measured document waits for the host.

        Raises:
            ConfigError: `container.unknown`, `container.state`.
        """
        with self.store.lock(parse_id(name)) as container:
            record, status = container.look()
            if status is not Status.CREATED:
                raise ConfigError("container.state", f"cannot start a {status} container")
            if record.member:  # it runs already, or will once its sandbox is started
                is_told = self._guest_of(record).is_alive()
            else:  # before it is recorded: to start twice does no harm
                is_told = container.send(START_SIGNAL)
            if not is_told:
                raise _not_running(name)
            container.write(record.with_start())

    def state(self, name: str) -> str:
        """Return a container's state as JSON.

        Raises:
            ConfigError: `container.unknown`.
        """
        return encode_state(*self.store.look(parse_id(name)))

    def processes(self, name: str) -> tuple[int, ...]:
        """Return the processes of this host that are a container: one, or none once it has ended.

        containerd asks after a restart of its own; a container without any process it takes for a
        remnant of a crash, and removes it.

        Raises:
            ConfigError: `container.unknown`.
        """
        record, status = self.store.look(parse_id(name))
        return (record.pid,) if status in _UP else ()

    def is_changed_by(self, name: str, resources: bytes) -> bool:
        """Whether resources differ from those that a container was created with.

        The bundle does not tell any more: podman writes into it what it asks `update` for.

        Raises:
            ConfigError: `container.unknown`.
            FormatError, LimitExceededError: as `changes_resources`.
        """
        record, _status = self.store.look(parse_id(name))
        return changes_resources(resources, record.resources)

    def kill(self, name: str, number: int, *, is_for_all: bool = False) -> None:
        """Ask a guest to end, or end it; any started container of its pod will do.

        Args:
            name: of the container.
            number: of the signal.
            is_for_all: whether to end whatever is left, if anything.

        Raises:
            ConfigError: `container.unknown`, `container.state`; `container.signal`: a guest cannot
                be told this one.
        """
        with self.store.lock(parse_id(name)) as container:
            record, status = container.look()
            if record.member:
                told = choose_member_signal(number)
            else:
                told = choose_signal(number, record.annotations)
            if status in _UP and self._target(container, record).send(told):
                return
            # A member's process may hang, and so outlive its guest.
            if told == signal.SIGKILL and record.member and container.send(told):
                return
            is_over = is_for_all and told == signal.SIGKILL and not container.is_alive()
            if not is_over:
                raise _not_running(name)

    def delete(self, name: str, *, is_forced: bool) -> None:
        """Remove what a container has on this host, except its sealed log.

        A sandbox is removed after the containers of its pod. If forced, it takes them with it,
        since containerd 2 forgets them if their shim is killed.

        Raises:
            ConfigError: `container.unknown` (not if forced); `container.state`; `container.life`:
                its life has begun meanwhile.
            FormatError: `container.record` (not if forced).
            DeadlineError: `container.runs`: its machine does not end; `cgroup.busy`: others are in
                the cgroup that it has made.
        """
        parse_id(name)
        if not is_forced:
            self._await_members(name)
        try:
            with self.store.lock(name) as container:
                self._require_end(container, is_forced=is_forced)
                release_network(container)
                with container.without_life():
                    leave_no_cgroup(container)
                    self.store.remove(container)
        except ConfigError as error:
            if not (is_forced and error.reason == "container.unknown"):
                raise
            return
        if is_forced:
            for member in self.store.members(name):
                self.delete(member, is_forced=True)

    def _await_members(self, name: str) -> None:
        """Give an engine time to remove the containers of a pod whose guest has ended.

        They end a moment after their sandbox. containerd 2 tells a shim only once to end, when the
        sandbox is deleted; a shim that still has containers then stays for good. A shim forgets a
        container once our `delete` of it has ended, and only then containerd removes its bundle. So
        when no bundle is left, the shim has no container any more.
        """
        _record, status = self.store.look(name)
        if status is not Status.STOPPED:
            return
        deadline = time.monotonic() + _MEMBERS_SECONDS
        while self._has_members(name) and time.monotonic() < deadline:
            time.sleep(_RETRY_SECONDS)

    def _has_members(self, name: str) -> bool:
        bundles = Container(folder=self.store.root / name).member_bundles()
        return any(path.exists() for path in bundles) or bool(self.store.members(name))

    def _require_end(self, container: Container, *, is_forced: bool) -> None:
        """Wait until nothing of it is left, since a new start will want its disks and vTPM."""
        target = container
        try:
            record, status = container.look()
        except FormatError:  # of another version of this runtime, perhaps
            if not is_forced:
                raise
        else:
            if status is not Status.STOPPED and not is_forced:
                raise ConfigError(
                    "container.state", f"cannot delete container {record.id}: it is {status}"
                )
            if status in _UP:
                target = self._target(container, record)
        _end(container, target)

    def _target(self, container: Container, record: ContainerRecord) -> Container:
        """Return the container whose life gets the signals for a container that is up.

        A started container of a pod runs in the guest, which can only be signalled as a whole;
        before its start it is merely a process of the host.
        """
        return self._guest_of(record) if record.member and record.is_started else container

    def _guest_of(self, record: ContainerRecord) -> Container:
        return Container(folder=self.store.root / record.sandbox)


def _require_sandbox(container: Container) -> None:
    record, status = container.look()
    if record.sandbox != record.id:
        raise ConfigError("sandbox.state", f"{record.id} is not a sandbox of a pod")
    if status not in _UP:
        raise ConfigError("sandbox.state", f"the guest of {record.id} has ended")


def _end(container: Container, target: Container) -> None:
    """End a container by the end of `target`, its own or its guest's; return when nothing lives."""
    began = time.monotonic()
    while target.send(signal.SIGKILL) or container.is_alive() or container.has_machine():
        waited_seconds = time.monotonic() - began
        if waited_seconds > _OWN_END_SECONDS:  # its guest has ended, and it does not
            container.send(signal.SIGKILL)
        if waited_seconds > _MACHINE_SECONDS:
            container.kill_machine()
        if waited_seconds > _END_SECONDS:
            name = container.folder.name
            raise DeadlineError("container.runs", f"{name}: its machine has not ended")
        time.sleep(_RETRY_SECONDS)


def _write_down(container: Container, record: ContainerRecord, pid_file: Path | None) -> None:
    container.write(record)
    if pid_file is not None:
        write_whole(pid_file, str(record.pid).encode(), FILE_MODE)


def _give_oom_score(sandbox: Container, value: int) -> None:
    try:
        give_oom_score(sandbox, value)
    except OSError as error:
        say(f"the guest does not take the OOM score {value}: {error.strerror}")


def _not_running(name: str) -> ConfigError:
    return ConfigError("container.state", f"container not running: {name}")
