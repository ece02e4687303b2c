"""`guest-owner manifest` with CoCo's files beside the manifest."""

from pathlib import Path

import pytest

from ccinit.formats.initdata.document import document_digest
from tests.fakes.documents.coco import AA, BARE_CONFIG, BARE_POD, CDH, KBC
from tests.unit.guest_owner.command_line import error_of, run
from tests.unit.guest_owner.commands.manifest_documents import CONFIG, with_roots


@pytest.fixture
def coco(tmp_path: Path) -> tuple[object, ...]:
    """What `check` and `digest` are given for a pod whose KBS and roots CoCo's files name."""
    texts = {"pod": BARE_POD, "ccinit": BARE_CONFIG, "aa": AA, "cdh": CDH}
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(with_roots(text))
    pod, *options = (tmp_path / f"{name}.toml" for name in texts)
    return (pod, *sum(zip(("--config", "--aa", "--cdh"), options, strict=True), ()))


def test_manifest_with_cocos_files_is_checked_as_the_guest_would(
    tmp_path: Path, coco: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("manifest", "check", *coco) == 0
    assert "would accept" in capsys.readouterr().out
    assert run("manifest", "check", *coco[:-2]) == 1
    assert "[pod.image.ca]" in error_of(capsys)
    (tmp_path / "cdh.toml").write_text(with_roots(KBC) + "[image]\nwork_dir = '/run'\n")
    assert run("manifest", "check", *coco) == 1
    assert "[cdh.image.work_dir]" in error_of(capsys)
    (tmp_path / "cdh.toml").write_text(with_roots(CDH))
    (tmp_path / "ccinit.toml").write_text(CONFIG)
    assert run("manifest", "check", *coco) == 1
    assert "[ccinit.kbs.twice]" in error_of(capsys)


def test_digest_is_of_the_document_with_cocos_files(
    tmp_path: Path, coco: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("manifest", "digest", *coco) == 0
    printed = capsys.readouterr().out
    document = tmp_path / "initdata.toml"
    options = ("--pod", coco[0], *coco[1:], "--output", document)
    assert run("initdata", "make", *options) == 0
    assert document_digest(document.read_bytes(), "sha256").hex() in printed


@pytest.mark.parametrize(
    ("file", "wrong", "detail"),
    [
        ("aa", "[token_configs", "not TOML"),
        ("cdh", "[token_configs", "not TOML"),
        ("aa", "[token_configs]\n[token_configs.kbs]\nurl = 'http://a'\n", "expected https://"),
        ("cdh", CDH.replace("cc_kbc", "offline_fs_kbc"), "only cc_kbc attests"),
        ("cdh", CDH.replace("kbs.example", "other.example"), "url is another than in aa.toml"),
    ],
)
def test_error_in_one_of_cocos_files_says_which_file_it_is(
    file: str,
    wrong: str,
    detail: str,
    tmp_path: Path,
    coco: tuple[object, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    make = ("initdata", "make", "--pod", *coco, "--output", tmp_path / "initdata.toml")
    commands = [("manifest", "check", *coco), ("manifest", "digest", *coco), make]
    assert [run(*command) for command in commands] == [0, 0, 0]
    path = tmp_path / f"{file}.toml"
    path.write_text(with_roots(wrong))
    capsys.readouterr()
    for command in commands:
        assert run(*command) == 1
        assert error_of(capsys).startswith(f"guest-owner: {path}: {detail}")
