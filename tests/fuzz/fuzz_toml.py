"""Invariant: a text is TOML for us as for the library, with the same values, unless one of its keys
has too many parts; and no key that has is missed, whatever stands around it.

Run as `python -m tests.fuzz.fuzz_toml [SECONDS [SEED]]`.
"""

import random
import tomllib

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.strict_toml import MAX_KEY_PARTS, parse_toml
from tests.fuzz.mutation import mutate_text
from tests.fuzz.trials import Trials, run

PARTS = ("a", "b-_1", "'.'", '"."', '"\\""', "'#'", '"\'"', '""', "''")
DOTS = "a." * 30
TEXTS = (
    *(f'"{DOTS}"', f"'{DOTS}'", f'"\\"{DOTS}"', f"'\"{DOTS}'", '"#"', "'\\'", '"\\\\"', "''", '""'),
    *(
        f'"""{DOTS}\n"" {DOTS}\\""""""',
        f"'''{DOTS}\n'' {DOTS}'''''",
        '""""""',
        "''''''",
        '"""\\\n"""',
    ),
)
VALUES = (*TEXTS, "1", "-1.5", "[1.5, 2.5]", "[\n]", "1979-05-27T07:32:00.99Z", "true", "{}")
REFUSED = f"a key of more than {MAX_KEY_PARTS} parts"
NOISE = (b'"', b"'", b'"""', b"'''", b"#", b"\n", b"\\", b".", b"a.", b"= 1\n", b"[", b"{", b"\r\n")


def key(source: random.Random, number: int, parts: int) -> str:
    """Return a key that no other one begins like."""
    blanks = ("", "", " ", "\t")
    rest = (
        f"{source.choice(blanks)}.{source.choice(blanks)}{source.choice(PARTS)}"
        for _ in range(parts - 1)
    )
    return f"k{number}{''.join(rest)}"


def make(source: random.Random) -> tuple[str, bool]:
    """Return a text, and whether a key in it has too many parts."""
    lines, is_long = [], False
    for number in range(source.randrange(1, 8)):
        parts = source.choice((1, 2, 3, MAX_KEY_PARTS))
        if source.randrange(12) == 0:
            parts, is_long = source.choice((MAX_KEY_PARTS + 1, 40)), True
        name, value = key(source, number, parts), source.choice(VALUES)
        lines.append(source.choice(("", "", f"# {DOTS}", " ", "# '''", '# "')))
        match source.randrange(4):
            case 0:
                lines.append(f"{name} = {value}")
            case 1:
                lines.append(f"y{number} = {{ {name} = {value} }}")
            case 2:
                lines.append(f"[{name}]\nx = {value}")
            case _:
                lines.append(f"[[ {name} ]]\nx = {value}")
    return "\n".join(lines), is_long


def parse_or_refuse(text: str) -> dict[str, object] | str:
    """Return the values, or what was wrong."""
    try:
        return parse_toml(text.encode(), "fuzz")
    except (FormatError, LimitExceededError) as error:
        refused = error
    assert refused.reason == "fuzz"
    return refused.detail


def library(text: str) -> dict[str, object] | None:
    """Return what the library reads, None if that is no TOML to it."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return max(map(depth, value), default=0) if isinstance(value, list) else 0


def main(seconds: float, seed: int) -> int:
    """Check texts for a while; return how many."""
    trials = Trials(seconds, seed)
    runs = read = 0
    for source in trials:
        text, is_long = make(source)
        known, found = library(text), parse_or_refuse(text)
        assert known is not None, text
        assert (found == REFUSED) if is_long else (found == known), text
        read += not is_long
        text = mutate_text(source, text.encode(), NOISE).decode("utf-8", "replace")
        known, found = library(text), parse_or_refuse(text)
        if found != REFUSED:
            assert found == known if known is not None else isinstance(found, str), text
        elif known is not None:
            assert depth(known) > MAX_KEY_PARTS, text
        runs += 2
    trials.require(read, one_in=5)
    return runs


if __name__ == "__main__":
    run(main)
