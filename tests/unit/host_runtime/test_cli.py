import json
import socket
from pathlib import Path

import pytest

from ccinit.formats.host_rpc import METHODS
from ccinit.formats.msgpack_rpc import RequestReader, encode_result
from host_runtime.cli import main, map_address


@pytest.mark.parametrize("name", [*sorted(METHODS), "boot", "record"])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name.replace("_", "-"), "--help"])
    assert end.value.code == 0
    assert "usage: host-runtime" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["boot", "new"], "boot.what"),
        (["boot", "new", "--kernel", "k"], "boot.what"),
        (["boot", "new", "--kernel", "k", "--uki", "u"], "boot.what"),
        (["boot", ".", "--kernel", "k", "--initrd", "i"], "boot.folder"),
        (["boot", "new", "--uki", "u", "--tools", "none"], "tools.program"),
    ],
)
def test_wrong_use_says_what_and_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "u").write_bytes(b"uki")
    assert main(arguments) == 1
    assert f"[{reason}]" in capsys.readouterr().err


def test_record_of_a_silent_boot_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "serial").write_bytes(b"BdsDxe\r\n")
    (tmp_path / "code.fd").write_bytes(b"firmware")
    monkeypatch.setattr("host_runtime.firmware_text._FOLDER", tmp_path)
    for function in ("read_record", "write_record"):
        defaults = (tmp_path,)
        monkeypatch.setattr(f"host_runtime.boot_command.{function}.__defaults__", defaults)
    assert main(["record", str(tmp_path), str(tmp_path / "code.fd")]) == 0
    path = Path(capsys.readouterr().out.strip().rpartition(" ")[2])
    assert json.loads(path.read_text())["texts"] == {"serial": ["BdsDxe\r\n"]}


def test_collect_goes_on_where_the_file_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guest, outside = socket.socketpair()
    monkeypatch.setattr("host_runtime.transport.UserLink.connect", lambda *_: outside)
    for msgid, values in enumerate(((5, False, b"de"), (5, False, b"")), start=1):
        guest.sendall(encode_result(msgid, METHODS["collect"], values))
    log = tmp_path / "sealed.log"
    log.write_bytes(b"abc")
    with guest:
        assert main(["collect", str(log), "--guest", str(tmp_path)]) == 0
        requests = RequestReader().feed(guest.recv(4096))
    assert log.read_bytes() == b"abcde"
    assert json.loads(capsys.readouterr().out) == {"next_cursor": 5}
    assert [request.params for request in requests] == [(3, 0), (5, 0)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.0.2.15", "00000000000000000000ffff0a00020f"), ("fe80::1", "fe80" + "0" * 27 + "1")],
)
def test_addresses_become_sixteen_bytes(text: str, expected: str) -> None:
    assert map_address(text).hex() == expected
