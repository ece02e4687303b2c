"""The owner's commands over a state directory, as a person would run them."""

import argparse
import gzip
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.formats.initdata.document import (
    DISK_ALIGNMENT_BYTES,
    MAGIC,
    MAX_COMPRESSED_BYTES,
    decompress_document,
    parse_header,
    parse_initdata,
)
from ccinit.formats.kbs.rollback_counter import counter_uri
from guest_owner.arguments import STATE_VARIABLE, parse_address
from guest_owner.cli import build_parser, main
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.counters import Counters
from guest_owner.kbs.store import Store
from guest_owner.plane.endpoint import CONNECT_VARIABLE
from tests.fakes.documents.coco import AA, BARE_CONFIG, BARE_POD, CDH, document_of
from tests.fakes.documents.guest import POD as WITHOUT_ROOTS
from tests.unit.guest_owner.command_line import error_of, run, write
from tests.unit.guest_owner.commands.manifest_documents import CONFIG, POD, with_roots


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


def test_initdata_make_show_and_register(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "ccinit.toml", CONFIG.encode())
    pod = write(tmp_path / "pod.toml", POD.encode())
    document, image = tmp_path / "initdata.toml", tmp_path / "initdata.img"
    arguments = ("--config", config, "--pod", pod, "--output", document, "--disk-image", image)
    assert run("initdata", "make", *arguments) == 0
    parsed = parse_initdata(document.read_bytes())
    assert (parsed.config_toml, parsed.pod_toml) == (CONFIG, POD)
    raw = image.read_bytes()
    assert decompress_document(raw[16 : 16 + parse_header(raw[:16])]) == document.read_bytes()
    assert len(raw) % 4096 == 0

    shown = []
    for path in (document, image):
        capsys.readouterr()
        assert run("initdata", "show", path) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "kbs:///ccinit/shop/file-auth" in shown[0]
    assert "kbs:///ccinit/shop/log-psk" in shown[0]
    assert "tls-identity" not in shown[0]  # no [owner]: no owner plane
    assert "kbs:///ccinit/shop/file-password" in shown[0]

    assert run("register", "initdata", "--state", state, document) == 0
    (known,) = Store(state).read_references().initdata
    assert known.name == "shop"
    assert str(known.digest) in shown[0]
    assert known.register.hex() in shown[0]
    assert "mrconfigid" not in shown[0]  # a TD refuses this document


