"""Annotations over the operator's defaults: what is chosen, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from host_runtime.oci_runtime.guest_choice import (
    COCO_INITDATA,
    ChosenDisk,
    choose_guest,
    read_scratch_sizes,
)
from host_runtime.oci_runtime.operator_config import Choice, OperatorConfig, parse_operator_config
from tests.fakes.documents.guest import FULL_POD, VERITY
from tests.fakes.documents.oci_bundles import (
    INITDATA,
    encode_annotation,
    make_document,
    operator_toml,
)

DOCUMENT = make_document()
TEXT = encode_annotation(DOCUMENT)
CONFIG = parse_operator_config(operator_toml().encode())


def with_choices(*choices: Choice) -> OperatorConfig:
    return replace(CONFIG, allow=replace(CONFIG.allow, choices=frozenset(choices)))


@pytest.mark.parametrize("key", [INITDATA, COCO_INITDATA])
def test_document_is_taken_from_either_annotation(key: str) -> None:
    choice = choose_guest({key: TEXT, "other": "x"}, CONFIG)
    assert choice.document == DOCUMENT
    assert (choice.image.name, choice.memory_mib, choice.vcpus) == ("prod", 1024, 1)
    assert choice.disks == ()


def test_every_choice_is_taken() -> None:
    choice = choose_guest(
        {
            "org.ccinit.initdata_file": "/srv/allowed/pod.toml",
            "org.ccinit.image": "snp",
            "org.ccinit.memory_mib": "4096",
            "org.ccinit.vcpus": "4",
            "org.ccinit.disks": "/srv/allowed/a.img,/srv/allowed/b.img:ro",
        },
        CONFIG,
    )
    assert choice.document == Path("/srv/allowed/pod.toml")
    assert (choice.image.name, choice.memory_mib, choice.vcpus) == ("snp", 4096, 4)
    assert choice.disks == (
        ChosenDisk(path=Path("/srv/allowed/a.img"), is_read_only=False),
        ChosenDisk(path=Path("/srv/allowed/b.img"), is_read_only=True),
    )


def test_operators_document_is_the_default() -> None:
    config = replace(CONFIG, defaults=replace(CONFIG.defaults, initdata=Path("/etc/pod.toml")))
    assert choose_guest({}, config).document == Path("/etc/pod.toml")
    assert choose_guest({INITDATA: TEXT}, config).document == DOCUMENT


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ({"org.ccinit.cpus": "1"}, "annotation.unknown"),
        ({COCO_INITDATA: TEXT}, "annotation.twice"),
        ({"org.ccinit.initdata_file": "/srv/allowed/x"}, "annotation.twice"),
        ({INITDATA: TEXT[:-1]}, "annotation.initdata"),
        ({INITDATA: "A" * 1_400_000}, "annotation.initdata"),
        ({INITDATA: "AAAA"}, "initdata.gzip"),
        ({"org.ccinit.image": "none"}, "runtime.image"),
        ({"org.ccinit.memory_mib": "4097"}, "annotation.memory_mib"),
        ({"org.ccinit.memory_mib": "1e3"}, "annotation.memory_mib"),
        ({"org.ccinit.memory_mib": "0"}, "annotation.memory_mib"),
        ({"org.ccinit.vcpus": "5"}, "annotation.vcpus"),
        ({"org.ccinit.disks": "/srv/other/a.img"}, "annotation.folder"),
        ({"org.ccinit.disks": "/srv/allowed/../a.img"}, "annotation.disks"),
        ({"org.ccinit.disks": "allowed/a.img"}, "annotation.disks"),
        ({"org.ccinit.disks": "/srv/allowed/a=b"}, "annotation.disks"),
        ({"org.ccinit.disks": "/srv/allowed/a,/srv/allowed/a:ro"}, "annotation.disks"),
        ({"org.ccinit.disks": ",".join(["/srv/allowed/a"] * 17)}, "annotation.disks"),
    ],
)
def test_annotation_that_cannot_be_honoured_is_refused(
    annotations: dict[str, str], reason: str
) -> None:
    assert choose_guest({INITDATA: TEXT}, CONFIG)
    with pytest.raises(CcinitError) as error:
        choose_guest({INITDATA: TEXT, **annotations}, CONFIG)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("choice", "key", "value"),
    [
        (Choice.INITDATA, INITDATA, TEXT),
        (Choice.INITDATA, COCO_INITDATA, TEXT),
        (Choice.INITDATA_FILE, "org.ccinit.initdata_file", "/srv/allowed/x"),
        (Choice.IMAGE, "org.ccinit.image", "prod"),
        (Choice.MEMORY, "org.ccinit.memory_mib", "1"),
        (Choice.VCPUS, "org.ccinit.vcpus", "1"),
        (Choice.DISKS, "org.ccinit.disks", "/srv/allowed/x"),
    ],
)
def test_choice_is_for_those_whom_the_operator_allows_it(
    choice: Choice, key: str, value: str
) -> None:
    others = {} if choice in {Choice.INITDATA, Choice.INITDATA_FILE} else {INITDATA: TEXT}
    assert choose_guest({**others, key: value}, with_choices(choice, Choice.INITDATA))
    with pytest.raises(CcinitError) as error:
        choose_guest({**others, key: value}, with_choices(*set(Choice) - {choice}))
    assert error.value.reason == "annotation.denied"


def test_guest_without_a_document_is_refused() -> None:
    with pytest.raises(CcinitError) as error:
        choose_guest({}, CONFIG)
    assert error.value.reason == "annotation.initdata"


def test_scratch_is_what_the_document_declares() -> None:
    assert read_scratch_sizes(DOCUMENT) == (1 << 30,)
    assert read_scratch_sizes(make_document(FULL_POD + VERITY)) == (1 << 30,)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"0.1.0", b"0.2.0", "initdata.version"),
        (b"kind = ", b"sort = ", "pod.volume.kind"),
        (b"envelope", b"wrapper", "ccinit.kbs.envelope"),
        (b"[data]", b'[data]\n"policy.rego" = ""', "initdata.data.policy.rego"),
    ],
)
def test_document_that_the_guest_would_stop_for_is_refused(
    old: bytes, new: bytes, reason: str
) -> None:
    assert old in DOCUMENT
    with pytest.raises(CcinitError) as error:
        read_scratch_sizes(DOCUMENT.replace(old, new))
    assert error.value.reason == reason
