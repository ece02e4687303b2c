"""Documents hold together: links and paths lead somewhere, examples are what their readers take.

Command lines in them are `test_readme`'s and `test_guest_owner_readme`'s.
"""

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import parse_guest_config
from ccinit.formats.initdata.guest_files import check_agreement
from ccinit.formats.kbs.rollback_counter import (
    counter_uri,
    parse_counter_advance,
    verify_counter_reply,
)
from ccinit.formats.planes.host_rpc import Code
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from ccinit.formats.pod.resources import name_resources
from ccinit.formats.pod.volume import VolumeKind
from ccinit.formats.signature.image_policy import parse_image_policy
from guest_owner.kbs.passports.issuer import parse_issuer
from guest_owner.kbs.references.requirements import parse_requirements
from guest_owner.kbs.references.values import parse_reference_set
from tests.fakes.documents.guest import CONFIG

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
)
SOURCES = [ROOT / f"{name}/src" for name in ("guest-owner", "host-runtime", "measured-boot")]
SOURCES += [ROOT / "rootfs-builder/src", ROOT / "ccinit"]
LABELS = ("ccinit/log/", "ccinit/workload/", "ccinit/owner/")  # of digests, not paths
FOLDERS = "docs|tests|ccinit|rootfs-builder|measured-boot|host-runtime|guest-owner"
CODE = "".join(path.read_text() for source in SOURCES for path in source.rglob("*.py"))
FAMILIES = set(re.findall(r'Error\(\s*f?"([a-z0-9_]+)\.', CODE))
ENDINGS = (
    "der",
    "example",
    "hex",
    "json",
    "jsonl",
    "key",
    "lock",
    "log",
    "pem",
    "psk",
    "py",
    "toml",
)  # files
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
IN_THE_TREE = re.compile(rf"(?:{FOLDERS})/[\w./-]+|[\w./-]+\.py")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The page's examples in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What the page's headings are called in a link."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def lost_links(page: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and not (
            target.exists() and (not anchor or anchor in anchors(target))
        ):
            yield link


def lost_paths(page: Path) -> Iterator[str]:
    """Paths of the tree in the page's text that are not there, seen from wherever one might."""
    places = [
        ROOT,
        page.parent,
        *SOURCES,
        *(each for source in SOURCES for each in source.iterdir()),
    ]
    places += [ROOT / "tests/unit/guest_owner/trustee", ROOT / "ccinit/agent/jobs"]
    places += [ROOT / "guest-owner/src/guest_owner/kbs", ROOT / "tests/vectors/sealed_log"]
    for path in filter(IN_THE_TREE.fullmatch, re.findall(r"`([^`\n]+)`", prose(page))):
        if not path.startswith(LABELS) and not any((place / path).exists() for place in places):
            yield path


def lost_modules(page: Path) -> Iterator[str]:
    """Full names of modules, or of something in one, that are not there.

    A reason (`pull.blob_digest`) and a key (`kbs.url`) look like a name within a package, so these
    are nobody's to find.
    """
    for name in re.findall(r"`(\w+(?:\.\w+)+)`", prose(page)):
        first, *rest = name.split(".")
        sources = [ROOT, *(source for source in SOURCES if source.name == "src")]
        homes = [source / first for source in sources if any((source / first).glob("*.py"))]
        if homes and rest != ["toml"] and not has_module(homes[0], rest):
            yield name


