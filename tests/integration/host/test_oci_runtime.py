"""`ccinit-runtime` as an engine calls it, from `create` to `delete`, with real QEMU and signals.

Needs the tools tree (`CCINIT_TOOLS`, or build/tools). The machines run nothing; whole guests under
podman are `tests/vm/test_podman_guests.py`'s.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from host_runtime.oci_runtime.container_store import ContainerStore
from host_runtime.oci_runtime.pod_part import CONTAINER_NAME, CONTAINER_TYPE, SANDBOX_ID
from tests.fakes.documents.oci_bundles import (
    INITDATA,
    encode_annotation,
    make_document,
    podman_config,
)
from tests.integration.host.bare_engine import (
    DOCUMENT,
    Engine,
    children_of,
    end,
    is_running,
    network_of,
    qemu_of,
    reap,
)


def test_container_goes_through_its_states(engine: Engine) -> None:
    pid = engine.create("a")
    qemu = qemu_of(pid)
    assert network_of(qemu) != network_of("self")
    state = engine.state("a")
    assert (state["status"], state["pid"], state["id"]) == ("created", pid, "a")
    assert state["bundle"] == str(engine.folder / "bundle")
    assert engine.refused("delete", "a") == "container.state"
    assert engine.refused("create", "--bundle", str(engine.bundle()), "a") == "container.exists"
    assert qemu_of(pid) == qemu

    engine.done("start", "a")
    assert engine.state("a")["status"] == "running"
    assert engine.refused("start", "a") == "container.state"
    assert json.loads(engine.done("ps", "--format", "json", "a")) == [pid]
    assert engine.refused("kill", "a", "HUP") == "container.signal"
    engine.done("kill", "a", "TERM")  # of a guest that does not listen: it goes on
    engine.done("kill", "a", "0")
    assert engine.state("a")["status"] == "running"

    assert end(pid, lambda: engine.done("kill", "--all", "a", "9")) == -signal.SIGKILL
    state = engine.state("a")
    assert (state["status"], state["pid"]) == ("stopped", 0)
    assert engine.refused("kill", "a", "TERM") == "container.state"
    assert "container not running" in engine.said()
    assert json.loads(engine.done("ps", "--format", "json", "a")) == []
    engine.done("delete", "a")
    assert engine.refused("state", "a") == "container.unknown"
    assert list((engine.folder / "state").iterdir()) == []
    assert list((engine.folder / "sealed").iterdir()) == []  # it had nothing to say


def test_update_is_compared_with_what_was_created_not_with_what_the_bundle_says_by_now(
    engine: Engine,
) -> None:
    pid = engine.create("a")
    config = podman_config()
    words = ("update", "--resources", str(engine.folder / "resources"), "a")

    def ask() -> None:  # as podman does, which writes into the bundle what it asks for, too
        engine.bundle(config)
        (engine.folder / "resources").write_text(json.dumps(config["linux"]["resources"]))

    ask()
    engine.done(*words)
    config["linux"]["resources"]["cpu"] = {"quota": 100000}
    ask()
    assert engine.refused(*words) == "command.refused"
    assert end(pid, lambda: engine.done("delete", "-f", "a")) == -signal.SIGKILL


def test_forced_deletion_ends_the_machine(engine: Engine) -> None:
    pid = engine.create("a")
    assert end(pid, lambda: engine.done("delete", "--force", "a")) == -signal.SIGKILL
    assert list((engine.folder / "state").iterdir()) == []


def test_guest_that_does_not_boot_is_an_error_of_create_and_leaves_nothing(engine: Engine) -> None:
    (engine.folder / "kernel").unlink()
    words = ("create", "--bundle", str(engine.bundle()), "--pid-file", f"{engine.folder}/pid", "a")
    assert engine.refused(*words) == "boot.what"
    assert list((engine.folder / "state").iterdir()) == []
    assert not (engine.folder / "pid").exists()


def test_guest_whose_creation_was_killed_before_it_was_written_down_ends(engine: Engine) -> None:
    killed = (
        "import os; from host_runtime.oci_runtime import cli, lifecycle;"
        "lifecycle.ContainerRecord.with_process = lambda *_: os._exit(9); cli.main()"
    )
    before = children_of(os.getpid())
    assert engine.run("create", "--bundle", str(engine.bundle()), "a", program=("-c", killed)) == 9
    (orphan,) = set(children_of(os.getpid())) - set(before)
    assert reap(orphan) == 1
    assert "[create.ended]" in engine.said()
    assert engine.state("a")["status"] == "stopped"


def test_guest_that_ends_as_it_is_written_down_is_an_error_of_create(engine: Engine) -> None:
    ended = (
        "import os; from host_runtime.oci_runtime import cli, lifecycle;"
        "lifecycle._write_down = lambda _container, record, _file:"
        " (os.kill(record.pid, 9), os.waitid(os.P_PID, record.pid, os.WEXITED | os.WNOWAIT));"
        "raise SystemExit(cli.main())"
    )
    words = ("--log", f"{engine.folder}/log", "create", "--bundle", str(engine.bundle()), "a")
    assert engine.run(*words, program=("-c", ended)) == 1
    assert engine.said().endswith("[process.ended]\n")
    assert "[process.ended]" in (engine.folder / "log").read_text()
    assert list((engine.folder / "state").iterdir()) == []


def test_creation_that_fails_late_waits_for_the_end_of_its_machine(engine: Engine) -> None:
    """As deletion does: whoever tries again wants its disks and its vTPM."""
    failing = """
