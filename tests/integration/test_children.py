"""Children of PID 1, for real: what they can do, what they cannot, and how they end.

Needs root, for the change of user, and a kernel with Landlock (ABI 6) and seccomp.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ccinit.agent.children import Answer, Children
from ccinit.agent.roles import RIGHTS, Role, Workspace
from ccinit.errors import (
    CcinitError,
    ChildError,
    DeadlineError,
    KernelError,
    VerificationError,
)
from ccinit.kernel.event_loop import EventLoop, TaskGroup, sleep
from ccinit.kernel.process import owned_pids
from ccinit.secret import Secret
from ccinit.unlock.filesystem import plan_mkfs
from tests.fakes.tls_server import TlsServer, make_authority, server_context
from tests.integration.child_program import (
    TABLE,
    Continue,
    Halt,
    Order,
    Outcome,
    Step,
)

ROOT = Path(__file__).parents[2]
SECONDS = 30.0

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give it up")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever a test's child did: no process and no fd of it stays."""
    before = count_fds()
    yield
    assert owned_pids() == ()
    assert count_fds() == before


def count_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def children() -> Children:
    return Children(
        (sys.executable, "-m", "tests.integration.child_program"),
        {"PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path)))},
        table=TABLE,
    )


def run_order(
    children: Children,
    deed: str,
    text: str = "",
    number: int = 0,
    role: Role = Role.CONFIG,
    workspace: str = "",
) -> Outcome:
    order = Order(deed=deed, text=text, number=number)
    workspace = workspace or no_workspace(role)
    return EventLoop().run(children.run(role, order, Outcome, seconds=SECONDS, workspace=workspace))


def no_workspace(role: Role) -> str:
    """A path that grants nothing, for roles that must have one."""
    return "" if RIGHTS[role].workspace is Workspace.NONE else "/nonexistent"


def refused(
    children: Children, deed: str, text: str = "", number: int = 0, role: Role = Role.CONFIG
) -> str:
    """Return how the attempt failed; the same role must be able to do an honest job."""
    assert run_order(children, "echo", "hello", role=role).text == "hello"
    with pytest.raises(CcinitError) as error:
        run_order(children, deed, text, number, role)
    return str(error.value)


def status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines())


def look_at_child(children: Children, role: Role, look: Callable[[int], None]) -> Outcome:
    async def answer(question: Halt) -> Answer:
        look(question.pid)
        return Answer(value=Continue(number=5))

    job = children.run(
        role,
        Order(deed="halt"),
        Outcome,
        seconds=SECONDS,
        answers={Halt: answer},
        workspace=no_workspace(role),
    )
    return EventLoop().run(job)


# What a job gets and gives


def test_job_returns_its_result(children: Children) -> None:
    outcome = run_order(children, "echo", "hello", 7)
    assert outcome == Outcome(text="hello", number=7)


def test_large_request_and_result_pass_whole(children: Children) -> None:
    assert len(run_order(children, "echo", "x" * 3_000_000).text) == 3_000_000


def test_result_above_the_cap_is_refused(children: Children) -> None:
    assert len(run_order(children, "grow", number=(4 << 20) - 64).data) == (4 << 20) - 64
    with pytest.raises(ChildError) as error:
        run_order(children, "grow", number=4 << 20)
    assert error.value.reason == "child.protocol"


def test_question_is_answered_by_its_handler(children: Children) -> None:
    assert look_at_child(children, Role.CONFIG, lambda _: None).number == 5


def test_handlers_failure_ends_the_job_and_is_raised(children: Children) -> None:
    def look(_: int) -> None:
        raise VerificationError("pull.policy", "no")

    with pytest.raises(VerificationError) as error:
        look_at_child(children, Role.CONFIG, look)
    assert error.value.reason == "pull.policy"


def test_question_that_nobody_answers_is_refused(children: Children) -> None:
    assert refused(children, "halt").startswith("child.protocol")


def test_notices_arrive_in_order(children: Children) -> None:
    heard: list[int] = []
    outcome = EventLoop().run(
        children.run(
            Role.CONFIG,
            Order(deed="count", number=50),
            Outcome,
            seconds=SECONDS,
            notices={Step: lambda step: heard.append(step.number)},
        )
    )
    assert outcome.number == 50
    assert heard == list(range(50))


def test_answer_can_carry_an_fd(children: Children, tmp_path: Path) -> None:
    path = tmp_path / "out"

    async def answer(_question: Halt) -> Answer:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        return Answer(value=Continue(), fds=(fd,))

    EventLoop().run(
        children.run(
            Role.CONFIG,
            Order(deed="write_given_fd", text="written"),
            Outcome,
            seconds=SECONDS,
            answers={Halt: answer},
        )
    )
    assert path.read_text() == "written"


