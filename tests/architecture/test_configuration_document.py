"""docs/configuration.md names every key that a guest's files may have, its default, and no other.

Which keys those are is found out by parsing a whole example of each while every question to a table
is written down.
"""

import base64
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ccinit.boot.configuration import parse_configuration
from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.evidence.tee import Tee, initdata_binding
from ccinit.formats.initdata.coco_config import _INSTEAD, parse_coco_settings
from ccinit.formats.initdata.document import (
    DISK_ALIGNMENT_BYTES,
    HEADER_BYTES,
    decompress_document,
    parse_header,
)
from ccinit.formats.initdata.guest_config import parse_guest_config
from ccinit.formats.kbs.envelope import EnvelopeKind, verify_envelope
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.run.seccomp_profile import REFUSED_UNASKED
from ccinit.run.spec import DEFAULT_PIDS
from ccinit.values import replace
from tests.fakes.documents.coco import AA, CDH
from tests.fakes.documents.guest import CONFIG, FULL_POD, LOG_KEY, VERITY

DOCUMENT = Path("docs/configuration.md").read_text(encoding="utf-8")
EVERY_TABLE = {
    "ccinit": CONFIG.replace(
        "[log]",
        "[kbs.passport]\nservice = 'azure-attestation'\nurl = 'https://a.example'\n"
        "ca = '-----BEGIN CERTIFICATE-----'\n[log]",
    )
    + "[owner]\nclient_ca = '-----BEGIN CERTIFICATE-----'\n[start]\n[limits]\n"
    + f"[debug.tools]\nroot_hash = '{'00' * 32}'\nsalt = '{'00' * 32}'\ndata_blocks = 2\n",
    "pod": FULL_POD.replace('secrets/token"\n', 'secrets/token"\nrotate = true\n')
    + VERITY
    + "[allow]\n[rotate]\nevery_seconds = 60\n[share]\n",
}
PARSERS: dict[str, Callable[[str], object]] = {
    "ccinit": parse_guest_config,
    "pod": parse_pod_manifest,
}


def documented(name: str) -> dict[str, set[str]]:
    """Keys by table, as the page has them."""
    page = re.split(r"^# ", DOCUMENT, flags=re.MULTILINE)
    (chapter,) = (one for one in page if one.startswith(f"{name}.toml\n"))
    top, *tables = re.split(r"^## ", chapter, flags=re.MULTILINE)
    found = {name: keys_of(top)}
    for table in tables:
        title = table.partition("\n")[0].strip("[] ")
        found[f"{name}.{title}"] = keys_of(table)
    return found


def keys_of(text: str) -> set[str]:
    keys = re.findall(r"^\| `([a-z0-9_-]+)` \|", text, flags=re.MULTILINE)
    assert len(set(keys)) == len(keys)
    return set(keys)


