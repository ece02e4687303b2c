"""What others have written, for the owner's terminal: nothing in it is obeyed there.

A workload may be hostile to the terminal that its output is read on, and a peer's words may be
anything. To a file or a pipe bytes go as they are; a program that has the owner's terminal for
itself (`exec --tty`) is obeyed, as it has to be.
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
    """Return what a container has written at once as printable lines; see `escape_text`.

    Only of a text that stands behind its writer's name: elsewhere an end of line in it could begin
    what looks like somebody else's entry.
    """
    return [escape_text(line) for line in data.removesuffix(b"\n").split(b"\n")]


def escape_stream(terminal: TextIO) -> Callable[[bytes], None]:
    """Return who writes bytes to a terminal as they come, escaped but for ends of lines and tabs.

    Backslashes stay single: this may be a file's text that is copied from the terminal.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def take(data: bytes) -> None:
        text = decoder.decode(data)
        terminal.write("".join(one if one in _KEPT else _escape(one) for one in text))
        terminal.flush()

    return take


def open_sink(stream: TextIO) -> Callable[[bytes], None]:
    """Return who shows bytes as they come: escaped to a terminal, to anything else as they are."""
    return escape_stream(stream) if stream.isatty() else write_through(stream.buffer)


def write_through(file: BinaryIO) -> Callable[[bytes], None]:
    """Return who writes bytes to a file as they come, and as they are."""

    def take(data: bytes) -> None:
        file.write(data)
        file.flush()

    return take


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
