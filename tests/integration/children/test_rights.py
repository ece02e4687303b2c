"""What a child of PID 1 cannot do.

Needs root, for the change of user, and a kernel with Landlock (ABI 6) and seccomp.
"""

import os
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ccinit.agent.processes.child import OPEN_FILES
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.conversation import Answer
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.errors import ChildError
from ccinit.kernel.event_loop import EventLoop, sleep
from ccinit.unlock.filesystem import plan_mkfs
from tests.fakes.network.tls_server import TlsServer, make_authority, server_context
from tests.integration.children.harness import (
    SECONDS,
    look_at_child,
    needs_root,
    refused,
    run_order,
    status_of,
)
from tests.integration.children.program import Continue, Halt, Order, Outcome

pytestmark = needs_root

PAGE = os.sysconf("SC_PAGESIZE")


@pytest.fixture
def parent_with_more() -> Iterator[None]:
    """Let children inherit what they should not keep; where tests run, there may be none of it."""
    groups, mask = os.getgroups(), os.umask(0)
    core = resource.getrlimit(resource.RLIMIT_CORE)
    os.setgroups([4, 27])
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, core)
    os.setgroups(groups)
    os.umask(mask)


@pytest.mark.usefixtures("parent_with_more")
@pytest.mark.parametrize("role", [role for role in Role if not RIGHTS[role].is_program()])
def test_child_has_given_up_its_rights(children: Children, role: Role) -> None:
    rights = RIGHTS[role]
    kept = sum(1 << capability for capability in rights.capabilities)

    def look(pid: int) -> None:
        status = status_of(pid)
        assert status["Uid"].split() == [str(rights.uid)] * 4
        assert status["Gid"].split() == [str(rights.uid)] * 4
        assert status["Groups"].split() == []
        for name in ("CapPrm", "CapEff", "CapBnd", "CapInh"):
            assert int(status[name], 16) == kept, name
        assert int(status["CapAmb"], 16) == 0
        assert status["Umask"] == "0077"
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert Path(f"/proc/{pid}/mem").stat().st_uid == 0  # not dumpable
        limits = Path(f"/proc/{pid}/limits").read_text()
        for name, most in (("core file size", 0), ("open files", OPEN_FILES)):
            assert re.search(rf"^Max {name} +{most} +{most} ", limits, re.MULTILINE), name
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == f"{rights.oom_score}\n"
        assert str(Path(f"/proc/{pid}/fd/2").readlink()) == "/dev/null"

    look_at_child(children, role, look)


def test_memory_of_the_parent_is_not_in_the_child(children: Children) -> None:
    canary = os.urandom(32)  # held here, as PID 1 holds keys
    control = b"a positive control for the search"

    def look(pid: int) -> None:
        memory = read_memory(pid)
        assert control in memory
        assert canary not in memory

    async def answer(question: Halt) -> Answer:
        look(question.pid)
        return Answer(value=Continue())

    EventLoop().run(
        children.run(
            Role.CONFIG,
            Order(deed="halt", text=control.decode()),
            Outcome,
            seconds=SECONDS,
            answers={Halt: answer},
        )
    )
    assert canary in read_memory(os.getpid())


def read_memory(pid: int) -> bytes:
    """Return what it may write to, but for guards: from glibc 2.42 on a stack's is no mapping."""
    found = bytearray()
    with (
        Path(f"/proc/{pid}/maps").open() as maps,
        Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory,
    ):
        for line in maps:
            span, access, *_ = line.split()
            if access[:2] != "rw":
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            for address in range(start, end, PAGE):
                with suppress(OSError):
                    found += os.pread(memory.fileno(), PAGE, address)
    return bytes(found)


KILLED = "signal 31, a system call outside its set"