def test_fd_from_a_child_is_dropped(children: Children) -> None:
    assert run_order(children, "pass_fd").text == "with fd"


def test_secret_reaches_the_job_by_pipe(children: Children) -> None:
    with Secret(b"0123456789") as secret:
        outcome = EventLoop().run(
            children.run(
                Role.CONFIG,
                Order(deed="read_secret"),
                Outcome,
                seconds=SECONDS,
                secrets={"key": secret},
            )
        )
    assert outcome.data == b"9876543210"


def test_jobs_own_garbage_is_collected_and_its_modules_are_left_alone(children: Children) -> None:
    outcome = run_order(children, "leave_garbage")
    assert (outcome.text, outcome.number >= 1) == ("True", True)
    assert len(outcome.data) > 1000


def test_child_has_exactly_the_listed_fds(children: Children) -> None:
    stray = os.dup(0)
    os.set_inheritable(stray, True)  # noqa: FBT003
    # even one that is not close-on-exec
    given = os.open("/dev/null", os.O_RDONLY)
    try:
        outcome = EventLoop().run(
            children.run(
                Role.CONFIG,
                Order(deed="list_fds"),
                Outcome,
                seconds=SECONDS,
                fds={"given": given},
            )
        )
    finally:
        os.close(given)
        os.close(stray)
    assert outcome == Outcome(text="0 1 2 3 4", number=4)


# What a child cannot do


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
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert Path(f"/proc/{pid}/mem").stat().st_uid == 0  # not dumpable
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        core = next(line for line in limits if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "500\n"
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
            memory.seek(start)
            found += memory.read(end - start)
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


def test_socket_in_a_role_without_network_kills(children: Children) -> None:
    assert refused(children, "open_socket", number=socket.AF_INET).endswith(KILLED)


@pytest.mark.parametrize("domain", [socket.AF_UNIX, socket.AF_VSOCK, 38])
def test_socket_of_another_family_is_refused(children: Children, domain: int) -> None:
    assert run_order(children, "open_socket", number=2, role=Role.KBS).text == "open"
    assert "OSError" in refused(children, "open_socket", number=domain, role=Role.KBS)


def test_only_net_and_clients_speak_netlink(children: Children) -> None:
    assert run_order(children, "netlink", role=Role.NET).text == "bound"
    assert "OSError" in refused(children, "open_socket", number=2, role=Role.NET)


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


@pytest.fixture
def workspace() -> Iterator[Path]:
    """A directory below directories that everybody may enter (pytest's own are private)."""
    with TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_workspace_may_be_written_by_its_role(children: Children, workspace: Path) -> None:
    uid = RIGHTS[Role.LAYERS].uid
    os.chown(workspace, uid, uid)
    path = workspace / "file"
    run_order(children, "write_file", str(path), role=Role.LAYERS, workspace=str(workspace))
    assert path.read_bytes() == b"written"
    beside = Path(f"{workspace}-beside")
    with pytest.raises(ChildError, match="PermissionError"):
        run_order(children, "write_file", str(beside), role=Role.LAYERS, workspace=str(workspace))
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


# How a child ends


@pytest.mark.parametrize(
    ("deed", "text", "number", "family", "message"),
    [
        pytest.param("refuse", "why", 0, VerificationError, "pull.digest: why", id="refuses"),
        pytest.param(
            "refuse_by_kernel", "", 0, KernelError, "kernel.dm: volume: errno 5", id="kernel error"
        ),
        pytest.param("end", "", 3, ChildError, "child.ended: config: exit code 3", id="exits"),
        pytest.param("end", "", 0, ChildError, "child.ended: config: exit code 0", id="leaves"),
        pytest.param("crash", "", 0, ChildError, "child.ended: config: signal 11", id="crashes"),
    ],
)
def test_failure_is_told_by_family_reason_and_detail(
    children: Children, deed: str, text: str, number: int, family: type, message: str
) -> None:
    with pytest.raises(CcinitError) as error:
        run_order(children, deed, text, number)
    assert type(error.value) is family
    assert str(error.value) == message


def test_stray_exception_is_told_without_its_text(children: Children) -> None:
    with pytest.raises(ChildError) as error:
        run_order(children, "stumble")
    assert error.value.reason == "child.exception"
    assert error.value.detail.startswith("ValueError at ")
    assert "secret" not in error.value.detail


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("00000000", id="empty frame"),
        pytest.param("ffffffff05", id="endless frame"),
        pytest.param("0000000109", id="unknown kind"),
        pytest.param("0000000101", id="a request"),
        pytest.param("0000000405c1c1c1", id="no MessagePack"),
        pytest.param("00000002 0690", id="failure of another shape"),
    ],
)
def test_garbage_is_a_protocol_error(children: Children, raw: str) -> None:
    assert refused(children, "babble", raw.replace(" ", "")).startswith("child.protocol")