def test_document_with_cocos_files_is_made_shown_and_registered(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aa, cdh = with_roots(AA), with_roots(CDH)
    texts = {"config": BARE_CONFIG, "pod": BARE_POD, "aa": aa, "cdh": cdh}
    arguments: list[object] = []
    for name, text in texts.items():
        arguments += [f"--{name}", write(tmp_path / name, text.encode())]
    document = tmp_path / "initdata.toml"
    assert run("initdata", "make", *arguments, "--output", document) == 0
    parsed = parse_initdata(document.read_bytes())
    assert (parsed.config_toml, parsed.pod_toml) == (BARE_CONFIG, BARE_POD)
    assert (parsed.aa_toml, parsed.cdh_toml) == (aa, cdh)
    capsys.readouterr()
    assert run("initdata", "show", document) == 0
    shown = capsys.readouterr().out
    assert "https://kbs.example:8443" in shown
    assert "kbs:///default/security-policy/test" in shown
    assert "kbs:///default/credential/test" in shown
    assert run("register", "initdata", "--state", state, document) == 0
    (known,) = Store(state).read_references().initdata
    assert (known.name, str(known.digest) in shown) == ("shop", True)

    files = {"ccinit.toml": BARE_CONFIG, "pod.toml": BARE_POD, "aa.toml": AA, "cdh.toml": CDH}
    assert run("initdata", "show", write(tmp_path / "same.toml", document_of(files))) == 0
    for name, text, reason in (
        ("policy.rego", "package agent_policy", "initdata.data.policy.rego"),
        ("aa.toml", f"{AA}[log]\nlevel = 'info'\n", "aa.log"),
        ("cdh.toml", f"{CDH}work_dir = '/run'\n", "cdh.image.work_dir"),
        ("ccinit.toml", CONFIG, "ccinit.kbs.twice"),
        ("pod.toml", POD, "pod.image.twice"),
    ):
        wrong = write(tmp_path / "wrong.toml", document_of(files | {name: text}))
        for command in (("initdata", "show"), ("register", "initdata", "--state", state)):
            assert run(*command, wrong) == 1
            assert f"[{reason}]" in error_of(capsys)


def test_initdata_show_reads_the_largest_disk_that_there_is(tmp_path: Path) -> None:
    document = make_document(CONFIG, POD) + b"#"

    def member(comment_bytes: int) -> bytes:
        return gzip.compress(document + b"#" * comment_bytes, compresslevel=0, mtime=0)

    comment_bytes = MAX_COMPRESSED_BYTES - 1024 - len(document)
    comment_bytes += MAX_COMPRESSED_BYTES - len(member(comment_bytes))
    stored = member(comment_bytes)
    assert len(stored) == MAX_COMPRESSED_BYTES
    image = MAGIC + len(stored).to_bytes(8, "little") + stored
    image += bytes(-len(image) % DISK_ALIGNMENT_BYTES)
    assert run("initdata", "show", write(tmp_path / "initdata.img", image)) == 0


def test_register_rollback_counter_begins_one_that_initdata_show_lists(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = """
[[volume]]
name = "data"
kind = "persistent"
size_bytes = 67108864
key = "kbs:///ccinit/shop/volume-key-data"
rollback = "kbs-counter"
"""
    document = write(tmp_path / "initdata.toml", make_document(CONFIG, POD + volume))
    assert run("initdata", "show", document) == 0
    shown = capsys.readouterr().out
    assert "kbs+rollback-counter:///shop/data" in shown
    assert re.search(r"^volume +data \(persistent\) 67108864 bytes$", shown, re.MULTILINE)
    for words, value in (((), 0), (("--value", "8"), 8)):
        register = ("register", "rollback-counter", "shop", "data", "--state", state)
        assert run(*register, *words) == 0
        assert Counters(state).read(counter_uri("shop", "data")).value == value


@pytest.mark.parametrize(
    "text", ["a'''b", 'quote " and \\ backslash', "tab\tand ünïcode ☃", "ends with '", "del \x7f"]
)
def test_make_document_carries_any_text_unchanged(text: str) -> None:
    pod = POD + f"# {text}".replace("\x7f", "") + "\n"
    parsed = parse_initdata(make_document(CONFIG, pod))
    assert parsed.pod_toml == pod


def test_make_document_carries_a_text_whose_number_nobody_could_read() -> None:
    numbers = f"text = '''\nnumber = {'9' * 5000}\n'''\n"  # a literal of it ends at these quotes
    pod = POD + '[[file]]\ncontainer = "web"\npath = "/run/numbers"\n' + numbers
    assert parse_initdata(make_document(CONFIG, pod)).pod_toml == pod


def test_initdata_make_leaves_no_document_without_the_image_that_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "ccinit.toml", CONFIG.encode())
    pod = write(tmp_path / "pod.toml", POD.encode())
    output, image = tmp_path / "initdata.toml", tmp_path / "folder"
    image.mkdir()
    make = ("initdata", "make", "--config", config, "--pod", pod, "--output", output)
    assert run(*make, "--disk-image", image) == 1
    printed = capsys.readouterr()
    assert ("[state.place]" in printed.err, printed.out) == (True, "")
    assert not output.exists()
    image.rmdir()
    assert run(*make, "--disk-image", image) == 0
    assert output.is_file()
    assert image.is_file()


def test_document_takes_the_place_of_nothing_that_it_is_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "ccinit.toml", CONFIG.encode())
    pod, output = write(tmp_path / "pod.toml", POD.encode()), tmp_path / "initdata.toml"
    make = ("initdata", "make", "--config", config, "--pod", pod)
    init = ("manifest", "init", "--ca", config, "--kubernetes", pod)
    for command in (
        (*make, "--output", pod),
        (*make, "--output", output, "--disk-image", config),
        (*make, "--output", output, "--disk-image", output),
        (*init, "--output", pod),
        (*init, "--output", config),
    ):
        assert run(*command) == 2
        assert "[file.twice]" in error_of(capsys)
    assert not output.exists()
    assert (config.read_text(), pod.read_text()) == (CONFIG, POD)


def test_initdata_make_for_tdx_is_bound_by_sha384(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, pod, document = tmp_path / "c", tmp_path / "p", tmp_path / "initdata.toml"
    config.write_text(CONFIG)
    pod.write_text(POD)
    arguments = ("--config", config, "--pod", pod, "--output", document, "--platform", "tdx")
    assert run("initdata", "make", *arguments) == 0
    data = document.read_bytes()
    assert parse_initdata(data).algorithm == "sha384"
    assert run("initdata", "show", document) == 0
    shown = capsys.readouterr().out
    assert re.search(f"^mrconfigid +{hashlib.sha384(data).hexdigest()}$", shown, re.MULTILINE)
    assert "pcr 8" not in shown  # a TPM's guest refuses this document
    assert run("register", "initdata", "--state", state, document) == 0
    (known,) = Store(state).read_references().initdata
    assert known.digest_by("sha384") == hashlib.sha384(data).digest()


def test_initdata_make_refuses_what_the_guest_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "ccinit.toml", CONFIG.encode())
    pod = write(tmp_path / "pod.toml", POD.replace('image = "web"', 'image = "db"').encode())
    output = tmp_path / "initdata.toml"
    make = ("initdata", "make", "--config", config, "--pod", pod, "--output", output)
    assert run(*make) == 1
    assert "[pod.container.image]" in error_of(capsys)
    pod.write_text(WITHOUT_ROOTS)
    assert run(*make) == 1
    assert error_of(capsys) == "guest-owner: image web, ca: not PEM certificates [net.roots]\n"
    assert not output.exists()
    pod.write_text(POD)
    assert run(*make) == 0


def test_register_initdata_tells_what_its_guests_would_refuse(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be a document of before: its guests run, whatever has expired since."""
    said = "note: its guests would refuse it: image web, ca: not PEM certificates [net.roots]"
    for pod, told in ((WITHOUT_ROOTS, [said]), (POD, [])):
        document = write(tmp_path / "initdata.toml", make_document(CONFIG, pod))
        assert run("register", "initdata", "--state", state, document) == 0
        first, *notes = capsys.readouterr().out.splitlines()
        assert first.startswith("registered initdata shop: ")
        assert [line for line in notes if "refuse" in line] == told


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
