"""The child's side: give up rights, read the job, do it, send the result.

It starts as root in a fresh interpreter, and becomes a user with only its role's rights:

    1. load the role's code, while files can still be read;
    2. resource limits, only the row's capabilities, own user id, no_new_privs, not dumpable;
    3. Landlock: the row's paths, and the job's workspace if the row has one;
    4. seccomp: the row's system calls.

Only then does it read the job. Standard fds stay /dev/null, errors travel as frames, and tracebacks
are never written anywhere. A role whose job is a program becomes that program, under the same
rights.
"""

import gc
import os
import resource
import socket
import sys
from collections.abc import Callable, Mapping, Sequence

from ccinit.agent.processes.channel import (
    CHANNEL_FD,
    FIRST_JOB_FD,
    MAX_FDS,
    REQUEST_BYTES,
    FrameReader,
    Kind,
    ProgramRequest,
    describe_error,
    encode_frame,
    encode_named,
)
from ccinit.agent.processes.roles import RIGHTS, Rights, Role, Workspace
from ccinit.annotations import Never, TypeVar
from ccinit.errors import ChildError
from ccinit.formats.encoding import wire
from ccinit.kernel.credentials import drop_privileges, enter_empty_root
from ccinit.kernel.landlock import READ, WRITE, Access, restrict
from ccinit.kernel.resource_limits import set_limit, write_oom_score
from ccinit.kernel.seccomp import load_filter, plan_filter
from ccinit.secret import Secret

A = TypeVar("A")

CHUNK_BYTES = 1 << 16
_JSON_FORMATS = "ccinit.formats.encoding.strict_json"
DYNAMIC_LOADER = "/lib64/ld-linux-x86-64.so.2"
OPEN_FILES = 256
SECRET_BYTES = 1 << 16
SUCCESS, FAILURE = 0, 1


class JobChannel:
    """A job's connection to the outside.

    Attributes:
        fds: the fds that PID 1 passed, by name.
        workspace: the path that the job may read or write, or empty.
    """

    def __init__(self, connection: socket.socket, fds: Mapping[str, int], workspace: str) -> None:
        self.fds = fds
        self.workspace = workspace
        self._connection = connection
        self._reader = FrameReader(REQUEST_BYTES)
        self._frames: list[tuple[Kind, bytes]] = []
        self._received_fds: list[int] = []

    def ask(self, question: object, answer: type[A]) -> A:
        """Ask PID 1 a question and wait for the answer."""
        value, _no_fds = self.ask_for_fds(question, answer)
        return value

    def ask_for_fds(
        self,
        question: object,
        answer: type[A],
        wait_for: Callable[[int], None] = lambda _fd: None,
    ) -> tuple[A, tuple[int, ...]]:
        """Ask a question whose answer comes with fds, which the caller has to close.

        `wait_for` can do something else until the fd that it is given is readable.
        """
        self._connection.sendall(encode_named(Kind.QUESTION, question))
        wait_for(self._connection.fileno())
        value = wire.decode(answer, self.receive(Kind.ANSWER))
        fds, self._received_fds = tuple(self._received_fds), []
        return value, fds

    def notify(self, notice: object) -> None:
        """Tell PID 1 something (progress, say) that needs no answer."""
        self._connection.sendall(encode_named(Kind.NOTICE, notice))

    def read_secret(self, name: str) -> Secret:
        """Read the secret that PID 1 put in the pipe `name`; it can be read once."""
        content = bytearray()
        fd = self.fds[name]
        while chunk := os.read(fd, SECRET_BYTES):
            content += chunk
        os.close(fd)
        secret = Secret(content)
        content[:] = bytes(len(content))
        return secret

    def receive(self, kind: Kind) -> bytes:
        """Wait for the next frame, which must be of `kind`; return its payload."""
        while not self._frames:
            data, fds, _flags, _address = socket.recv_fds(self._connection, CHUNK_BYTES, MAX_FDS)
            self._received_fds += fds
            if not data:
                raise ChildError("child.orphaned", "the channel was closed")
            self._frames += self._reader.feed(data)
        found, payload = self._frames.pop(0)
        if found is not kind:
            raise ChildError("child.protocol", f"expected {kind.name}, found {found.name}")
        return payload

    def end(self, kind: Kind, value: object) -> None:
        """Send the last frame."""
        self._connection.sendall(encode_frame(kind, value))


