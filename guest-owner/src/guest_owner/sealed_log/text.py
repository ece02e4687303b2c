"""Entries of a guest's log as text, from the sealed log or from a running guest.

A log holds what workloads wrote, and a workload may attack the terminal that displays it: so every
control character, and everything that is not UTF-8, is escaped.
"""

from typing import Final

from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.formats.sealed_log import Kind
from guest_owner.terminal_text import escape_lines, escape_text

_OUTPUT_KINDS: Final = frozenset({Kind.STDOUT, Kind.STDERR})
"""What a container has written, as it wrote it: several lines may be one entry."""


def entry_lines(kind: Kind, source: str, data: bytes) -> list[str]:
    """Return an entry as printable lines, each prefixed with its kind and its writer."""
    writer = escape_text(source.encode())
    label = f"{kind.name.lower()}{':' if writer else ''}{writer}"
    texts = escape_lines(data) if kind in _OUTPUT_KINDS else [entry_text(kind, data)]
    return [f"{label}  {text}" for text in texts]


def entry_text(kind: Kind, data: bytes) -> str:
    """Return an entry as one printable line."""
    match kind:
        case Kind.CODE:
            return _code_text(data)
        case Kind.EVIDENCE:
            return f"{len(data)} bytes"
        case _:
            return escape_text(data.removesuffix(b"\n"))


def _code_text(data: bytes) -> str:
    """Return the names of a phase and a code."""
    try:
        phase, code = data
        return f"phase {Phase(phase).name} code {Code(code).name}"
    except ValueError:
        return f"phase and code {data.hex()}"
