"""The table of rights, held against what must hold for every row."""

import ast
import os
from pathlib import Path

import pytest

from ccinit import formats
from ccinit.agent.processes.channel import FIRST_JOB_FD
from ccinit.agent.processes.child import OPEN_FILES
from ccinit.agent.processes.roles import FIRST_UID, RIGHTS, Role, Workspace
from ccinit.agent.processes.syscall_sets import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    FD_IOCTL_NUMBERS,
    FS_IOC_FIEMAP,
    SNP_GET_EXT_REPORT,
    TDX_CMD_GET_REPORT0,
    TIOCSWINSZ,
    UVIO_IOCTL_ATT,
)
from ccinit.kernel.credentials import Capability
from ccinit.kernel.seccomp import SYSCALLS

FORMATS = Path(formats.__path__[0])
EVERY_ROLE = pytest.mark.parametrize("role", list(Role))


def test_every_role_has_a_row() -> None:
    assert set(RIGHTS) == set(Role)


def test_every_role_has_a_user_of_its_own() -> None:
    uids = [rights.uid for rights in RIGHTS.values()]
    assert len(set(uids)) == len(uids)
    assert min(uids) > FIRST_UID > 0


@EVERY_ROLE
def test_role_names_only_known_system_calls(role: Role) -> None:
    policy = RIGHTS[role].syscalls
    assert SYSCALLS.keys() >= {*policy.allowed, *policy.refused, *policy.rules}


def test_what_formats_import_late_is_loaded_before_rights_are_given_up() -> None:
    late = {name for path in FORMATS.rglob("*.py") for name in late_imports(path)}
    assert late == {"json", "re", "tomllib", "urllib.parse"}  # for json see tests/architecture
    assert {"re", "tomllib"} <= set(RIGHTS[Role.CONFIG].preload)
    assert "urllib.parse" in RIGHTS[Role.WORKLOAD].preload


def late_imports(path: Path) -> set[str]:
    """Return what functions of a module import."""
    functions = [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
    ]
    statements = [node for function in functions for node in ast.walk(function)]
    return {node.module or "" for node in statements if isinstance(node, ast.ImportFrom)} | {
        alias.name for node in statements if isinstance(node, ast.Import) for alias in node.names
    }


CAPABILITIES = {
    Role.NET: {Capability.NET_ADMIN},
    Role.TREE: {Capability.DAC_READ_SEARCH, Capability.SYS_ADMIN},
}


@EVERY_ROLE
def test_role_has_no_capability_but_the_agreed(role: Role) -> None:
    assert RIGHTS[role].capabilities == CAPABILITIES.get(role, set())


@EVERY_ROLE
def test_only_the_reaper_is_where_containers_see_it(role: Role) -> None:
    rights = RIGHTS[role]
    assert rights.own_processes == (role is Role.REAPER)
    assert rights.oom_score == (0 if rights.own_processes else 500)


def test_reaper_takes_nothing_and_says_one_word() -> None:
    rights = RIGHTS[Role.REAPER]
    assert (rights.read, rights.workspace, rights.messages) == ((), Workspace.NONE, 1)


@EVERY_ROLE
def test_role_with_capabilities_has_neither_network_nor_anything_to_write(role: Role) -> None:
    rights = RIGHTS[role]
    if rights.capabilities:
        assert not rights.is_program()  # no capability outlives exec
        assert not rights.connect
        assert rights.workspace is not Workspace.WRITE


@EVERY_ROLE
def test_only_clients_of_the_network_connect(role: Role) -> None:
    assert RIGHTS[role].connect == (role in {Role.ENDORSE, Role.KBS, Role.REGISTRY})


_INTERNET = {AF_INET, AF_INET6, AF_NETLINK}  # by netlink getaddrinfo asks which of both there are
FAMILIES = {
    Role.NET: {AF_NETLINK},
    Role.ENDORSE: _INTERNET,
    Role.KBS: _INTERNET,
    Role.REGISTRY: _INTERNET,
}


@EVERY_ROLE
def test_role_makes_sockets_of_no_family_but_the_agreed(role: Role) -> None:
    policy = RIGHTS[role].syscalls
    assert "socket" not in policy.allowed
    families = policy.rules["socket"].values if "socket" in policy.rules else ()
    assert set(families) == FAMILIES.get(role, set())


_TEE = {SNP_GET_EXT_REPORT, TDX_CMD_GET_REPORT0, UVIO_IOCTL_ATT}
REQUESTS = {
    Role.MEASURE: _TEE,
    Role.EVIDENCE: _TEE,
    Role.TREE: {FS_IOC_FIEMAP},
    Role.OWNER: {TIOCSWINSZ},
}


@EVERY_ROLE
def test_job_makes_no_request_to_a_device_but_the_agreed(role: Role) -> None:
    rights = RIGHTS[role]
    if rights.is_program() or rights.may_start:
        return  # of the image, on files of its workspace
    asked = set(rights.syscalls.rules["ioctl"].values)
    assert asked - set(FD_IOCTL_NUMBERS) == REQUESTS.get(role, set())
    assert "ioctl" not in rights.syscalls.allowed


@EVERY_ROLE
def test_only_programs_execute_and_map_code(role: Role) -> None:
    rights = RIGHTS[role]
    executes = rights.is_program() or bool(rights.may_start)
    assert ("execve" in rights.syscalls.allowed) == executes
    assert ("mmap" in rights.syscalls.allowed) == executes
    assert ("pwritev" in rights.syscalls.allowed) == executes  # erofs-utils 1.9


@EVERY_ROLE
def test_only_the_one_that_starts_programs_makes_processes(role: Role) -> None:
    policy = RIGHTS[role].syscalls
    assert ("clone" in policy.allowed) == (role is Role.INDEX)
    assert ("clone3" in policy.allowed) is False


@EVERY_ROLE
def test_role_without_paths_cannot_open_a_file(role: Role) -> None:
    rights = RIGHTS[role]
    if not rights.read and rights.workspace is Workspace.NONE:
        assert "openat" not in rights.syscalls.allowed
        assert "openat" in rights.syscalls.refused or role is Role.OWNER


def test_owner_opens_nothing_to_change_it() -> None:
    rule = RIGHTS[Role.OWNER].syscalls.rules["openat"]
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_CREAT, os.O_RDONLY | os.O_TRUNC):
        assert flags & rule.mask not in rule.values
    assert (os.O_RDONLY | os.O_CLOEXEC) & rule.mask in rule.values


@EVERY_ROLE
def test_role_reads_nothing_that_holds_secrets(role: Role) -> None:
    for path in RIGHTS[role].read:
        assert path == "/usr" or path.startswith("/etc/")


def test_children_have_room_for_their_fds() -> None:
    assert FIRST_JOB_FD < OPEN_FILES
