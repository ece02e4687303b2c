"""The children of PID 1 on the guest's kernel: what is in their memory, and what they may do.

Each role's own child is looked at where it counts: its code is loaded, its rights are gone, and it
waits for a request. What a child can still do with its rights is `tests/integration`'s.
"""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccinit.agent.host_service import HostService
from ccinit.agent.jobs.messages.evidence import EvidenceReply, EvidenceRequest
from ccinit.agent.jobs.messages.measurement import BindReply, BindRequest
from ccinit.agent.processes import running_child
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.conversation import Conversation
from ccinit.agent.processes.roles import RIGHTS, Rights, Role, Workspace
from ccinit.agent.processes.running_child import PROCESSES
from ccinit.agent.state import BootState
from ccinit.errors import ChildError
from ccinit.formats.encoding.strict_json import parse_json
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.evidence.tpm import parse_tpm_evidence
from ccinit.formats.planes.host_rpc import HOST_CID, PORT, Phase
from ccinit.formats.planes.msgpack_rpc import encode_request
from ccinit.formats.tcg.tpm2 import parse_tpms_attest
from ccinit.kernel import vsock
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.event_loop import EventLoop, sleep
from ccinit.rpc import server
from ccinit.rpc.server import RpcLimits, serve
from ccinit.seal.ring import SealedRing
from tests.fakes.machine.owned import owned_pids
from tests.vm.guest.child_program import TABLE, Appetite

MIB = 1 << 20
SECONDS = 60.0
CID_LOCAL = 1
PYTHON = "/usr/bin/python3.13"
SECCOMP_FILTER = "2"
DOCUMENT = b"a document"
REPORT_DATA = bytes(range(64))
_PIECE_BYTES = 4 * MIB


class LookedAtError(Exception):
    """Ends a job that was only to be looked at."""


@pytest.fixture
def parent_cgroup() -> Iterator[Cgroup]:
    root = Cgroup()
    root.enable(("memory", "pids"))
    group = root.create("test-children")
    group.enable(("memory", "pids"))
    yield group
    group.remove()


def make_children(cgroup: Cgroup, program: str = "ccinit") -> Children:
    environment = {"PYTHONPATH": f"/src:/site:{Path(__file__).with_name('replaced')}"}
    table = RIGHTS if program == "ccinit" else TABLE
    return Children((PYTHON, "-m", program), environment, cgroup, table)


def status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines())


def look_at(
    monkeypatch: pytest.MonkeyPatch, cgroup: Cgroup, role: Role, look: Callable[[int], None]
) -> None:
    """Start the real child of `role`; look at it when it waits for its request; end it."""

    class Watched(Conversation[object]):
        async def hold(self, request: object) -> object:
            (pid,) = owned_pids()
            deadline = time.monotonic() + SECONDS
            while status_of(pid)["Seccomp"] != SECCOMP_FILTER:
                assert time.monotonic() < deadline
                if status_of(pid)["State"].startswith("Z"):
                    return await super().hold(request)  # it has said why
                await sleep(0.05)
            look(pid)
            raise LookedAtError

    monkeypatch.setattr(running_child, "Conversation", Watched)
    workspace = "" if RIGHTS[role].workspace is Workspace.NONE else "/nonexistent"
    job = make_children(cgroup).run(role, None, object, seconds=2 * SECONDS, workspace=workspace)
    with pytest.raises(LookedAtError):
        EventLoop().run(job)


def memory_holds(pid: int, needle: bytes) -> bool:
    """Whether a process has `needle` anywhere in its memory; root may read all of it."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        return any(area_holds(memory.fileno(), line, needle) for line in maps)


def area_holds(fd: int, line: str, needle: bytes) -> bool:
    addresses, mode = line.split()[:2]
    if "r" not in mode or line.endswith(("[vvar]", "[vvar_vclock]", "[vsyscall]")):
        return False
    start, end = (int(text, 16) for text in addresses.split("-"))
    rest = b""
    for offset in range(start, end, _PIECE_BYTES):
        try:
            piece = rest + os.pread(fd, min(_PIECE_BYTES, end - offset), offset)
        except OSError:  # a page behind the end of its file
            return False
        if needle in piece:
            return True
        rest = piece[-len(needle) :]
    return False


# What is in their memory, and what they may


@pytest.fixture(scope="module")
def canary() -> bytes:
    """A key in this process's memory, as PID 1 has keys while its children work."""
    return os.urandom(32)


def test_key_is_found_where_it_is(canary: bytes) -> None:
    """Positive control: in this process, and in a child that is a bare fork of it."""
    assert memory_holds(os.getpid(), canary)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.read(reader, 1)
        os._exit(0)
    try:
        assert memory_holds(pid, canary)
    finally:
        os.write(writer, b"x")
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("role", list(Role))
def test_child_has_the_rights_of_its_row_and_no_key_of_its_parent(
    monkeypatch: pytest.MonkeyPatch, parent_cgroup: Cgroup, role: Role, canary: bytes
) -> None:
    seen: list[int] = []

    def look(pid: int) -> None:
        assert not memory_holds(pid, canary)
        # The search does see this process: its own name is in it.
        assert memory_holds(pid, b"ccinit.agent.processes.child")
        check_rights(pid, RIGHTS[role])
        check_cgroup(parent_cgroup, pid, RIGHTS[role])
        seen.append(pid)

    look_at(monkeypatch, parent_cgroup, role, look)
    assert len(seen) == 1


