"""TOML: what a key may cost, and that nothing else is taken for one."""

import time
import tomllib

import pytest

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.strict_toml import MAX_KEY_PARTS, parse_toml

MIB = 1 << 20
LONGEST = ".".join("k" * MAX_KEY_PARTS)
DOTS = "a." * 1000


def refusal(text: str) -> FormatError:
    with pytest.raises(FormatError) as refused:
        parse_toml(text.encode(), "test.toml")
    assert refused.value.reason == "test.toml"
    return refused.value


@pytest.mark.parametrize(
    "form",
    [
        "{} = 1",
        "[{}]",
        "[[{}]]",
        "a = {{ {} = 1 }}",
        "t = '''{{'''\n{} = 1",
        "t = 'it'\n{} = 1",
        'u = """\\""""\n{} = 1',
        "# it's\n{} = 1",
    ],
)
def test_key_has_a_longest_form(form: str) -> None:
    parse_toml(form.format(LONGEST).encode(), "test.toml")
    for joint in (".", " . ", "\t.", '."=\\"".', ".'#'."):
        longer = f"k{joint}{LONGEST}"
        assert isinstance(refusal(form.format(longer)), LimitExceededError)


@pytest.mark.parametrize(
    "value",
    [
        f'"{DOTS}"',
        f"'{DOTS}'",
        f'"""\n{DOTS} ""{DOTS} \\"""{DOTS}"""',
        f"'''\n{DOTS} ''{DOTS}'''''",
        f"1.5 # {DOTS}",
        f'["{DOTS}", 1.0]',
    ],
)
def test_dots_elsewhere_are_no_key(value: str) -> None:
    assert list(parse_toml(f"text = {value}\n".encode(), "test.toml")) == ["text"]


def test_bytes_that_are_no_text_are_told_by_their_place() -> None:
    with pytest.raises(FormatError) as refused:
        parse_toml(b"a = '\xff'", "test.toml")
    assert refused.value.reason == "test.toml"
    assert refused.value.detail == "not TOML: not UTF-8 at byte 6"


def test_byte_order_mark_is_told() -> None:
    """Nobody sees it, and the library tells of an invalid statement."""
    detail = "not TOML: a byte-order mark at its start"
    assert refusal("\ufeffa = 1").detail == detail
    assert refusal("a = 1\n\ufeff").detail != detail


def test_long_key_is_not_told_as_a_whole() -> None:
    short, long = (f"[{key}]\n[{key}]" for key in ("k", "k" * (MIB // 4)))
    with pytest.raises(tomllib.TOMLDecodeError) as said:
        tomllib.loads(short)
    assert refusal(short).detail == f"not TOML: {said.value}"
    with pytest.raises(tomllib.TOMLDecodeError) as said:
        tomllib.loads(long)
    detail, whole = refusal(long).detail, f"not TOML: {said.value}"
    assert len(detail) < 200 < len(whole)
    assert (detail[:80], detail[-60:]) == (whole[:80], whole[-60:])


@pytest.mark.parametrize("text", ['a = "', "a = '''", '"""', "a = '\n'", "\x00", "a.b"])
def test_what_is_not_toml_is_refused_as_that(text: str) -> None:
    assert not isinstance(refusal(text), LimitExceededError)


@pytest.mark.parametrize(
    ("newer", "same", "value"),
    [
        (r'x = "\e"', r'x = "\u001b"', "\x1b"),
        (r'x = "\\\x41"', r'x = "\\A"', "\\A"),
        ('x = """\n"" \\x41"""', 'x = """\n"" A"""', '"" A'),
        ("x = {a = 1,\n b = 2}", "x = {a = 1, b = 2}", {"a": 1, "b": 2}),
        ("x = {a = 1, }", "x = {a = 1}", {"a": 1}),
        ("x = { # one\n}", "x = {} # one", {}),
        ("x = [\n{a = [1,\n],\n}]", "x = [\n{a = [1,\n]}]", [{"a": [1]}]),
        ("x = {a = {b = 1,}}", "x = {a = {b = 1}}", {"a": {"b": 1}}),
    ],
)
def test_toml_of_a_newer_python_is_refused(
    newer: str, same: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values are those that tomli 2.5.0 reads, as `tomllib` of Python 3.15 does."""
    monkeypatch.setattr(tomllib, "loads", {newer: {"x": value}, same: {"x": value}}.__getitem__)
    assert parse_toml(same.encode(), "test.toml") == {"x": value}
    assert refusal(newer).detail.startswith("not TOML 1.0: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"x = '\e\x41'", r"\e\x41"),
        (r'x = "\\e\\x41"', r"\e\x41"),
        (r'x = "s" # "\e"', "s"),
        ("x = {a = [1,\n2,\n], b = '''\n,}'''}", {"a": [1, 2], "b": ",}"}),
        ("x = {a = '{', b = ',' }\n[y]\nz = 1 # {\n", {"a": "{", "b": ","}),
    ],
)
def test_what_looks_like_newer_toml_is_read(text: str, value: object) -> None:
    assert parse_toml(text.encode(), "test.toml")["x"] == value


@pytest.mark.parametrize(
    "text",
    [
        "k." * (MIB // 2) + "k = 1",
        "k " * (MIB // 2),
        "k" * MIB,
        '"' * MIB,
        "'" * MIB,
        '"\\' * (MIB // 2),
        "\n".join(f"{LONGEST}.{number} = 1" for number in range(9)) + "\n" + "k." * (MIB // 2),
    ],
    ids=["one", "names", "name", "quotes", "apostrophes", "escapes", "many"],
)
def test_document_of_the_largest_size_costs_seconds_and_not_hours(text: str) -> None:
    began = time.process_time()
    refusal(text)
    assert time.process_time() - began < 20


@pytest.mark.parametrize("quotes", ["'''", '"""'])
def test_lines_of_a_text_end_with_lf_whatever_ends_the_documents(quotes: str) -> None:
    """Other readers keep CR there, as TOML lets them."""
    text = f"a = {quotes}one\r\ntwo\n{quotes}\r\n"
    assert parse_toml(text.encode(), "test.toml") == {"a": "one\ntwo\n"}
    escaped = 'a = "one\\r\\ntwo"\r\n'
    assert parse_toml(escaped.encode(), "test.toml") == {"a": "one\r\ntwo"}
