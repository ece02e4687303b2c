import fcntl
import json
import os
import socket
from pathlib import Path

import pytest

from ccinit.formats.planes.host_rpc import METHODS, Code, Phase, RpcError
from ccinit.formats.planes.msgpack_rpc import RequestReader, encode_error, encode_result
from host_runtime.cli import main, parse_address, parse_listen
from tests.fakes.published.pe_images import uki_image

RPC_WORDS = {"`seq`", "`ms`", "`grace_s`", "`cursor`", "mapped", "reply"}
UKI = ("boot", "new", "--accelerator", "tcg", "--tools", "whole", "--uki")
DIRECT = ("boot", "new", "--kernel", "k", "--initrd", "i", "--accelerator", "tcg")


@pytest.mark.parametrize("name", [*sorted(METHODS), "boot", "record"])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name.replace("_", "-"), "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: host-runtime" in shown
    assert not RPC_WORDS & set(shown.split())  # of docs/host-rpc.md: here it is options that count


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: with a UKI, another file, and tools of which some are missing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("host_runtime.programs.tools._SYSTEM_PATH", "/nowhere")
    (tmp_path / "u").write_bytes(uki_image())
    (tmp_path / "text").write_bytes(b"uki")
    some = ("bin/qemu-system-x86_64", "share/qemu/x", "share/seabios/x")
    others = ("bin/swtpm", "share/OVMF/OVMF_CODE_4M.fd", "share/OVMF/OVMF_VARS_4M.fd")
    for tree, names in (("tree", some), ("whole", (*some, *others))):
        for name in names:
            (tmp_path / tree / "usr" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / tree / "usr" / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["boot", "new"], "boot.what"),
        (["boot", "new", "--kernel", "k"], "boot.what"),
        (["boot", "new", "--kernel", "k", "--uki", "u"], "boot.what"),
        (["boot", "new", "--uki", "u", "--command-line", "debug"], "boot.what"),
        (["boot", "new", "--uki", "u", "--initrd", "i"], "boot.what"),
        (["boot", "new", "--uki", "u", "--ovmf"], "boot.what"),
        ([*DIRECT, "--forward", "1:2"], "boot.forward"),
        ([*DIRECT, "--network", "pod", "--forward", "1:2"], "boot.forward"),
        ([*DIRECT, "--network", "pod", "--kbs", "127.0.0.1:1"], "boot.kbs"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(
    prepared: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert main(arguments) == 2
    assert f"[{reason}]" in capsys.readouterr().err
    assert not (prepared / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["boot", ".", "--kernel", "k", "--initrd", "i"], "boot.folder"),
        (["boot", "new", "--uki", "u", "--tools", "none"], "tools.file"),
        ([*DIRECT, "--network", "open", "--kbs", "127.0.0.1:1"], "tools.program"),
        ([*DIRECT], "tools.program"),
        ([*DIRECT, "--tools", "tree"], "boot.what"),
        ([*DIRECT, "--tools", "tree", "--tpm", "tpm"], "tools.program"),
        ([*DIRECT, "--disk", "none"], "boot.disk"),
        ([*DIRECT, "--disk", "u", "--disk", "u:ro"], "boot.disk"),
        ([*UKI, "text"], "boot.uki"),
        ([*UKI, "tree"], "boot.what"),
        ([*UKI, "u", "--tpm", "tree"], "tpm.folder"),
        ([*UKI, "u", "--tpm", "u"], "tpm.folder"),
        (["record", ".", "u"], "record.folder"),
    ],
)
def test_what_cannot_be_booted_is_told_with_what_and_why(
    prepared: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert main(arguments) == 1
    assert f"[{reason}]" in capsys.readouterr().err
    assert not (prepared / "new").exists()


WAIT, STOP = ("wait", "--guest", "g"), ("stop", "--guest", "g")
OFFER = {
    "--mac": "52:54:00:cc:00:01",
    "--address": "10.0.2.15/24",
    "--gateway": "10.0.2.2",
    "--dns": "10.0.2.3",
    "--mtu": "1500",
}


def offer(option: str, value: str) -> tuple[str, ...]:
    changed = OFFER | {option: value}
    return ("offer-network", "--guest", "g", *(word for pair in changed.items() for word in pair))


@pytest.mark.parametrize(
    "arguments",
    [
        (*WAIT, "-1"),
        (*WAIT, "4294967296"),
        (*WAIT, "1", "--seconds", "nan"),
        (*WAIT, "1", "--seconds", "61"),
        (*WAIT, "1", "--seconds", "soon"),
        (*STOP, "--grace", "65536"),
        ("collect", "log", "--guest", "g", "--cursor", "-1"),
        ("collect", "log", "--guest", "g", "--limit-mib", "0"),
        offer("--mac", "52:54:00:cc:00"),
        offer("--mac", "52:54:00:cc:00:zz"),
        offer("--mac", "52:54:00:cc:00:+1"),
        offer("--mac", "52:54:00:cc:00: 1"),
        offer("--address", "fe80::1%eth0/64"),
        offer("--gateway", "fe80::1%eth0"),
        offer("--address", "10.0.2.15"),
        offer("--address", "10.0.2/24"),
        offer("--address", "10.0.2.15/33"),
        offer("--address", "fe80::1/129"),
        offer("--gateway", "router"),
        offer("--dns", "10.0.2.3/24"),
        offer("--mtu", "65536"),
        ("relay", "--guest", "g", "--listen", "relay"),
        ("relay", "--guest", "g", "--listen", "127.0.0.1:65536"),
        ("relay", "--guest", "g", "--listen", "::1:80"),
        ("relay", "--guest", "g", "--listen", "²"),
        ("relay", "--guest", "g", "--listen", "bad\udcffname:0"),
        ("hello", "--cid", "2"),
        *(
            (*DIRECT, option, value)
            for option, value in (
                *(("--policy", "strict"), ("--memory", "0"), ("--memory", "many")),
                *(("--vcpus", "0"), ("--vcpus", "4097"), ("--cid", "2"), ("--cid", "4294967295")),
                *(("--forward", "1:x"), ("--forward", "70000:2"), ("--kbs", "kbs.example")),
                *(("--seconds", "-1"), ("--seconds", "nan"), ("--hello-seconds", "inf")),
            )
        ),
    ],
)
def test_argument_that_no_guest_can_be_told_is_wrong_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert ": expected " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.2.15", "ADDRESS/PREFIX, found '10.0.2.15'"),
        ("10.0.2.15/33", "ADDRESS/PREFIX, found '10.0.2.15/33'"),
        ("10.0.2.15/24/24", "ADDRESS/PREFIX, found '10.0.2.15/24/24'"),
        ("10.0.2/24", "an IP address, found '10.0.2'"),
    ],
)
def test_offered_address_is_refused_by_the_part_that_is_wrong(
    address: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(offer("--address", address))
    assert capsys.readouterr().err.endswith(f"argument --address: expected {expected}\n")


def test_offer_that_can_be_made_reaches_the_guest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    guest, outside = socket.socketpair()
    monkeypatch.setattr("host_runtime.plane.transport.UserLink.connect", lambda *_: outside)
    guest.sendall(encode_result(1, METHODS["offer_network"], ()))
    with guest:
        assert main(offer("--mtu", "1400")) == 0
        (request,) = RequestReader().feed(guest.recv(4096))
    four = bytes(10) + b"\xff\xff"
    assert request.params == (
        *(bytes.fromhex("525400cc0001"), four + bytes((10, 0, 2, 15)), 24),
        *(four + bytes((10, 0, 2, 2)), 1400, (four + bytes((10, 0, 2, 3)),)),
    )


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8444", ("127.0.0.1", 8444)),
        (":8444", ("127.0.0.1", 8444)),
        ("192.0.2.7:0", ("192.0.2.7", 0)),
        ("[::1]:8444", ("::1", 8444)),
    ],
)
def test_relay_listens_where_it_is_told(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


def test_relay_looks_for_owners_who_are_gone_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets that are accepted have the options of the one that listens."""
    looked_for = []

    def accept_none(listener: socket.socket, _complain: object) -> tuple[()]:
        looked_for.append(listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        return ()

    monkeypatch.setattr("host_runtime.cli.accept_all", accept_none)
    monkeypatch.setattr(socket, "create_server", lambda *_, **__: socket.socket())
    (tmp_path / "vsock").touch()
    assert main(["relay", "--guest", str(tmp_path), "--listen", "0"]) == 0
    assert looked_for == [1]


@pytest.mark.parametrize("way", ["--guest", "--socket"])
def test_relay_of_a_guest_that_is_not_there_lets_no_owner_come(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    way: str,
) -> None:
    monkeypatch.setattr("host_runtime.cli.accept_all", lambda *_: ())
    monkeypatch.setattr(socket, "create_server", lambda *_, **__: socket.socket())
    folder = tmp_path / "guest"
    place = folder if way == "--guest" else folder / "vsock"
    assert main(["relay", way, str(place)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    detail = f"{folder}/vsock: no socket of a guest: is it booted? [vsock.refused]"
    assert said.err == f"host-runtime: {detail}\n"
    folder.mkdir()
    (folder / "vsock").touch()
    assert main(["relay", way, str(place)]) == 0
    assert "listening" in capsys.readouterr().out


def test_record_of_a_silent_boot_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "serial").write_bytes(b"BdsDxe\r\n")
    (tmp_path / "code.fd").write_bytes(b"firmware")
    monkeypatch.setattr("host_runtime.host_view.firmware_text._FOLDER", tmp_path)
    for function in ("read_record", "write_record"):
        defaults = (tmp_path,)
        monkeypatch.setattr(f"host_runtime.commands.boot.{function}.__defaults__", defaults)
    assert main(["record", str(tmp_path), str(tmp_path / "code.fd")]) == 0
    path = Path(capsys.readouterr().out.strip().rpartition(" ")[2])
    assert json.loads(path.read_text())["texts"] == {"serial": ["BdsDxe\r\n"]}


def test_exit_code_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guest, outside = socket.socketpair()
    monkeypatch.setattr("host_runtime.plane.transport.UserLink.connect", lambda *_: outside)
    guest.sendall(encode_result(1, METHODS["exit"], (7,)))
    with guest:
        assert main(["exit", "--guest", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"exit_code": 7}


def test_exit_code_that_the_owner_keeps_is_a_failure_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guest, outside = socket.socketpair()
    monkeypatch.setattr("host_runtime.plane.transport.UserLink.connect", lambda *_: outside)
    guest.sendall(encode_error(1, METHODS["exit"].reply_bytes, RpcError.DENIED))
    with guest:
        assert main(["exit", "--guest", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert (said.out, "[rpc.denied]" in said.err) == ("", True)


@pytest.mark.parametrize("is_there", [True, False])
def test_collect_to_the_end_tells_the_code_that_is_gone_with_the_guest(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    is_there: bool,
) -> None:
    guest, outside = socket.socketpair()
    monkeypatch.setattr("host_runtime.plane.transport.UserLink.connect", lambda *_: outside)
    guest.sendall(encode_result(1, METHODS["collect"], (2, True, b"de")))
    end = (int(Phase.STOP), int(Code.IMAGE), 12, 0)
    if is_there:
        guest.sendall(encode_result(2, METHODS["state"], end))
    else:
        guest.shutdown(socket.SHUT_WR)
    with guest:
        assert main(["collect", str(tmp_path / "log"), "--guest", str(tmp_path), "--follow"]) == 0
    said = {"phase": "STOP", "code": "IMAGE"} if is_there else {}
    assert json.loads(capsys.readouterr().out) == {"next_cursor": 2} | said
    assert (tmp_path / "log").read_bytes() == b"de"


def test_collect_begins_and_ends_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full, log = 1 << 20, tmp_path / "rest.log"
    guest, outside = socket.socketpair()
    monkeypatch.setattr("host_runtime.plane.transport.UserLink.connect", lambda *_: outside)
    log.write_bytes(bytes(full - 2))
    for msgid, values in enumerate(((90, False, b"ab"), (91, False, b"c")), start=1):
        guest.sendall(encode_result(msgid, METHODS["collect"], values))
    command = ("collect", str(log), "--guest", str(tmp_path))
    with guest:
        assert main([*command, "--cursor", "88", "--limit-mib", "1"]) == 1
        (first, _second) = RequestReader().feed(guest.recv(4096))
    assert first.params == (88, 0)
    assert log.stat().st_size == full
    assert "--cursor 90 [collect.limit]" in capsys.readouterr().err


def test_collect_that_comes_second_removes_no_file_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first has made it after the second has looked, and nothing came yet."""
    log = tmp_path / "sealed.log"
    with log.open("ab") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        monkeypatch.setattr(Path, "exists", lambda _: False)
        assert main(["collect", str(log), "--guest", str(tmp_path)]) == 1
        monkeypatch.undo()
    assert "[collect.busy]" in capsys.readouterr().err
    assert log.exists()


def test_collect_into_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guest, outside = socket.socketpair()
    monkeypatch.setattr("host_runtime.plane.transport.UserLink.connect", lambda *_: outside)
    guest.sendall(encode_result(1, METHODS["collect"], (2, True, b"de")))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with guest:
        assert main(["collect", str(pipe), "--guest", str(tmp_path)]) == 0
    assert os.read(reader, 9) == b"de"
    os.close(reader)
    assert json.loads(capsys.readouterr().out) == {"next_cursor": 2}


def test_collect_names_the_file_that_finds_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guest, outside = socket.socketpair()
    monkeypatch.setattr("host_runtime.plane.transport.UserLink.connect", lambda *_: outside)
    guest.sendall(encode_result(1, METHODS["collect"], (2, False, b"de")))
    with guest:
        assert main(["collect", "/dev/full", "--guest", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "host-runtime: /dev/full: No space left on device\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.0.2.15", "00000000000000000000ffff0a00020f"), ("fe80::1", "fe80" + "0" * 27 + "1")],
)
def test_addresses_become_sixteen_bytes(text: str, expected: str) -> None:
    assert parse_address(text).hex() == expected
