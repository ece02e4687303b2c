"""What others wrote is readable on the owner's terminal and not obeyed by it."""

import io

import pytest

from guest_owner.terminal_text import escape_stream, escape_text, printable


def test_printable_replaces_what_moves_a_terminal() -> None:
    assert printable("a\x1b[2J\nb\r\u202e\x07é") == "a?[2J?b???é"


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain", "plain"),
        ("grüße 日本".encode(), "grüße 日本"),
        (b"a\tb\r\n", "a\\tb\\r\\n"),
        (b"\x1b[31m", "\\x1b[31m"),
        (b"\\x1b", "\\\\x1b"),
        ("\u202e\u2028".encode(), "\\u202e\\u2028"),
        (b"\xff\xc3", "\\xff\\xc3"),
        (b"\0", "\\x00"),
    ],
)
def test_escape_text_leaves_nothing_a_terminal_obeys(data: bytes, shown: str) -> None:
    assert escape_text(data) == shown
    assert escape_text(data).isprintable()


@pytest.mark.parametrize("size", [1, 2, 64])
def test_stream_keeps_lines_and_tabs_and_escapes_the_rest(size: int) -> None:
    data = "grüße\t日本\n".encode() + b"\x1b]52;c;eA==\x07\\n\r\n\xff \xc3"
    terminal = io.StringIO()
    take = escape_stream(terminal)
    for start in range(0, len(data), size):
        take(data[start : start + size])
    # The last byte waits for what would make it a character.
    assert terminal.getvalue() == "grüße\t日本\n\\x1b]52;c;eA==\\x07\\n\\r\n\\xff "