def check_rights(pid: int, rights: Rights) -> None:
    status = status_of(pid)
    uid = str(rights.uid)
    assert status["Uid"].split() == [uid] * 4
    assert status["Gid"].split() == [uid] * 4
    assert status["Groups"].split() == []
    assert status["NoNewPrivs"] == "1"
    mask = sum(1 << capability for capability in rights.capabilities)
    sets = {name: int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert sets == {"CapPrm": mask, "CapEff": mask, "CapBnd": mask, "CapAmb": 0}
    fds = {path.name: str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
    assert {fds.pop(number) for number in ("0", "1", "2")} == {"/dev/null"}
    assert [target.split(":")[0] for target in fds.values()] == ["socket"]
    assert f"Max address space         {rights.memory_bytes}" in limits_of(pid)


def limits_of(pid: int) -> str:
    return Path(f"/proc/{pid}/limits").read_text()


def check_cgroup(parent: Cgroup, pid: int, rights: Rights) -> None:
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::/test-children/child-{pid}\n"
    group = Path(parent.path, f"child-{pid}")
    assert int((group / "memory.max").read_text()) == rights.memory_bytes
    assert int((group / "pids.max").read_text()) == PROCESSES


class TightCgroup(Cgroup):
    """Gives every child an eighth of what its row says, below the limit of its address space."""

    def set_memory(self, *, max_bytes: int | None = None, min_bytes: int = 0) -> None:
        assert max_bytes is not None
        super().set_memory(max_bytes=max_bytes // 8, min_bytes=min_bytes)


def test_child_above_its_cgroups_memory_is_ended_and_named(parent_cgroup: Cgroup) -> None:
    loose = make_children(parent_cgroup, "tests.vm.guest.child_program")
    tight = make_children(TightCgroup(parent_cgroup.path), "tests.vm.guest.child_program")
    order = Appetite(size_bytes=128 * MIB)
    assert RIGHTS[Role.CONFIG].memory_bytes // 8 < order.size_bytes
    assert EventLoop().run(loose.run(Role.CONFIG, order, Appetite, seconds=SECONDS)) == order
    with pytest.raises(ChildError) as error:
        EventLoop().run(tight.run(Role.CONFIG, order, Appetite, seconds=SECONDS))
    assert str(error.value) == "child.ended: config: signal 9, out of memory"


# The TPM


def test_evidence_child_quotes_what_the_measure_child_bound(parent_cgroup: Cgroup) -> None:
    children = make_children(parent_cgroup)
    device = os.open("/dev/tpmrm0", os.O_RDWR | os.O_CLOEXEC)
    try:
        digest = hashlib.sha256(DOCUMENT).digest()
        bound = EventLoop().run(
            children.run(
                Role.MEASURE,
                BindRequest(tee=Tee.TPM, digest=digest),
                BindReply,
                seconds=SECONDS,
                fds={"tpm": device},
            )
        )
        reply = EventLoop().run(
            children.run(
                Role.EVIDENCE,
                EvidenceRequest(tee=Tee.TPM, report_data=REPORT_DATA),
                EvidenceReply,
                seconds=SECONDS,
                fds={"tpm": device},
            )
        )
    finally:
        os.close(device)
    assert bound.tee is Tee.TPM
    evidence = parse_tpm_evidence(parse_json(reply.evidence, "evidence", len(reply.evidence)))
    assert evidence.pcrs[8] == hashlib.sha256(bytes(32) + digest).digest()
    attested = parse_tpms_attest(evidence.message)
    assert attested.extra_data == REPORT_DATA
    assert attested.pcr_digest == hashlib.sha256(b"".join(evidence.pcrs)).digest()


# Who may speak to the host plane


def ask_over_loopback() -> bytes:
    """Ask from inside the guest: CID 1, as a container would; return what comes back."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as client:
        client.settimeout(SECONDS)
        client.connect((CID_LOCAL, PORT))
        try:
            client.sendall(encode_request(1, "hello", (1,)))
            return client.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            return b""


def serve_one_client() -> bytes:
    answers: list[bytes] = []
    client = threading.Thread(target=lambda: answers.append(ask_over_loopback()), daemon=True)
    state = BootState()
    state.enter(Phase.LISTEN)
    service = HostService(state, bytes(16), SealedRing(MIB))
    loop = EventLoop()

    async def main() -> None:
        listener = vsock.listen(PORT)
        with listener:
            task = loop.start(serve(lambda: vsock.accept(listener), service, RpcLimits()), "rpc")
            client.start()
            deadline = time.monotonic() + SECONDS
            while client.is_alive() and time.monotonic() < deadline:
                await sleep(0.05)
            await task.stop()

    loop.run(main())
    client.join(SECONDS)
    (answer,) = answers
    return answer


def test_r85_peer_inside_the_guest_is_closed_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workload that reaches AF_VSOCK is not the host."""
    assert HOST_CID != CID_LOCAL
    assert serve_one_client() == b""
    monkeypatch.setattr(server, "HOST_CID", CID_LOCAL)
    assert len(serve_one_client()) == 64