def test_result_of_another_type_is_a_protocol_error(children: Children) -> None:
    assert refused(children, "wrong_type").startswith("child.protocol")


def test_flood_is_cut_off(children: Children) -> None:
    heard: list[int] = []
    job = children.run(
        Role.CONFIG,
        Order(deed="flood"),
        Outcome,
        seconds=SECONDS,
        notices={Step: lambda step: heard.append(step.number)},
    )
    with pytest.raises(ChildError) as error:
        EventLoop().run(job)
    assert str(error.value) == "child.protocol: too many messages"
    assert len(heard) == TABLE[Role.CONFIG].messages


def test_hanging_child_is_killed_at_its_deadline(children: Children) -> None:
    with pytest.raises(DeadlineError) as error:
        EventLoop().run(children.run(Role.CONFIG, Order(deed="hang"), Outcome, seconds=0.5))
    assert error.value.reason == "child.late"


def test_child_that_closes_its_channel_and_stays_is_killed(children: Children) -> None:
    assert refused(children, "close_channel") == "child.ended: config: silent, but still running"


def test_cancelled_job_leaves_no_child(children: Children) -> None:
    loop = EventLoop()

    async def main() -> None:
        job = children.run(Role.CONFIG, Order(deed="hang"), Outcome, seconds=SECONDS)
        task = loop.start(job, "job")
        await sleep(0.3)
        assert len(owned_pids()) == 1
        await task.stop()

    loop.run(main())


def test_prepared_child_waits_without_rights_and_does_one_job(children: Children) -> None:
    async def job() -> Outcome:
        async with children.prepare(Role.CONFIG, fds={}) as prepared:
            (pid,) = owned_pids()
            while status_of(pid)["Seccomp"] != "2":
                await sleep(0.02)
            assert not prepared.is_used
            outcome = await prepared.run(Order(deed="echo", text="a"), Outcome, seconds=SECONDS)
            assert prepared.is_used
            with pytest.raises(RuntimeError):
                await prepared.run(Order(deed="echo", text="b"), Outcome, seconds=SECONDS)
            return outcome

    assert EventLoop().run(job()).text == "a"


def test_prepared_child_that_is_never_asked_ends_with_its_block(children: Children) -> None:
    async def job() -> int:
        async with children.prepare(Role.CONFIG, fds={}):
            return len(owned_pids())

    assert EventLoop().run(job()) == 1


def test_prepared_child_that_hangs_is_ended_at_the_jobs_deadline(children: Children) -> None:
    async def job() -> None:
        async with children.prepare(Role.CONFIG, fds={}) as prepared:
            await prepared.run(Order(deed="hang"), Outcome, seconds=0.2)

    with pytest.raises(DeadlineError) as error:
        EventLoop().run(job())
    assert error.value.reason == "child.late"


def test_storm_of_failing_children_all_report(children: Children) -> None:
    """R78: no exit status is lost or taken for another's."""
    many, at_once = 120, 8

    async def one(number: int, seen: list[str]) -> None:
        order = Order(deed="end", number=number % 100 + 1)
        try:
            await children.run(Role.CONFIG, order, Outcome, seconds=120)
        except ChildError as error:
            seen.append(f"{number}: {error.detail}")

    async def main() -> list[str]:
        seen: list[str] = []
        for start in range(0, many, at_once):
            async with TaskGroup() as group:
                for number in range(start, start + at_once):
                    group.start(one(number, seen), "child")
        return seen

    expected = {f"{number}: config: exit code {number % 100 + 1}" for number in range(many)}
    assert set(EventLoop().run(main())) == expected


# Programs


def format_file(path: Path, workspace: Path) -> tuple[bool, str]:
    children = Children(
        (sys.executable, "-m", "tests.integration.child_program"),
        {"PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path)))},
        table=TABLE,
    )
    uid = RIGHTS[Role.FORMAT].uid
    os.chown(workspace, uid, uid)
    end = EventLoop().run(
        children.run_program(
            Role.FORMAT,
            plan_mkfs(str(path), journal=False),
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


def test_program_works_on_its_workspace_and_on_nothing_else(image: Path) -> None:
    good, output = format_file(image, image)
    assert good, output
    assert image.read_bytes()[1080:1082] == b"\x53\xef"  # ext4's magic
    other = image.with_suffix(".other")
    other.write_bytes(bytes(64 << 20))
    other.chmod(0o666)
    good, _output = format_file(other, image)
    assert not good
    assert not any(other.read_bytes())
