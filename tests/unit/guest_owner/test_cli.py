"""The owner's commands over a state directory, as a person would run them."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest_owner.arguments import STATE_VARIABLE, parse_address
from guest_owner.cli import build_parser, main
from guest_owner.plane.endpoint import CONNECT_VARIABLE
from tests.unit.guest_owner.command_line import error_of, run, write


def commands(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group below a parser, itself included."""
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from commands(inner, *words, name)


@pytest.mark.parametrize("words", list(commands(build_parser())), ids=" ".join)
def test_every_command_explains_itself(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*words, "--help")
    assert caught.value.code == 0
    usage, _, described = capsys.readouterr().out.partition("\n\n")
    assert usage.startswith("usage: guest-owner")
    assert not described.startswith(("positional", "options", "commands"))


def test_init_twice_is_refused(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (state / "ca.pem").read_bytes()
    assert run("kbs", "init", "--state", state, "--name", "kbs.example") == 1
    assert "[identity.exists]" in error_of(capsys)
    assert (state / "ca.pem").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ("policy", "list"),
        ("kbs", "new-certificate"),
        ("client-ca", "init"),
        ("admin", "new-key", "alice.pem"),
    ],
)
def test_commands_without_a_state_say_what_to_do(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words, "--state", "absent") == 1
    told = "guest-owner: absent does not exist; make it with `guest-owner kbs init`"
    assert error_of(capsys) == f"{told} [state.missing]\n"
    assert list(tmp_path.iterdir()) == []


def test_variable_that_is_empty_names_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of programs everywhere: keys would lie in whatever folder one happens to be in."""
    monkeypatch.chdir(tmp_path)
    for value, folder in (("", "guest-owner-state"), ("other", "other")):
        monkeypatch.setenv(STATE_VARIABLE, value)
        assert run("kbs", "init", "--name", "kbs.example") == 0
        assert capsys.readouterr().out.startswith(f"made {folder} for")
    assert {path.name for path in tmp_path.iterdir()} == {"guest-owner-state", "other"}


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:8443", ("127.0.0.1", 8443)), ("[::1]:0", ("::1", 0)), ("kbs:1", ("kbs", 1))],
)
def test_parse_address(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "host", ":1", "host:", "host:x", "host:65536", "host:²", "::1", "::1:80", "[::1:80"),
        *("a..b:1", "bad\udcffname:1", f"{'x' * 64}:1"),
    ],
)
def test_bad_address_is_wrong_usage(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def told(*words: object) -> str:
        with pytest.raises(SystemExit) as ended:
            run(*words, "--state", state)
        assert ended.value.code == 2
        return error_of(capsys)

    assert "argument --listen: expected HOST:PORT" in told("kbs", "serve", "--listen", text)
    assert "argument --connect: expected HOST:PORT" in told("logs", "--connect", text)
    if not text:
        return  # as a variable it is none
    monkeypatch.setenv(CONNECT_VARIABLE, text)
    assert "argument --connect: expected HOST:PORT" in told("logs")


@pytest.mark.parametrize(
    "words",
    [
        ("register", "reference", "FILE"),
        ("register", "ak", "FILE"),
        ("register", "root", "--platform", "snp", "FILE"),
        ("register", "requirements", "--platform", "snp", "FILE"),
        ("register", "initdata", "FILE"),
        ("register", "image-policy", "kbs:///a/b/c", "FILE"),
        ("register", "resource", "kbs:///a/b/c", "FILE", "--kind", "volume-key"),
        ("register", "issuer", "FILE", "--keys", "/dev/null"),
        ("manifest", "check", "FILE"),
        ("manifest", "init", "--kubernetes", "FILE", "--ca", "/dev/null", "--output", "out"),
        ("initdata", "show", "FILE"),
        ("launch-secret", "FILE", "--output", "out"),
        ("log-key", "public", "FILE"),
        ("unseal", "/dev/null", "--key", "FILE"),
        ("verify", "FILE"),
        ("debug", "tools", "FILE"),
        ("debug", "grant", "shop", "--tools", "FILE"),
        ("admin", "token", "FILE"),
    ],
    ids=" ".join,
)
def test_file_of_another_form_is_named(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    path = write(tmp_path / "given", b"-----neither this nor that")
    asks_state = "--state" in _options(words)
    given = [path if word == "FILE" else word for word in words]
    assert run(*given, *(("--state", state) if asks_state else ())) == 1
    assert str(path) in error_of(capsys)


def _options(words: tuple[str, ...]) -> set[str]:
    parser = build_parser()
    for word in words[:2]:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction) and word in action.choices:
                parser = action.choices[word]
    return {option for action in parser._actions for option in action.option_strings}


@pytest.mark.parametrize(
    ("command", "option", "most"),
    [
        ("admin token key.pem", "--seconds", 24 * 3600),
        ("register tls-identity kbs:///ccinit/demo/tls-identity", "--life-hours", 7 * 24),
        ("client-cert new alice --role logs --output alice.pem", "--days", 3650),
        ("owner-identity new demo --output demo.pem", "--days", 3650),
        ("debug grant demo --tools tools.json", "--minutes", 24 * 60),
        ("debug open --tools tools.json", "--minutes", 24 * 60),
    ],
)
@pytest.mark.parametrize("beyond", [0, 1])
def test_number_out_of_range_is_wrong_usage_in_the_unit_of_its_option(
    command: str, option: str, most: int, beyond: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = str(most * beyond + beyond)
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), option, found])
    assert ended.value.code == 2
    words = f"argument {option}: expected 1 to {most}, found '{found}'\n"
    assert capsys.readouterr().err.endswith(words)


@pytest.mark.parametrize(
    ("command", "most"),
    [
        ("logs --since", (1 << 64) - 1),
        ("events --since", (1 << 64) - 1),
        ("register rollback-counter demo data --value", (1 << 53) - 2),
        ("manifest init --image a --ca b --output c --scratch-mib", 1 << 20),
    ],
)
def test_number_beyond_what_its_format_holds_is_wrong_usage(
    command: str, most: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for found in (-1, most + 1):
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), str(found)])
        assert ended.value.code == 2
        assert f"expected 0 to {most}, found '{found}'\n" in capsys.readouterr().err