import os, signal, threading
from host_runtime.oci_runtime import cli, lifecycle
from tests.integration.host.test_oci_runtime import qemu_of
def write_down(_container, record, _file):
    qemu = qemu_of(record.pid)
    os.kill(qemu, signal.SIGSTOP)
    threading.Timer(1, os.kill, (qemu, signal.SIGCONT)).start()
    raise OSError(28, "no room")
lifecycle._write_down = write_down
raise SystemExit(cli.main())
"""
    words = ("create", "--bundle", str(engine.bundle()), "a")
    assert engine.run(*words, program=("-c", failing)) == 1
    assert engine.said().endswith("ccinit-runtime: no room\n")
    assert not any(is_running(child) for child in children_of(os.getpid()))
    assert list((engine.folder / "state").iterdir()) == []


def test_namespace_that_is_none_is_an_error_of_create(engine: Engine) -> None:
    config = podman_config(**{INITDATA: encode_annotation(make_document())})
    os.mkfifo(engine.folder / "pipe")  # nobody waits for a writer
    for path in ("/dev/null", "/run/netns/ccinit-none", f"{engine.folder}/pipe", "/etc/hostname"):
        config["linux"]["namespaces"] = [{"type": "network", "path": path}]
        assert engine.refused("create", "-b", str(engine.bundle(config)), "a") == "bundle.network"
        assert list((engine.folder / "state").iterdir()) == []


def test_namespace_of_the_engine_is_where_the_machine_runs(engine: Engine) -> None:
    with subprocess.Popen(("unshare", "--net", "sleep", "60")) as holder:
        inside = f"/proc/{holder.pid}/ns/net"
        while network_of(holder.pid) == network_of("self"):
            time.sleep(0.01)
        config = podman_config(**{INITDATA: encode_annotation(make_document())})
        config["linux"]["namespaces"] = [{"type": "network", "path": inside}]
        pid_file = engine.folder / "a.pid"
        bundle = str(engine.bundle(config))
        engine.done("create", "-b", bundle, "--pid-file", str(pid_file), "a")
        pid = int(pid_file.read_text())
        assert network_of(qemu_of(pid)) == network_of(holder.pid)
        holder.kill()
    assert end(pid, lambda: engine.done("delete", "-f", "a")) == -signal.SIGKILL


def test_oom_score_of_the_bundle_is_that_of_the_machine(engine: Engine) -> None:
    config = podman_config(**{INITDATA: DOCUMENT})
    config["linux"]["namespaces"] = []
    config["process"]["oomScoreAdj"] = 700
    pid_file = engine.folder / "a.pid"
    bundle = str(engine.bundle(config))
    engine.done("create", "-b", bundle, "--pid-file", str(pid_file), "a")
    pid = int(pid_file.read_text())
    for each in (pid, qemu_of(pid)):
        assert Path(f"/proc/{each}/oom_score_adj").read_text() == "700\n"
    assert end(pid, lambda: engine.done("delete", "-f", "a")) == -signal.SIGKILL


def test_process_with_the_pid_of_one_that_is_gone_is_not_touched(engine: Engine) -> None:
    """As after a crash of the host: the record is there, its pid is another's by now."""
    pid = engine.create("a")
    engine.done("start", "a")
    assert end(pid, lambda: os.kill(pid, signal.SIGKILL)) == -signal.SIGKILL
    store = ContainerStore(root=engine.folder / "state")
    with subprocess.Popen(("sleep", "60")) as other:
        with store.lock("a") as container:
            container.write(container.record().with_process(other.pid))
        assert engine.state("a")["status"] == "stopped"
        assert engine.refused("kill", "a", "KILL") == "container.state"
        engine.done("delete", "--force", "a")
        assert other.poll() is None
        other.kill()


