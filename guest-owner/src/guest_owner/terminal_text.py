"""Text of others made safe for the owner's terminal, which must not obey any of it.

A workload may attack the terminal that displays its output, and a peer's words may be anything. To
a file or a pipe bytes go unchanged. A program that has the owner's terminal to itself (`exec
--tty`) is obeyed, as it has to be.
"""

import codecs
from collections.abc import Callable
from typing import BinaryIO, TextIO

_KEPT = "\n\t"


def printable(text: str) -> str:
    """Return `text` without anything that moves a terminal's cursor or changes its state."""
    return "".join(character if character.isprintable() else "?" for character in text)


def escape_text(data: bytes) -> str:
    r"""Return `data` as one printable line: bad UTF-8 as \xNN, unprintable characters as \uNNNN.

    A backslash is doubled, so that no text can imitate an escape.
    """
    text = data.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return "".join(map(_escape, text))


def escape_lines(data: bytes) -> list[str]:
    """Return one write of a container as printable lines; see `escape_text`.

    Only for lines that are each prefixed with their writer's name: otherwise, a line break in the
    text could start what looks like somebody else's entry.
    """
    return [escape_text(line) for line in data.removesuffix(b"\n").split(b"\n")]


def escape_stream(terminal: TextIO) -> Callable[[bytes], None]:
    """Return a sink that writes bytes to a terminal as they come, escaping all but LF and tabs.

    Backslashes are not doubled: this may be a file's text, to be copied from the terminal.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def take(data: bytes) -> None:
        text = decoder.decode(data)
        terminal.write("".join(one if one in _KEPT else _escape(one) for one in text))
        terminal.flush()

    return take


def open_sink(stream: TextIO) -> Callable[[bytes], None]:
    """Return a sink that shows bytes as they come: escaped on a terminal, else unchanged."""
    return escape_stream(stream) if stream.isatty() else write_through(stream.buffer)


def write_through(file: BinaryIO) -> Callable[[bytes], None]:
    """Return a sink that writes bytes to a file as they come, unchanged."""

    def take(data: bytes) -> None:
        file.write(data)
        file.flush()

    return take


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