def main(arguments: Sequence[str], table: Mapping[Role, Rights] = RIGHTS) -> Never:
    """Be the child `ROLE WORKSPACE [NAME…]`, with the named fds from 4 on; never returns."""
    status = FAILURE
    try:
        role, workspace, *names = arguments
        fds = {name: FIRST_JOB_FD + index for index, name in enumerate(names)}
        channel = JobChannel(socket.socket(fileno=CHANNEL_FD), fds, workspace)
        status = run(table[Role(role)], channel)
    finally:
        os._exit(status)  # nothing to flush, and no exit handlers to run


def run(rights: Rights, channel: JobChannel) -> int:
    """Do one job; return the exit code."""
    try:
        if rights.is_program():
            become_program(rights, channel)
        job, request_type = load_code(rights)
        give_up_rights(rights, channel.workspace)
        request = wire.decode(request_type, channel.receive(Kind.REQUEST))
        channel.end(Kind.RESULT, job(request, channel))
    except Exception as error:  # noqa: BLE001  # the process boundary: every error becomes a frame
        channel.end(Kind.FAILURE, describe_error(error))
        return FAILURE
    return SUCCESS


def load_code(rights: Rights) -> tuple[Callable[[object, JobChannel], object], type[object]]:
    """Import all that a role needs; return its job with the type of its request.

    Importing leaves no garbage, yet looking for some takes a tenth of the larger roles' loading
    time. So the collector is off meanwhile, and ignores the modules' objects afterwards.
    """
    gc.disable()
    for module in rights.without:
        sys.modules[module] = None  # type: ignore[assignment]  # makes its import fail
    for module in rights.preload:
        __import__(module)
    job = load_job(rights.job)
    if _JSON_FORMATS in sys.modules:
        __import__("json")  # PID 1 goes without it
    gc.freeze()
    gc.enable()
    return job


def load_job(name: str) -> tuple[Callable[[object, JobChannel], object], type[object]]:
    """Import `module:function`; return it with the type of its request.

    The request's type is the annotation of the function's first parameter.
    """
    module_name, _, function_name = name.partition(":")
    __import__(module_name)
    function = getattr(sys.modules[module_name], function_name)
    request_type = next(iter(function.__annotations__.values()))
    if not isinstance(request_type, type):
        raise TypeError(f"{name}: the first parameter is not annotated with a class")
    return function, request_type


def give_up_rights(rights: Rights, workspace: str) -> None:
    """Take steps 2 to 4 of the module's list.

    Raises:
        CcinitError: the kernel refused one; the child must end.
    """
    if bool(workspace) != (rights.workspace is not Workspace.NONE):
        raise ChildError("child.workspace", "given to a role without one, or not given")
    os.umask(0o077)
    write_oom_score(rights.oom_score)
    set_limit(resource.RLIMIT_CORE, 0)  # a core file would be a copy of the keys
    set_limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    set_limit(resource.RLIMIT_AS, rights.memory_bytes)
    if rights.own_processes:
        enter_empty_root()
    drop_privileges(rights.uid, rights.capabilities)
    paths = dict.fromkeys(rights.read, READ)
    if program := rights.job if rights.is_program() else rights.may_start:
        paths |= dict.fromkeys((program, DYNAMIC_LOADER), READ | Access.EXECUTE)
    if workspace:
        paths[workspace] = WRITE if rights.workspace is Workspace.WRITE else READ
    restrict(paths, connect=rights.connect)
    load_filter(plan_filter(rights.syscalls))


def become_program(rights: Rights, channel: JobChannel) -> Never:
    """Replace this interpreter by the role's program, with the arguments of the request.

    A successful exec closes the channel.
    """
    os.set_inheritable(CHANNEL_FD, False)  # noqa: FBT003 (positional only)
    give_up_rights(rights, channel.workspace)
    request = wire.decode(ProgramRequest, channel.receive(Kind.REQUEST))
    os.execve(rights.job, (rights.job, *request.arguments), {})