def pod_bundle(engine: Engine, sandbox: str, member: str = "", oom: int | None = None) -> str:
    annotations = {
        INITDATA: DOCUMENT,
        CONTAINER_TYPE: "container" if member else "sandbox",
        SANDBOX_ID: sandbox,
    }
    if member:
        annotations[CONTAINER_NAME] = member
    config = podman_config(**annotations)
    config["linux"]["namespaces"] = [{"type": "network"}]
    if oom is not None:
        config["process"]["oomScoreAdj"] = oom
    return str(engine.bundle(config))


def create_part(
    engine: Engine, name: str, sandbox: str, member: str = "", oom: int | None = None
) -> int:
    """Create a part of a pod; return the id of its process."""
    pid_file = engine.folder / f"{name}.pid"
    bundle = pod_bundle(engine, sandbox, member, oom)
    engine.done("create", "--bundle", bundle, "--pid-file", str(pid_file), name)
    return int(pid_file.read_text())


def oom_scores_of_guest(guest: int) -> set[int]:
    """Of the host process that is a guest, and of its machine's."""
    pids = (guest, *children_of(guest))
    return {int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in pids}


def test_guest_of_a_pod_has_the_lowest_oom_score_of_its_containers(engine: Engine) -> None:
    """That of the sandbox is for a process that only waits, -998 of containerd's."""
    guest = create_part(engine, "s", "s", oom=400)
    assert oom_scores_of_guest(guest) == {400}
    waits = create_part(engine, "a", "s", "web", oom=700)
    assert oom_scores_of_guest(guest) == oom_scores_of_guest(waits) == {700}
    engine.done("kill", "a", "KILL")
    reap(waits)
    engine.done("delete", "a")
    waits = create_part(engine, "a", "s", "web", oom=900)
    assert oom_scores_of_guest(waits) == {900}
    assert oom_scores_of_guest(guest) == {700}
    assert end(guest, lambda: engine.done("kill", "s", "KILL")) == -signal.SIGKILL
    reap(waits)


