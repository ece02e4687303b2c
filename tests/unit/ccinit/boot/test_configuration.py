"""Reading initdata from the host's disks: exactly one document, or the reason why not."""

import gzip
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ccinit.boot.configuration import Configuration, parse_configuration, read_initdata
from ccinit.errors import CcinitError
from ccinit.formats.encoding import wire
from ccinit.formats.initdata.document import encode_device_image
from tests.fakes.coco_documents import AA, BARE_CONFIG, BARE_POD, CDH, WHOLE_POD, document_of
from tests.fakes.documents import CONFIG, FULL_POD

DOCUMENT = b'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n"ccinit.toml" = ""\n"pod.toml" = ""\n'
IMAGE = encode_device_image(DOCUMENT)
BLANK = bytes(4096)


@contextmanager
def disks(folder: Path, *contents: bytes) -> Iterator[tuple[int, ...]]:
    with ExitStack() as stack:
        fds = []
        for number, content in enumerate(contents):
            path = folder / f"disk{number}"
            path.write_bytes(content)
            fds.append(os.open(path, os.O_RDONLY))
            stack.callback(os.close, fds[-1])
        yield tuple(fds)


def test_initdata_is_found_wherever_its_disk_stands(tmp_path: Path) -> None:
    with disks(tmp_path, BLANK, IMAGE, b"") as fds:
        found = read_initdata(fds)
    assert (found.disk, found.document) == (1, DOCUMENT)


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        pytest.param((BLANK, b""), "config.absent", id="none"),
        pytest.param((IMAGE, IMAGE), "config.ambiguous", id="two"),
        pytest.param((IMAGE[:12],), "initdata.magic", id="header-cut"),
        pytest.param((IMAGE[:40],), "initdata.gzip", id="member-cut"),
        pytest.param((b"initdata" + b"\xff" * 8 + BLANK,), "initdata.length", id="length"),
        pytest.param(
            (
                b"initdata"
                + len(bomb := gzip.compress(bytes(1 << 22))).to_bytes(8, "little")
                + bomb,
            ),
            "initdata.size",
            id="bomb",
        ),
    ],
)
def test_initdata_that_is_not_one_document_is_refused(
    tmp_path: Path, contents: tuple[bytes, ...], reason: str
) -> None:
    with disks(tmp_path, *contents) as fds, pytest.raises(CcinitError) as caught:
        read_initdata(fds)
    assert caught.value.reason == reason


def test_initdata_disk_that_cannot_be_read_is_an_error_and_no_absence() -> None:
    reader, writer = os.pipe()  # pread fails on a pipe
    try:
        with pytest.raises(CcinitError) as caught:
            read_initdata((reader,))
    finally:
        os.close(reader)
        os.close(writer)
    assert caught.value.reason == "kernel.pread"


def test_configuration_is_both_files_of_the_document() -> None:
    document = (
        'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n'
        f'"ccinit.toml" = """\n{CONFIG}"""\n"pod.toml" = """\n{FULL_POD}"""\n'
    )
    parsed = parse_configuration(document.encode())
    assert parsed.algorithm == "sha256"
    assert parsed.manifest.name == "demo"
    assert parsed.config.kbs.url == "https://kbs.example:8443"


def test_configuration_with_cocos_files_is_the_same_for_whoever_gets_it() -> None:
    def parse(files: dict[str, str]) -> Configuration:
        return parse_configuration(document_of(files))

    own = parse({"ccinit.toml": CONFIG, "pod.toml": WHOLE_POD})
    coco = {"ccinit.toml": BARE_CONFIG, "pod.toml": BARE_POD, "aa.toml": AA, "cdh.toml": CDH}
    assert wire.encode(parse(coco)) == wire.encode(own)
    for name, reason in (("aa.toml", "aa.unknown"), ("cdh.toml", "cdh.image.unknown")):
        with pytest.raises(CcinitError) as caught:
            parse(coco | {name: f"{coco[name]}\n{'[x]' if name == 'aa.toml' else 'x = 1'}\n"})
        assert caught.value.reason == reason


def test_configuration_with_a_wrong_file_is_refused_by_that_files_key() -> None:
    document = (
        'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n'
        f'"ccinit.toml" = """\n{CONFIG}"""\n"pod.toml" = "version = 2"\n'
    )
    with pytest.raises(CcinitError) as caught:
        parse_configuration(document.encode())
    assert caught.value.reason == "pod.version"


@pytest.mark.parametrize("envelope", ["required", "none"])
@pytest.mark.parametrize("uri", ["kbs+nebula-ca:///credential?name=pod", "kbs:///a/b/c"])
def test_configuration_with_a_secret_that_has_no_envelope_says_so(envelope: str, uri: str) -> None:
    config = CONFIG.replace('envelope = "required"', f'envelope = "{envelope}"')
    secret = f'[[secret]]\ncontainer = "main"\nuri = "{uri}"\nfile = "/run/credential"\n'
    document = (
        'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n'
        f'"ccinit.toml" = """\n{config}"""\n"pod.toml" = """\n{FULL_POD}{secret}"""\n'
    )
    if envelope == "none" or uri.startswith("kbs:"):
        parsed = parse_configuration(document.encode())
        assert [str(one.uri) for one in parsed.manifest.secrets][-1:] == [uri]
        assert wire.decode(Configuration, wire.encode(parsed)) == parsed
        return
    with pytest.raises(CcinitError) as caught:
        parse_configuration(document.encode())
    assert caught.value.reason == "pod.secret.uri"


@pytest.mark.parametrize("other", ["shop-db", "other"])
def test_resource_that_is_a_volumes_key_is_no_secret_of_a_container(other: str) -> None:
    """The key is wiped once the volume is open, and the secret would be empty."""
    volume = (
        '[[volume]]\nname = "db"\nkind = "persistent"\nsize_bytes = 1073741824\n'
        'key = "kbs:///a/keys/shop-db"\n'
    )
    secret = f'[[secret]]\ncontainer = "main"\nuri = "kbs:///a/keys/{other}"\nfile = "/run/key"\n'
    document = (
        'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n'
        f'"ccinit.toml" = """\n{CONFIG}"""\n"pod.toml" = """\n{FULL_POD}{volume}{secret}"""\n'
    )
    if other == "other":
        assert parse_configuration(document.encode()).manifest.volume("db").name == "db"
        return
    with pytest.raises(CcinitError) as caught:
        parse_configuration(document.encode())
    assert caught.value.reason == "pod.resource"
