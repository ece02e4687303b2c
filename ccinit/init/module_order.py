"""Load the kernel modules of stage 0's list, several at once.

Most of stage 0's time goes into verifying module signatures, which the kernel does in the process
that loads the module. So the builder splits the list into groups that do not depend on each other
(docs/decisions/0034), and several processes work through the groups in parallel.
"""

import errno
import os
from collections.abc import Sequence

from ccinit.errors import ChildError, FormatError, KernelError
from ccinit.kernel.modules import load_module
from ccinit.values import frozen

MAX_GROUPS = 256  # a ticket, which is a group's index, is one byte


@frozen
class ModuleLine:
    """One line of the load order: a file and its parameters."""

    file: str
    parameters: str


ModuleGroup = tuple[ModuleLine, ...]
"""Modules in dependency order."""


def parse_module_order(data: bytes) -> tuple[ModuleGroup, ...]:
    """Read a load order: one `file.ko.xz [parameter…]` per line, an empty line between groups.

    Empty text is no group: every module is built in.

    Raises:
        FormatError: `modules.order`.
    """
    if not data.isascii() or (data and not data.endswith(b"\n")):
        raise FormatError("modules.order", "expected ASCII lines")
    groups = data.decode("ascii").removesuffix("\n").split("\n\n") if data else []
    if len(groups) > MAX_GROUPS:
        raise FormatError("modules.order", f"more than {MAX_GROUPS} groups")
    return tuple(tuple(map(_parse_line, group.split("\n"))) for group in groups)


def _parse_line(line: str) -> ModuleLine:
    file, _, parameters = line.partition(" ")
    if not file.endswith((".ko", ".ko.xz")) or "/" in file:
        raise FormatError("modules.order", f"{line[:80]!r} names no module file")
    return ModuleLine(file=file, parameters=parameters)


def load_modules(groups: Sequence[ModuleGroup], directory: str, processes: int) -> None:
    """Load the first group, then the others in up to `processes` processes at once.

    The first group has the hash with which the kernel checks the others' signatures. The processes
    are forks of this one, which holds no secret yet.

    Raises:
        KernelError: the kernel refused a module.
        ChildError: `modules.load`, another process did not load the groups that it had taken.
    """
    if not groups:
        return
    _load_group(groups[0], directory)
    others = groups[1:]
    tickets, giver = os.pipe()
    os.write(giver, bytes(range(len(others))))
    os.close(giver)  # so that readers see end of file after the last ticket
    helpers = [_fork(others, directory, tickets) for _ in range(min(processes, len(others)) - 1)]
    _load_by_ticket(others, directory, tickets)
    os.close(tickets)
    for helper in helpers:
        _, status = os.waitpid(helper, 0)
        if status:
            raise ChildError("modules.load", f"wait status {status}")


def _fork(groups: Sequence[ModuleGroup], directory: str, tickets: int) -> int:
    helper = os.fork()
    if helper:
        return helper
    status = 1
    try:
        _load_by_ticket(groups, directory, tickets)
        status = 0
    finally:
        os._exit(status)


def _load_by_ticket(groups: Sequence[ModuleGroup], directory: str, tickets: int) -> None:
    while ticket := os.read(tickets, 1):
        _load_group(groups[ticket[0]], directory)


def _load_group(group: ModuleGroup, directory: str) -> None:
    """Load modules one after the other; a driver that finds no device is not a failure.

    Whether there is a platform at all is for the attester to decide, which has no fallback.
    """
    for module in group:
        try:
            load_module(f"{directory}/{module.file}", module.parameters)
        except KernelError as error:
            if error.errno != errno.ENODEV:
                raise