def has_module(home: Path, rest: list[str]) -> bool:
    """Whether a package has that module; the last word may be something in one."""
    return any(
        home.joinpath(*part).is_dir() or home.joinpath(*part).with_suffix(".py").is_file()
        for part in (rest, rest[:-1])
        if part
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_paths_and_modules_of_a_page_are_there(page: Path) -> None:
    assert [*lost_links(page), *lost_paths(page), *lost_modules(page)] == []


def test_links_paths_and_modules_that_are_not_there_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b`\n[x](#a-b) [x](page.md#a) [x](y.md) `docs/none.md` `docs/storage.md`\n"
        "`ccinit.agent.guest` `ccinit.init.none` `measured_boot.none` "
        "`measured_boot.tpm.pcr.replay`\n"
    )
    assert list(lost_links(page)) == ["page.md#a", "y.md"]
    assert list(lost_paths(page)) == ["docs/none.md"]
    assert list(lost_modules(page)) == ["measured_boot.none"]


_BEGINNING = 70  # characters of an entry, by which two are one


def twice(changelog: str) -> set[str]:
    """Return how entries begin of which there are two: an entry, and what it was before."""
    begun = [line[:_BEGINNING] for line in changelog.splitlines() if line.startswith("* ")]
    return {one for one in begun if begun.count(one) > 1}


def test_changelog_says_nothing_twice() -> None:
    assert twice("* A disk that is full is named.\n* A disk that is read-only is told.\n") == set()
    entry = "* A key that an image policy names and the pod has as a file is taken once"
    assert twice(f"{entry}.\n\n{entry} (`policy.key`).\n") == {entry[:_BEGINNING]}
    assert twice((ROOT / "CHANGELOG.md").read_text()) == set()


def test_every_page_is_named_by_one_that_is_read_before() -> None:
    read, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        read.add(page)
        text = page.read_text()
        waiting += [other for other in set(PAGES) - read - set(waiting)
                    if name_of(other) in text or f"]({other.name})" in text]  # fmt: skip
    (decisions,) = {page.parent for page in PAGES if page.parent.name == "decisions"}
    assert f"{name_of(decisions)}/" in (ROOT / "README.md").read_text()
    unread = {page for page in PAGES if decisions not in page.parents} - read
    assert {name_of(page) for page in unread if ROOT / "tests" not in page.parents} == set()


def check_shell(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


PARSERS: dict[str, Callable[[str], object]] = {
    "toml": tomllib.loads,
    "json": json.loads,
    "python": ast.parse,
    "sh": check_shell,
}


@pytest.mark.parametrize("language", PARSERS)
def test_examples_are_in_the_language_that_they_name(language: str) -> None:
    found = [block for page in PAGES for block in blocks(page, language)]
    assert found
    for block in found:
        PARSERS[language](block)


def complete(example: str) -> str:
    """Put something of the right form where an example has an ellipsis."""
    filled = example.replace("@sha256:…", f"@sha256:{64 * '0'}")
    filled = re.sub(r'(root_hash|salt) = "…"', f'\\1 = "{64 * "0"}"', filled)
    return filled.replace('"…"', '"-----BEGIN CERTIFICATE-----"')


def manifest(example: str) -> PodManifest:
    """Parse a part of a pod.toml within the least that one has."""
    image = "" if "[[image]]" in example else (
        '[[image]]\nname = "web"\nreference = "r.example/web@sha256:…"\nca = "…"\n'
    )  # fmt: skip
    head = 'version = 1\nname = "shop"\n'
    return parse_pod_manifest(
        complete(f'{head}{image}[[container]]\nname = "web"\nimage = "web"\n{example}')
    )


def test_examples_of_volumes_and_registries_are_what_a_guest_takes() -> None:
    (volumes,) = blocks(ROOT / "docs/storage.md", "toml")
    assert len(manifest(volumes).volumes) == volumes.count("[[volume]]") == 4
    check_agreement(parse_guest_config(CONFIG), manifest(volumes))
    (registries,) = blocks(ROOT / "docs/registries.md", "toml")
    assert len(manifest(registries).registries) == 1
    (signed,) = blocks(ROOT / "docs/image-policy.md", "toml")
    assert manifest(signed).images[0].policy is not None
    (policy,) = blocks(ROOT / "docs/image-policy.md", "json")
    assert parse_image_policy(policy.replace("<base64 of cosign.pub>", "a2V5").encode())


def test_example_of_a_whole_pod_is_one_that_a_guest_takes() -> None:
    pod = parse_pod_manifest((ROOT / "docs/examples/pod.toml").read_text())
    assert len(name_resources(pod)) == 5
    assert {volume.kind for volume in pod.volumes} == {VolumeKind.SCRATCH, VolumeKind.PERSISTENT}


def test_every_code_that_a_host_can_see_is_explained() -> None:
    (chapter,) = re.findall(
        r"^## When a guest ends$(.*?)(?=^## |\Z)",
        (ROOT / "docs/operations.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    explained = " ".join(re.findall(r"^\| ([A-Z_, ]+) \|", chapter, re.MULTILINE)).replace(",", "")
    assert sorted(explained.split()) == sorted(code.name for code in Code if code is not Code.OK)


def test_reasons_that_are_explained_are_those_of_the_code() -> None:
    (chapter,) = re.findall(
        r"^## Reasons and remedies$(.*?)(?=^## |\Z)",
        (ROOT / "docs/operations.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    columns = re.findall(r"^\| ([^|]+) \|", chapter, re.MULTILINE)
    reasons = {one for text in columns for one in re.findall(r"`([a-z0-9_]+\.[a-z0-9_.]+)`", text)}
    put_together = ("crun.", "scratch.integrity", "volume.integrity")  # of two words, when it is so
    assert len(reasons) > 40
    assert not sorted(
        one for one in reasons if f'"{one}"' not in CODE and not one.startswith(put_together)
    )


PUT_TOGETHER = re.compile(
    r"(crun|scratch|volume)\.\w+|\w+\.version|(audit\.claims|ccinit|cdh|pod|rcar|process)\..*"
)
"""Reasons of several words of the code (a program, the key of a file); and `process` of the OCI."""


def lost_reasons(page: Path) -> Iterator[str]:
    """Words with a reason's form and family that no code gives; a key or a module is none."""
    text = prose(page) + "".join(blocks(page, "sh"))
    for word in re.findall(r"`([a-z0-9_]+\.[a-z0-9_.]*[a-z0-9_])`", text):
        family, _, rest = word.partition(".")
        place = ROOT / "ccinit" / word.replace(".", "/")
        if (
            family in FAMILIES
            and f'"{word}"' not in CODE
            and not PUT_TOGETHER.fullmatch(word)
            and not rest.endswith(ENDINGS)
            and f"`{rest}` |" not in CONFIGURATION
            and not any(path.with_suffix(".py").is_file() for path in (place, place.parent))
        ):
            yield word


def test_reasons_that_pages_name_are_given_by_the_code(tmp_path: Path) -> None:
    assert [(name_of(page), lost) for page in PAGES for lost in lost_reasons(page)] == []
    page = tmp_path / "page.md"
    page.write_text(
        "`pull.blob_digest` `pull.digest` `net.tls_server` `log.batch_ms` `policy.toml`"
    )
    assert list(lost_reasons(page)) == ["pull.digest"]


def test_examples_of_what_an_owner_registers_are_what_the_kbs_takes() -> None:
    guest_owner = ROOT / "guest-owner/README.md"
    (issuer,) = blocks(guest_owner, "toml")
    assert parse_issuer(issuer.encode()).issuer == "https://shop.eus.attest.azure.net"
    (demands,) = blocks(ROOT / "docs/operations.md", "toml")
    assert parse_requirements(demands.encode(), Tee.SNP)
    values = blocks(guest_owner, "json")
    platforms = [parse_reference_set(with_digits(value).encode()).measured.tee for value in values]
    assert platforms == [Tee.TPM, Tee.SNP, Tee.TDX, Tee.SE, Tee.SAMPLE]


def test_messages_about_a_rollback_counter_are_what_both_sides_take() -> None:
    text = prose(ROOT / "guest-owner/README.md")
    reply, advance = (one.replace(": N", ": 1") for one in re.findall(r'`(\{"v": 1, .*?\})`', text))
    reply = reply.replace("POD/VOLUME", "pod/volume")
    assert verify_counter_reply(reply.encode(), counter_uri("pod", "volume")) == 1
    assert parse_counter_advance(advance.replace("…", "aGhoaGhoaGhoaGhoaGhoaA").encode()).to == 1


def with_digits(values: str) -> str:
    """Put digits where reference values have ellipses, as many as each member has."""
    document = json.loads(values)

    def fill(name: str, value: object) -> object:
        match value:
            case dict():
                return {key: fill(f"{name}.{key}", each) for key, each in value.items()}
            case list():
                return [fill(name, each) for each in value]
            case str() if "…" in value:
                long = name.startswith((".pld", ".ald", ".tld"))
                size = 128 if long else 32 if name == ".tag" else 64 if ".pcr" in name else 96
                return size * "1"
        return value

    return json.dumps(fill("", document))
