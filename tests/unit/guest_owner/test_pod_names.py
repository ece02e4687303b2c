"""A name that no pod.toml can have is refused by whichever command it is given to."""

from pathlib import Path

import pytest

from ccinit.errors import FormatError
from guest_owner.pod_names import read_pod_name
from tests.fakes.documents.coco import document_of
from tests.unit.guest_owner.command_line import error_of, run, status_of_wrong_usage, write

_TOOLS = b'{"root_hash": "%s", "salt": "%s", "data_blocks": 2, "size_bytes": 12288}'
_IDENTITY = "kbs:///ccinit/{name}/tls-identity"


@pytest.fixture
def made(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Path]:
    """What the commands need besides a name."""
    client, output = tmp_path / "client.pem", tmp_path / "new.pem"
    assert run("client-ca", "init", "--state", state) == 0
    new = ("client-cert", "new", "alice", "--role", "logs", "--output", client)
    assert run(*new, "--state", state) == 0
    tools = write(tmp_path / "tools.json", _TOOLS % (b"a" * 64, b"b" * 64))
    capsys.readouterr()
    return {"client": client, "output": output, "tools": tools}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("debug grant {name} --tools {tools}", "debug.pod"),
        ("owner-identity new {name} --output {output}", "identity.pod"),
        ("register rollback-counter {name} data", "counter.pod"),
        ("register rollback-counter shop {name}", "counter.volume"),
        (f"register tls-identity {_IDENTITY}", "resource.pod"),
        ("logs --connect 127.0.0.1:1 --client {client} --pod {name}", "owner.pod"),
    ],
)
def test_name_that_no_pod_can_have_is_refused(
    state: Path,
    made: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    reason: str,
) -> None:
    def status_with(name: str) -> int:
        words = [word.format_map({**made, "name": name}) for word in command.split()]
        return status_of_wrong_usage(*words, "--state", state)

    def refuse(address: tuple[str, int], timeout: float) -> None:
        raise ConnectionRefusedError(f"{address} {timeout}")

    monkeypatch.setattr("socket.create_connection", refuse)
    for name in ("Shop", "a" * 64, *(() if "kbs:" in command else ("", "a b", "\udcff"))):
        assert status_with(name) == 2
        assert f"[{reason}]" in error_of(capsys)
    assert not made["output"].exists()
    assert not [path for path in state.rglob("*") if "hop" in path.name]
    assert status_with("shop") == (1 if "--connect" in command else 0)
    assert "pod]" not in error_of(capsys)


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        ('version = 2\nname = "shop"', "pod.version"),
        ('version = 0\nname = "shop"', "pod.version"),
        ('name = "shop"', "pod.version"),
        ("version = 1", "pod.name"),
        ('version = 1\nname = "Shop"', "pod.name"),
        ("version", "pod.toml"),
    ],
)
def test_document_of_no_pod_that_is_known_has_no_name(pod: str, reason: str) -> None:
    def read(pod_toml: str) -> str:
        return read_pod_name(document_of({"ccinit.toml": "", "pod.toml": pod_toml}))

    assert read('version = 1\nname = "shop"\nof_a_later_version = true') == "shop"
    with pytest.raises(FormatError) as refused:
        read(pod)
    assert refused.value.reason.startswith(reason)