@pytest.mark.parametrize(
    ("deed", "text", "number"),
    [
        pytest.param("fork", "", 0, id="fork"),
        pytest.param("execute", "", 0, id="execve"),
        pytest.param("become_root", "", 0, id="setuid"),
        pytest.param("kill_init", "", 0, id="kill"),
        pytest.param("raw", "0 0 0 0 0", 165, id="mount"),
        pytest.param("raw", "16 1 0 0", 101, id="ptrace"),
        pytest.param("raw", "0 0 0", 250, id="keyctl"),
        pytest.param("raw", "268435456", 272, id="unshare"),
        pytest.param("raw", "0 0 0", 321, id="bpf"),
        pytest.param("raw", "1 0 0 0 0 0", 310, id="process_vm_readv"),
        pytest.param("raw", "0 0 0", 0x40000000, id="x32"),
    ],
)
@pytest.mark.parametrize("role", [Role.CONFIG, Role.NET, Role.REGISTRY])
def test_call_outside_the_set_kills(
    children: Children, role: Role, deed: str, text: str, number: int
) -> None:
    assert refused(children, deed, text, number, role) == f"child.ended: {role}: {KILLED}"


@pytest.mark.parametrize("is_itself", [True, False])
def test_signal_by_way_of_a_file_reaches_no_other_child(
    children: Children,
    is_itself: bool,  # noqa: FBT001
) -> None:
    """Connections of owners share a user id: they may, unless something else says no."""

    async def answer(_question: Halt) -> Answer:
        return Answer(value=Continue(number=5))

    async def main() -> tuple[Outcome, Outcome]:
        async with children.prepare(Role.OWNER, fds={}) as other:
            while status_of(other.pid)["Seccomp"] != "2":
                await sleep(0.02)
            order = Order(deed="signal_by_file", number=0 if is_itself else other.pid)
            outcome = await children.run(
                Role.OWNER, order, Outcome, seconds=SECONDS, answers={Halt: answer}
            )
            return outcome, await other.run(Order(deed="echo", text="a"), Outcome, seconds=SECONDS)

    if is_itself:
        with pytest.raises(ChildError, match="signal 9"):
            EventLoop().run(main())
    else:
        outcome, other = EventLoop().run(main())
        assert (outcome.number, other.text) == (5, "a")


@pytest.mark.parametrize("role", [role for role in Role if not RIGHTS[role].is_program()])
def test_fd_for_pid_1_kills(children: Children, role: Role) -> None:
    assert refused(children, "pass_fd", role=role) == f"child.ended: {role}: {KILLED}"


@pytest.mark.parametrize("role", [Role.KBS, Role.REGISTRY, Role.ENDORSE])
def test_socket_whose_close_takes_time_is_refused(children: Children, role: Role) -> None:
    """They can pass fds by the call that a resolver makes, and PID 1 has to close those."""
    failure = refused(children, "hold_back_its_close", role=role)
    assert failure.startswith("child.exception: PermissionError")


def test_socket_in_a_role_without_network_kills(children: Children) -> None:
    assert refused(children, "open_socket", number=socket.AF_INET).endswith(KILLED)


@pytest.mark.parametrize("domain", [socket.AF_UNIX, socket.AF_VSOCK, 38])
def test_socket_of_another_family_is_refused(children: Children, domain: int) -> None:
    assert run_order(children, "open_socket", number=2, role=Role.KBS).text == "open"
    assert "OSError" in refused(children, "open_socket", number=domain, role=Role.KBS)


def test_only_net_and_clients_speak_netlink(children: Children) -> None:
    assert run_order(children, "netlink", role=Role.NET).text == "bound"
    assert "OSError" in refused(children, "open_socket", number=2, role=Role.NET)


def test_netlink_child_is_refused_the_pidfd_that_asyncio_asks_for(children: Children) -> None:
    pidfd_open = 434  # its parent's own
    assert run_order(children, "raw", f"{os.getpid()} 0", pidfd_open, Role.NET).number == -1
    assert refused(children, "raw", "1 0", pidfd_open, Role.CONFIG).endswith(KILLED)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/proc/1/environ", "/proc/self/status", "/dev/zero"]
)
@pytest.mark.parametrize("role", [Role.CONFIG, Role.NET, Role.EVIDENCE, Role.KBS, Role.REGISTRY])
def test_open_of_a_file_is_refused(children: Children, role: Role, path: str) -> None:
    assert "PermissionError" in refused(children, "open_file", path, role=role)


