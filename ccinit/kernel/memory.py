"""Memory of this process that the kernel may have back (madvise(2), malloc_trim(3)).

A mapped file's pages stay with the process that used them. PID 1's cannot be reclaimed (HARDEN sets
its `memory.min`), so without this, code that ran only at its start and in its first phases would
stay in memory for the life of the guest.
"""

from collections.abc import Iterable, Iterator

from ccinit.kernel.libc import libc, syscall
from ccinit.values import frozen

MADV_RANDOM = 1
MADV_PAGEOUT = 21
NR_MADVISE = 28


@frozen(kw_only=False)
class Mapping:
    """A part of the address space."""

    start: int
    length: int


def page_out_code(maps: str = "/proc/self/maps", *, singly: bool = False) -> None:
    """Give back the pages of program files that no other process has mapped.

    Pages used again are read again from the verified root. Modified pages stay: the guest has no
    swap.

    Args:
        maps: of this process.
        singly: from now on, pages come back without their neighbours: a third fewer do, but each
            takes a read of its own.

    Raises:
        KernelError: the kernel refused.
    """
    with open(maps, encoding="ascii") as file:
        mappings = tuple(code_mappings(file))
    for mapping in mappings:
        for advice in (MADV_PAGEOUT, MADV_RANDOM)[: 1 + singly]:
            syscall(NR_MADVISE, mapping.start, mapping.length, advice, operation="madvise")


def trim_heap() -> None:
    """Give back what was freed of the C library's heap, by whole pages.

    On its own, the library gives back only the heap's end, and keeps free pages between others.
    """
    libc.malloc_trim(0)


def code_mappings(lines: Iterable[str]) -> Iterator[Mapping]:
    """Yield the mappings of files that cannot be written to, from /proc/PID/maps (proc(5))."""
    for line in lines:
        addresses, rights, *_, path = line.split(maxsplit=5)
        if path.startswith("/") and "w" not in rights:
            start, end = (int(address, 16) for address in addresses.split("-"))
            yield Mapping(start, end - start)
