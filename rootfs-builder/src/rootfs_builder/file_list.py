"""Read the lists that say what is in an image, and why.

One entry a line: a name, options, then `# ` and the reason. An entry without a reason is an error,
so that nothing enters an image that nobody can explain. What an entry *means* is up to its reader.
"""

from dataclasses import dataclass
from pathlib import Path

from ccinit.errors import FormatError
from measured_boot.command_line.files import read_text_capped


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One entry of a list.

    Attributes:
        name: first word.
        options: further words, in order.
        reason: why it is there; never empty.
    """

    name: str
    options: tuple[str, ...]
    reason: str


def parse_listed(text: str, where: str) -> tuple[Listed, ...]:
    """Return the entries of a list; lines that begin with `#` are comments.

    Raises:
        FormatError: an entry has no reason, or comes twice.
    """
    entries: list[Listed] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        words, _, reason = line.partition(" # ")
        name, *options = words.split()
        if not reason.strip():
            raise FormatError("list.reason", f"{where}:{number}: {name} gives no reason")
        entries.append(Listed(name=name, options=tuple(options), reason=reason.strip()))
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise FormatError("list.twice", f"{where}: {name} stands there twice")
    return tuple(entries)


def read_listed(path: Path) -> tuple[Listed, ...]:
    """Return the entries of the list file at `path`."""
    return parse_listed(read_text_capped(path), path.name)