def asked(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Keys by table, as the parser asks for them, but for tables within."""
    found: dict[str, set[str]] = {}

    def noting(method: str) -> None:
        original = getattr(Fields, method)

        def note(self: Fields, key: str) -> object:
            found.setdefault(self._where, set()).add(key)
            return original(self, key)

        monkeypatch.setattr(Fields, method, note)

    noting("has")
    noting("_take")
    PARSERS[name](EVERY_TABLE[name])
    found[name] -= {where.split(".")[1] for where in found if where != name}  # headings
    return found


@pytest.mark.parametrize("name", ["ccinit", "pod"])
def test_document_has_the_keys_that_the_parser_asks_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert documented(name) == asked(name, monkeypatch)


def places_of_keys(text: str) -> list[int]:
    """The beginnings of all tables, the top one among them."""
    return [0, *(heading.end() for heading in re.finditer(r"^\[.*\]\n", text, re.MULTILINE))]


@pytest.mark.parametrize(
    ("name", "place"),
    [(name, place) for name, text in EVERY_TABLE.items() for place in places_of_keys(text)],
)
def test_every_table_refuses_a_key_that_it_does_not_know(name: str, place: int) -> None:
    text = EVERY_TABLE[name]
    PARSERS[name](text)
    with pytest.raises(FormatError) as refused:
        PARSERS[name](f"{text[:place]}stranger = 1\n{text[place:]}")
    where, _, what = refused.value.reason.rpartition(".")
    if what != "unknown":  # but for variables, whose names are the owner's
        assert (where, what) == ("pod.container", "env")
        assert text[:place].endswith("[container.env]\n")


UNITS = {"MiB": 1 << 20, "GiB": 1 << 30}


def defaults_in_document(name: str) -> dict[tuple[str, str], str]:
    """What the page says of each key that has a default of its own, by table and key."""
    page = re.split(r"^# ", DOCUMENT, flags=re.MULTILINE)
    (chapter,) = (one for one in page if one.startswith(f"{name}.toml\n"))
    found = {}
    for table in re.split(r"^## ", chapter, flags=re.MULTILINE):
        title = table.partition("\n")[0].strip("[] ")
        where = name if title == f"{name}.toml" else f"{name}.{title}"
        for key, default in re.findall(
            r"^\| `([a-z_]+)` \| (`[\w+-]+`|0o\d+|\d+|\d+ [MG]iB) \|", table, re.MULTILINE
        ):
            found[where, key] = default.strip("`")
    return found


def as_written(value: object) -> set[str]:
    """The ways in which the page may write a default."""
    if isinstance(value, bool):
        return {str(value).lower()}
    if isinstance(value, int):
        sizes = {f"{value // unit} {name}" for name, unit in UNITS.items() if value % unit == 0}
        return {str(value), oct(value)} | sizes
    return {str(value)}


@pytest.mark.parametrize("name", ["ccinit", "pod"])
def test_document_has_the_defaults_that_the_parser_goes_by(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    meant: dict[tuple[str, str], object] = {}

    def noting(method: str) -> None:
        original = getattr(Fields, method)

        def note(self: Fields, key: str, *given: object, **named: object) -> object:
            if named.get("default") is not None:
                meant[self._where, key] = named["default"]
            return original(self, key, *given, **named)

        monkeypatch.setattr(Fields, method, note)

    for method in ("integer", "boolean", "choice"):
        noting(method)
    PARSERS[name](EVERY_TABLE[name])
    meant |= {where: DEFAULT_PIDS for where in meant if where[1] == "pids"}
    page = defaults_in_document(name)
    said = {key: default for key, default in page.items() if key in meant}
    assert len(said) > 10
    assert {
        key: default for key, default in said.items() if default not in as_written(meant[key])
    } == {}
    # What stands for something that the parser does not know ("the pod's") is 0 there.
    assert {key for key, default in meant.items() if key not in said and default} == set()


def test_document_has_the_keys_of_cocos_files_that_are_taken_and_that_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chapter = DOCUMENT.partition("\n# aa.toml and cdh.toml\n")[2]
    taken, refused = (
        set(re.findall(r"`((?:aa|cdh)\.[a-z_.]+)`", "".join(rows)))
        for rows in (
            re.findall(r"^\| `(?:aa|cdh)\..*", table, re.MULTILINE)
            for table in chapter.split("All other keys are refused")
        )
    )
    read: set[str] = set()

    def note(self: Fields, key: str) -> object:
        read.add(f"{self._where}.{key}")
        return take(self, key)

    take = Fields._take
    monkeypatch.setattr(Fields, "_take", note)
    parse_coco_settings(AA, CDH)
    read -= {"aa.token_configs", "aa.token_configs.kbs", "cdh.kbc", "cdh.image"}  # tables
    assert taken - {"aa.toml"} == read
    assert refused == {f"{where}.{key}" for where, keys in _INSTEAD.items() for key in keys}


def example(language: str, number: int = 0) -> str:
    found: list[str] = re.findall(f"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    return found[number]


def smallest_config() -> str:
    """Put a key and a certificate into the page's first example."""
    key = base64.b64encode(LOG_KEY).decode()
    return example("toml").replace('key = "…"', f'key = "{key}"').replace("\n…\n", "\nx\n")


def test_document_and_disk_are_made_by_the_page_alone(tmp_path: Path) -> None:
    document = example("toml", 1).replace("…\n", smallest_config(), 1).replace("…\n", FULL_POD, 1)
    (tmp_path / "initdata.toml").write_text(document)
    subprocess.run(["bash", "-euc", example("sh")], cwd=tmp_path, check=True)
    image = (tmp_path / "initdata.img").read_bytes()
    assert len(image) % DISK_ALIGNMENT_BYTES == 0
    member = image[HEADER_BYTES:][: parse_header(image[:HEADER_BYTES])]
    assert decompress_document(member) == document.encode()
    found = parse_configuration(document.encode())
    assert (found.algorithm, found.manifest) == ("sha256", parse_pod_manifest(FULL_POD))


def test_page_says_which_platforms_have_which_algorithm() -> None:
    (line,) = re.findall("^`algorithm` is `sha384` on (.*), else `sha256`", DOCUMENT, re.MULTILINE)
    assert set(re.findall("`([a-z0-9-]+)`", line)) == {
        tee for tee in Tee if initdata_binding(tee).algorithm == "sha384"
    }


def test_envelope_of_the_page_is_one_that_a_guest_takes() -> None:
    body = example("json").replace("…", base64.b64encode(bytes(64)).decode()).encode()
    uri = parse_resource_uri("kbs:///ccinit/shop/volume-key-data", "uri")
    assert verify_envelope(body, uri, EnvelopeKind.VOLUME_KEY).data == bytes(64)
    chapter = DOCUMENT.partition("\n# Envelopes\n")[2]
    assert keys_of(chapter) == set(EnvelopeKind)


def test_document_begins_with_a_config_that_a_guest_takes() -> None:
    config, least = parse_guest_config(smallest_config()), parse_guest_config(CONFIG)
    assert config.kbs.url == "https://192.0.2.7:8443"
    kbs = replace(config.kbs, url=least.kbs.url, ca_pem=least.kbs.ca_pem)
    assert replace(config, kbs=kbs) == least


def test_document_lists_the_system_calls_that_are_refused_unasked() -> None:
    (line,) = re.findall(
        r"^\| `allow` \| `\[\]` \| pass: (.*), and what fails", DOCUMENT, re.MULTILINE
    )
    assert line.split(", ") == sorted(
        name for _, names in REFUSED_UNASKED for name in names.split()
    )