def test_container_of_a_pod_is_its_guest_once_it_is_started(engine: Engine) -> None:
    guest = create_part(engine, "s", "s")
    engine.done("start", "s")
    before = create_part(engine, "a", "s", "web")
    engine.done("kill", "a", "KILL")  # it has stood for nothing yet
    assert reap(before) == -signal.SIGKILL
    assert engine.state("s")["status"] == "running"
    engine.done("delete", "a")

    member = create_part(engine, "a", "s", "web")
    engine.done("start", "a")
    assert engine.state("a")["status"] == "running"
    assert json.loads(engine.done("ps", "--format", "json", "a")) == [member]
    assert engine.refused("delete", "a") == "container.state"
    engine.done("kill", "a", "HUP")  # as its image may be stopped by: a wish, to the guest
    engine.done("kill", "a", "0")
    assert engine.state("a")["status"] == engine.state("s")["status"] == "running"

    assert end(guest, lambda: engine.done("kill", "a", "KILL")) == -signal.SIGKILL
    assert reap(member) == 128 + signal.SIGKILL
    assert engine.state("a")["status"] == engine.state("s")["status"] == "stopped"
    assert engine.refused("kill", "a", "TERM") == "container.state"
    engine.done("kill", "--all", "a", "KILL")
    engine.done("delete", "a")
    engine.done("delete", "s")


def test_forced_deletion_of_a_pods_container_ends_its_guest(engine: Engine) -> None:
    guest = create_part(engine, "s", "s")
    member = create_part(engine, "a", "s", "web")
    engine.done("start", "a")
    assert end(guest, lambda: engine.done("delete", "--force", "a")) == -signal.SIGKILL
    assert reap(member) == 128 + signal.SIGKILL
    assert engine.state("s")["status"] == "stopped"


@pytest.mark.parametrize("words", [("kill", "a", "KILL"), ("delete", "--force", "a")])
def test_process_that_hangs_after_the_end_of_its_guest_can_be_ended(
    words: Sequence[str], engine: Engine
) -> None:
    guest = create_part(engine, "s", "s")
    member = create_part(engine, "a", "s", "web")
    engine.done("start", "a")
    os.kill(member, signal.SIGSTOP)
    assert end(guest, lambda: os.kill(guest, signal.SIGKILL)) == -signal.SIGKILL
    assert engine.state("a")["status"] == "running"
    assert engine.refused("kill", "a", "TERM") == "container.state"
    engine.done(*words)
    assert reap(member) == -signal.SIGKILL


def test_container_beside_an_infra_container_that_is_a_guest_is_refused(engine: Engine) -> None:
    """As podman makes pods, whose infra container asks for no document and gets the default one."""
    infra = engine.create("infra")

    def bundle_in_pod_of(name: str) -> str:
        config = podman_config(**{INITDATA: DOCUMENT, "io.kubernetes.cri-o.SandboxID": name})
        config["linux"]["namespaces"] = [{"type": "network"}]
        return str(engine.bundle(config))

    assert engine.refused("create", "-b", bundle_in_pod_of("infra"), "a") == "bundle.kubernetes"
    pid_file = engine.folder / "b.pid"
    engine.done("create", "-b", bundle_in_pod_of("runcs"), "--pid-file", str(pid_file), "b")
    for name, pid in (("infra", infra), ("b", int(pid_file.read_text()))):
        assert end(pid, partial(engine.done, "delete", "-f", name)) == -signal.SIGKILL


def test_container_that_has_no_guest_is_refused(engine: Engine) -> None:
    def refused(sandbox: str) -> str:
        return engine.refused("create", "--bundle", pod_bundle(engine, sandbox, "web"), "a")

    assert refused("none") == "sandbox.state"
    assert refused("../s") == "container.id"
    guest = engine.create("g")  # of no pod
    assert refused("g") == "sandbox.state"
    sandbox = create_part(engine, "s", "s")
    member = create_part(engine, "b", "s", "web")
    assert refused("b") == "sandbox.state"
    assert refused("s") == "container.life"  # it is stood for
    assert end(sandbox, lambda: engine.done("kill", "s", "KILL")) == -signal.SIGKILL
    assert reap(member) == 128 + signal.SIGKILL
    assert refused("s") == "sandbox.state"
    assert engine.refused("create", "-b", pod_bundle(engine, "s"), "a") == "bundle.kubernetes"
    assert sorted(path.name for path in (engine.folder / "state").iterdir()) == ["b", "g", "s"]
    assert end(guest, lambda: engine.done("delete", "-f", "g")) == -signal.SIGKILL