def test_resolver_files_are_open_to_clients_of_the_network(children: Children) -> None:
    assert b"localhost" in run_order(children, "open_file", "/etc/hosts", role=Role.KBS).data


def test_listening_is_refused(children: Children) -> None:
    assert "PermissionError" in refused(children, "listen_tcp", role=Role.REGISTRY)


def test_new_executable_memory_is_refused(children: Children) -> None:
    assert "PermissionError" in refused(children, "executable_memory")


def test_memory_is_capped(children: Children) -> None:
    assert run_order(children, "swallow", number=100 << 20).number == 100 << 20
    assert "MemoryError" in refused(children, "swallow", number=600 << 20)


@contextmanager
def tls_server() -> Iterator[tuple[str, int]]:
    authority = make_authority()

    def reply(connection: socket.socket) -> None:
        connection.sendall(connection.recv(100)[::-1])

    with TlsServer(server_context(authority.issue()), reply) as server:
        yield authority.pem, server.port


def test_client_of_the_network_resolves_connects_and_speaks_tls(children: Children) -> None:
    with tls_server() as (authority, port):
        for role in (Role.KBS, Role.REGISTRY):
            assert run_order(children, "tls", authority, port, role).data == b"gnip"


def test_workspace_may_be_written_by_its_role(children: Children, workspace: Path) -> None:
    uid = RIGHTS[Role.INDEX].uid
    os.chown(workspace, uid, uid)
    path = workspace / "file"
    run_order(children, "write_file", str(path), role=Role.INDEX, workspace=str(workspace))
    assert path.read_bytes() == b"written"
    beside = Path(f"{workspace}-beside")
    with pytest.raises(ChildError, match="PermissionError"):
        run_order(children, "write_file", str(beside), role=Role.INDEX, workspace=str(workspace))
    assert not beside.exists()


def test_walker_reads_what_belongs_to_others_and_writes_nothing(
    children: Children, workspace: Path
) -> None:
    path = workspace / "file"
    path.write_bytes(b"private")
    path.chmod(0o600)
    outcome = run_order(children, "open_file", str(path), role=Role.TREE, workspace=str(workspace))
    assert outcome.data == b"private"
    for attempt, target in (("open_file", "/etc/shadow"), ("write_file", str(path))):
        with pytest.raises(ChildError, match="PermissionError"):
            run_order(children, attempt, target, role=Role.TREE, workspace=str(workspace))
    assert path.read_bytes() == b"private"


def test_workspace_for_a_role_without_one_is_refused(children: Children) -> None:
    with pytest.raises(ChildError) as error:
        run_order(children, "echo", workspace="/usr")
    assert error.value.reason == "child.workspace"


def format_file(children: Children, path: Path, workspace: Path) -> tuple[bool, str]:
    uid = RIGHTS[Role.FORMAT].uid
    os.chown(workspace, uid, uid)
    end = EventLoop().run(
        children.run_program(
            Role.FORMAT,
            plan_mkfs(str(path), path.stat().st_size, journal=False),
            seconds=SECONDS,
            workspace=str(workspace),
        )
    )
    return end.status.is_success(), end.output


@pytest.fixture
def image(workspace: Path) -> Path:
    path = workspace / "image"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    return path


def test_program_works_on_its_workspace_and_on_nothing_else(
    children: Children, image: Path
) -> None:
    good, output = format_file(children, image, image)
    assert good, output
    assert image.read_bytes()[1080:1082] == b"\x53\xef"  # ext4's magic
    other = image.with_suffix(".other")
    other.write_bytes(bytes(64 << 20))
    other.chmod(0o666)
    good, _output = format_file(children, other, image)
    assert not good
    assert not any(other.read_bytes())
