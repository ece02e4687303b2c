"""The command line of a runtime: what engines pass is taken, what cannot be is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from host_runtime.oci_runtime.cli import REFUSED, main
from host_runtime.oci_runtime.container_state import ContainerRecord
from host_runtime.oci_runtime.container_store import ContainerStore
from host_runtime.oci_runtime.signals import STOP_ANNOTATION
from tests.fakes.documents.oci_bundles import (
    INITDATA,
    encode_annotation,
    make_document,
    operator_toml,
    podman_config,
)


def run(folder: Path, *words: str) -> int:
    return main(["--root", str(folder / "state"), *words])


@pytest.mark.parametrize("command", REFUSED)
def test_command_that_a_guest_has_not_is_refused_whatever_stands_behind_it(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, command, "--process", "file", "-d", "id", "--", "sh", "-c", "x") == 1
    assert capsys.readouterr().err.endswith("[command.refused]\n")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("state", "none"),
        ("start", "none"),
        ("ps", "none"),
        ("kill", "none", "TERM"),
        ("kill", "--all", "none", "KILL"),
        ("delete", "none"),
    ],
)
def test_container_that_is_not_there_is_told_in_the_words_that_engines_look_for(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *words) == 1
    assert capsys.readouterr().err == (
        "ccinit-runtime: container none does not exist [container.unknown]\n"
    )


@pytest.mark.parametrize("status", [0, 1])
def test_state_is_the_users_where_run_is_not_ours_even_for_the_root_of_a_user_namespace(
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = ContainerRecord(id="a", bundle="/b", annotations={}, created="now")
    with ContainerStore(root=tmp_path / "ccinit-runtime").new(record):
        pass
    is_run_ours = status == 1
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # as rootless podman has it
    monkeypatch.setattr(ContainerStore, "_require_own", lambda _store: None)  # made by who tests
    monkeypatch.setattr(os, "access", lambda *what: is_run_ours or what != ("/run", os.W_OK))
    assert main(["state", "a"]) == status
    assert ("[container.unknown]" in capsys.readouterr().err) == is_run_ours


UPDATES = {
    "of Docker for its restart policy": ({}, ""),
    "of podman for its own": ({"devices": [{"allow": False, "access": "rwm"}]}, ""),
    "of nothing in more words": ({"cpu": {}, "memory": None, "hugepageLimits": []}, ""),
    "of a limit": ({"cpu": {"quota": 100000, "period": 100000}}, "command.refused"),
    "of one limit more": ({"pids": {"limit": 5}, "cpu": {}}, "command.refused"),
    "of a rule": ({"devices": [{"allow": True, "access": "rwm"}]}, "command.refused"),
    "that is none": ([], "bundle.json"),
}


@pytest.mark.parametrize("is_by_file", [True, False])
@pytest.mark.parametrize(("asked", "reason"), UPDATES.values(), ids=UPDATES)
def test_update_is_taken_if_it_changes_nothing(
    asked: object,
    reason: str,
    is_by_file: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = podman_config()["linux"]["resources"]
    record = ContainerRecord(id="a", bundle="/b", annotations={}, created="now", resources=given)
    with ContainerStore(root=tmp_path / "state").new(record):
        pass
    file = tmp_path / "resources"
    file.write_text(json.dumps(asked))
    with file.open() as resources:
        monkeypatch.setattr("sys.stdin", resources)
        words = (f"--resources={file}", "a") if is_by_file else ("--resources", "-", "a")
        assert run(tmp_path, "update", *words) == bool(reason)
    assert capsys.readouterr().err.endswith(f"[{reason}]\n" if reason else "")


def test_update_of_nothing_says_so_of_whom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "resources").write_text("{}")
    given = ("--resources", str(tmp_path / "resources"))
    for words, reason in (
        ((*given, "none"), "container.unknown"),
        (given, "command.refused"),
        (("none",), "command.refused"),
        (("none", "-r"), "command.refused"),
        ((*given, "--memory", "1", "none"), "command.refused"),
    ):
        assert run(tmp_path, "update", *words) == 1
        assert capsys.readouterr().err.endswith(f"[{reason}]\n")


def test_forced_deletion_of_what_is_not_there_is_done(tmp_path: Path) -> None:
    assert run(tmp_path, "delete", "--force", "none") == 0


@pytest.mark.parametrize("record", [b'{"id": "a", "of_later": 1}', b"{", b"\xff"])
def test_container_whose_record_cannot_be_read_is_removed_by_force_alone(
    record: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "state/a"
    folder.mkdir(parents=True)
    (folder / "container.json").write_bytes(record)
    for words in (("state", "a"), ("delete", "a")):
        assert run(tmp_path, *words) == 1
        assert "`delete --force` ends what it is of [container.record]\n" in capsys.readouterr().err
    assert run(tmp_path, "delete", "--force", "a") == 0
    assert not folder.exists()


@pytest.mark.parametrize("command", ["state", "start", "ps", "kill", "delete"])
def test_id_that_leads_elsewhere_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, command, "../none") == 1
    assert capsys.readouterr().err.endswith("[container.id]\n")


@pytest.mark.parametrize("signal", ["HUP", "SIGUSR1", "28"])
def test_signal_that_a_guest_cannot_be_told_is_refused(
    signal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ContainerRecord(
        id="a", bundle="/b", annotations={STOP_ANNOTATION: "37"}, created="now"
    )
    with ContainerStore(root=tmp_path / "state").new(record):
        pass
    for number, reason in ((signal, "signal"), ("37", "state"), ("TERM", "state")):
        assert run(tmp_path, "kill", "a", number) == 1
        assert capsys.readouterr().err.endswith(f"[container.{reason}]\n")


def test_what_has_ended_has_no_processes_and_only_killing_all_of_them_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ContainerRecord(id="a", bundle="/b", annotations={}, created="now", pid=1)
    with ContainerStore(root=tmp_path / "state").new(record):
        pass
    for form, printed in (("json", "[]\n"), ("table", "PID\n")):
        assert run(tmp_path, "ps", "--format", form, "a") == 0
        assert capsys.readouterr().out == printed
    for words in (("a", "KILL"), ("--all", "a", "TERM")):
        assert run(tmp_path, "kill", *words) == 1
        assert "container not running" in capsys.readouterr().err
    assert run(tmp_path, "kill", "--all", "a", "KILL") == 0


@pytest.mark.parametrize("signal", ["TERM", "SIGKILL", "sigint", "9", "0"])
def test_signal_is_read_by_number_or_name(
    signal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "kill", "--all", "none", signal) == 1
    assert capsys.readouterr().err.endswith("[container.unknown]\n")


@pytest.mark.parametrize("signal", ["SIGNONE", "65", "-9", "1.5"])
def test_what_is_no_signal_is_wrong_usage(signal: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        run(tmp_path, "kill", "none", signal)
    assert end.value.code == 2


def test_refused_bundle_leaves_one_error_in_the_engines_log_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = podman_config()
    config["process"]["terminal"] = True
    bundle, log = tmp_path / "bundle", tmp_path / "log"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(config))
    (tmp_path / "runtime.toml").write_text(operator_toml(tmp_path))
    of_podman = ("--systemd-cgroup", "--log-format=json", f"--log={log}")
    words = ("--bundle", str(bundle), "--pid-file", str(tmp_path / "pid"), "--no-pivot", "id")
    settings = ("--config", str(tmp_path / "runtime.toml"))
    assert run(tmp_path, *settings, *of_podman, "create", *words) == 1
    said = capsys.readouterr().err
    told = json.loads(log.read_text())  # of one line, as podman reads it
    assert told["level"] == "error"
    assert said == f"ccinit-runtime: {told['msg']}\n"
    assert told["msg"].endswith("[bundle.terminal]")
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "runtime.toml", "log"}


def test_descriptors_for_the_container_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runtime.toml").write_text(operator_toml(tmp_path))
    create = ("--config", str(tmp_path / "runtime.toml"), "create", "--bundle", str(tmp_path))
    for count, reason in (("1", "[bundle.descriptors]"), ("0", "No such file or directory")):
        assert run(tmp_path, *create, "--preserve-fds", count, "a") == 1
        assert capsys.readouterr().err.endswith(f"{reason}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create", "--of-later", "a"), "unrecognized arguments: --of-later"),
        (
            ("kill", "a", "NONE"),
            "argument SIGNAL: expected a signal's name or number, found 'NONE'",
        ),
    ],
)
def test_wrong_usage_is_told_in_the_engines_log(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run(tmp_path, "--log", str(tmp_path / "log"), "--log-format", "json", *words)
    assert end.value.code == 2
    assert json.loads((tmp_path / "log").read_text())["msg"] == message
    said = capsys.readouterr().err
    assert said.startswith("usage: ccinit-runtime")
    assert said.endswith(f"error: {message}\n")


@pytest.mark.parametrize("words", [("--log-format", "xml"), ("--log",)])
def test_wrong_usage_of_the_log_itself_is_wrong_usage(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as end:
        run(tmp_path, *words)
    assert end.value.code == 2


def test_log_that_cannot_be_written_hides_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--log", str(tmp_path / "none/log"), "state", "a") == 1
    assert "container a does not exist" in capsys.readouterr().err


def test_version_is_printed_as_engines_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("ccinit-runtime version ")
    assert second == "spec: 1.2.0"


def test_help_that_gets_nowhere_is_an_error_with_words(capsys: pytest.CaptureFixture[str]) -> None:
    with Path("/dev/full").open("w") as full, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", full)
        assert main(["--help"]) == 1
        patch.undo()
    assert capsys.readouterr().err == "ccinit-runtime: standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("version = 2", "runtime.version"),
        (operator_toml().replace('image = "prod"', 'image = "none"'), "runtime.image"),
    ],
)
def test_error_in_the_operators_file_names_the_file(
    content: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runtime.toml"
    path.write_text(content)
    assert run(tmp_path, "--config", str(path), "create", "a") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"ccinit-runtime: {path}: ")
    assert said.endswith(f"[{reason}]\n")


def test_operators_file_that_is_not_there_is_told_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--config", "/none/runtime.toml", "create", "a") == 1
    assert capsys.readouterr().err == (
        "ccinit-runtime: /none/runtime.toml does not exist: docs/oci-runtime.md has one;"
        " --config names another [runtime.missing]\n"
    )


def test_operators_file_without_an_end_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runtime.toml"
    path.touch()
    os.truncate(path, 1 << 30)
    assert run(tmp_path, "--config", str(path), "create", "a") == 1
    assert capsys.readouterr().err.endswith("[file.length]\n")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize(
    ("name", "reason"), [("runtime.toml", "runtime.file"), ("config.json", "bundle.file")]
)
def test_file_that_is_none_is_refused_and_not_waited_for(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    reason: str,
    make: Callable[[Path], object],
) -> None:
    (tmp_path / "runtime.toml").write_text(operator_toml(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    create = ("--config", f"{tmp_path}/runtime.toml", "create", "-b", str(tmp_path), "a")
    assert run(tmp_path, *create) == 1
    assert "[bundle.version]" in capsys.readouterr().err
    (tmp_path / name).unlink()
    make(tmp_path / name)
    assert run(tmp_path, *create) == 1
    assert capsys.readouterr().err == (
        f"ccinit-runtime: {tmp_path}/{name} is not a regular file [{reason}]\n"
    )


def test_log_that_is_a_pipe_without_a_reader_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert run(tmp_path, "--log", str(pipe), "state", "a") == 1
    assert "container a does not exist" in capsys.readouterr().err
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert run(tmp_path, "--log", str(pipe), "state", "a") == 1
    assert b"container a does not exist" in os.read(reader, 200)
    os.close(reader)


def test_bundle_whose_links_lead_in_a_circle_is_told_in_the_engines_log(tmp_path: Path) -> None:
    (tmp_path / "runtime.toml").write_text(operator_toml(tmp_path))
    (tmp_path / "bundle").symlink_to(tmp_path / "bundle")
    settings = ("--config", str(tmp_path / "runtime.toml"), "--log", str(tmp_path / "log"))
    assert run(tmp_path, *settings, "create", "-b", str(tmp_path / "bundle"), "a") == 1
    assert "Too many levels of symbolic links" in (tmp_path / "log").read_text()


def test_folders_above_the_root_are_nobody_elses_to_write_whatever_the_engines_umask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runtime.toml").write_text(operator_toml(tmp_path))
    annotations = {
        INITDATA: encode_annotation(make_document()),
        "org.ccinit.disks": f"{tmp_path}/allowed/none",
    }
    (tmp_path / "config.json").write_text(json.dumps(podman_config(**annotations)))
    settings = ("--config", str(tmp_path / "runtime.toml"), "--log", str(tmp_path / "log"))
    before = os.umask(0)
    try:
        assert run(tmp_path / "x/y", *settings, "create", "-b", str(tmp_path), "a") == 1
    finally:
        os.umask(before)
    assert "allowed/none: No such file" in capsys.readouterr().err  # so a folder was made for it
    for made in ("x", "x/y", "x/y/state", "log"):
        assert not (tmp_path / made).stat().st_mode & 0o022
