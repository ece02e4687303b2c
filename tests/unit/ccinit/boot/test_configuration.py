"""Reading initdata from the host's disks: exactly one document, or the reason why not."""

import errno
import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.processes.channel import Kind, encode_frame
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.boot.configuration import (
    Configuration,
    InitdataDocument,
    ReadInitdata,
    initdata_job,
    parse_configuration,
)
from ccinit.errors import CcinitError, KernelError
from ccinit.formats.encoding import wire
from ccinit.formats.encoding.fields import MAX_ITEMS
from ccinit.formats.encoding.pem import MAX_PEM_BYTES
from ccinit.formats.initdata.document import (
    HEADER_BYTES,
    MAGIC,
    MAX_DOCUMENT_BYTES,
    encode_device_image,
)
from tests.fakes.documents.coco import (
    AA,
    BARE_CONFIG,
    BARE_POD,
    CDH,
    CERTIFICATE,
    WHOLE_POD,
    document_of,
)
from tests.fakes.documents.guest import CONFIG, FULL_POD
from tests.faults.plugin import FaultSeen

DOCUMENT = b'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n"ccinit.toml" = ""\n"pod.toml" = ""\n'
IMAGE = encode_device_image(DOCUMENT)
MEMBER_BYTES = int.from_bytes(IMAGE[len(MAGIC) : HEADER_BYTES], "little")
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


def read_initdata(fds: tuple[int, ...]) -> InitdataDocument:
    channel: Any = SimpleNamespace(fds={str(index): fd for index, fd in enumerate(fds)})
    return initdata_job(ReadInitdata(), channel)


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
def test_r02_r06_r10_initdata_that_is_not_one_document_is_refused(
    tmp_path: Path, contents: tuple[bytes, ...], reason: str
) -> None:
    with disks(tmp_path, *contents) as fds, pytest.raises(CcinitError) as caught:
        read_initdata(fds)
    assert caught.value.reason == reason


Pread = Callable[[int, int, int], bytes]


def have_pread(monkeypatch: pytest.MonkeyPatch, pread: Pread) -> None:
    """Put the host between the guest and its disks."""
    monkeypatch.setattr("ccinit.boot.configuration.os.pread", pread)


@pytest.mark.parametrize("place", [0, 7, 8, 15, 16, HEADER_BYTES + MEMBER_BYTES - 1])
@pytest.mark.parametrize("beside", [(), (BLANK,), (IMAGE,)])
def test_r03_initdata_disk_that_fails_anywhere_is_an_error_and_no_absence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: int,
    beside: tuple[bytes, ...],
    fault_seen: FaultSeen,
) -> None:
    """Neither what was read before that place nor another disk stands in for it."""
    original = os.pread

    def pread(fd: int, length: int, offset: int) -> bytes:
        if fd != bad or offset > place or offset + length <= place:
            return original(fd, length, offset)
        if offset == place:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(fd, place - offset, offset)

    with disks(tmp_path, IMAGE, *beside) as fds:
        bad = -1
        have_pread(monkeypatch, pread)
        if beside != (IMAGE,):
            assert read_initdata(fds).document == DOCUMENT
        bad = fds[0]
        with pytest.raises(CcinitError) as caught:
            read_initdata(fds)
    if beside == (IMAGE,) and place >= len(MAGIC):
        assert caught.value.reason == "config.ambiguous"  # it is never read so far
        return
    assert isinstance(caught.value, KernelError)
    assert (caught.value.reason, caught.value.errno) == ("kernel.pread", errno.EIO)
    fault_seen.guest(caught.value.reason)


def test_r08_initdata_disk_that_changes_between_reads_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the magic is looked at twice: there is no second reading that could differ."""
    original, asked = os.pread, list[tuple[int, int]]()
    other = encode_device_image(DOCUMENT.replace(b"sha256", b"sha384"))
    reads = [(0, len(MAGIC)), (0, HEADER_BYTES), (HEADER_BYTES, MEMBER_BYTES)]

    def pread(fd: int, length: int, offset: int) -> bytes:
        asked.append((offset, length))
        if len(asked) > len(reads):
            return other[offset : offset + length]
        return original(fd, length, offset)

    with disks(tmp_path, IMAGE) as fds:
        have_pread(monkeypatch, pread)
        assert read_initdata(fds).document == DOCUMENT
    assert asked == reads


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


def test_longest_configuration_fits_into_the_reply_of_the_child_that_parses_it() -> None:
    """Roots that `cdh.toml` gives once are in each image's part of the reply."""
    roots = CERTIFICATE + "x" * (MAX_PEM_BYTES - len(CERTIFICATE) - 1)
    image = BARE_POD.partition("[[image]]")[2].partition("[[container]]")[0]
    more = "".join(
        f"[[image]]{image.replace('web', f'web-{number}', 1)}" for number in range(1, MAX_ITEMS)
    )
    container = '[[container]]\nname = "{}"\nimage = "web"\nargs = {}\n'
    arguments = ["a" * 4096] * MAX_ITEMS
    long = "".join(container.format(f"long-{number}", arguments) for number in range(3))
    document = document_of(
        {
            "ccinit.toml": CONFIG,
            "pod.toml": f"{BARE_POD}{more}{long}",
            "cdh.toml": f"[image]\nextra_root_certificates = ['''{roots}''']\n",
        }
    )
    assert MAX_DOCUMENT_BYTES * 3 // 4 < len(document) <= MAX_DOCUMENT_BYTES
    configuration = parse_configuration(document)
    assert [len(one.ca_pem) for one in configuration.manifest.images] == [MAX_PEM_BYTES] * MAX_ITEMS
    frame = encode_frame(Kind.RESULT, configuration)
    assert len(frame) <= RIGHTS[Role.CONFIG].reply_bytes
