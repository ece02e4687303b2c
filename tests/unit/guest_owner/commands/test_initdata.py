"""`guest-owner initdata`, and what `register` makes of its documents."""

import gzip
import hashlib
import re
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
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.state.counters import Counters
from guest_owner.kbs.state.store import Store
from tests.fakes.documents.coco import AA, BARE_CONFIG, BARE_POD, CDH, document_of
from tests.fakes.documents.guest import POD as WITHOUT_ROOTS
from tests.unit.guest_owner.command_line import error_of, run, write
from tests.unit.guest_owner.commands.manifest_documents import CONFIG, POD, with_roots


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
