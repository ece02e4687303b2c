"""What a registry can do wrong with an image, row by row of the threat table (R51 to R55).

Every refusal shows the reason of the check it meets, leaves no file, and is followed by a pull of
the honest image from the same registry.
"""

import json
from dataclasses import replace

import pytest

from ccinit.pull.registry.client import RegistryLimits
from tests.fakes.images.hostile_registry import Fault
from tests.fakes.images.registry import LAYER as TAR
from tests.fakes.images.registry import (
    FakeImage,
    make_image,
    make_index,
)
from tests.fakes.images.tars import Entry, make_tar
from tests.integration.pull.hostile_harness import (
    BLOB,
    CONTENT,
    IMAGE,
    INDEX_TYPE,
    LAYER,
    Harness,
)
from tests.integration.pull.native_pull import overlaid, pulled

ATTEMPTS = RegistryLimits(total_seconds=0).attempts

R51: dict[str, tuple[Fault, str]] = {
    "a byte more": (Fault(body=IMAGE.manifest + b" "), "pull.manifest_digest"),
    "a byte less": (Fault(body=IMAGE.manifest[:-1]), "pull.manifest_digest"),
    "nothing": (Fault(body=b""), "pull.manifest_digest"),
    "another image": (Fault(body=make_image([b"x"]).manifest), "pull.manifest_digest"),
    "beyond its cap": (Fault(body=b" " * (2 << 20)), "pull.blob_size"),
    "without an end": (Fault(body=b" " * 65_536, endless=True), "pull.blob_size"),
}


@pytest.mark.parametrize("name", R51)
def test_r51_manifest_that_is_not_the_pinned_one(hostile: Harness, name: str) -> None:
    fault, reason = R51[name]
    assert hostile.refusal(IMAGE.digest, fault) == reason


def with_manifest(**members: object) -> FakeImage:
    """The image with another manifest, which is pinned: the registry's bytes are the right ones."""
    changed = {**json.loads(IMAGE.manifest), **members}
    return FakeImage(json.dumps(changed).encode(), IMAGE.config, IMAGE.blobs)


def layer_with(**members: object) -> FakeImage:
    (layer,) = json.loads(IMAGE.manifest)["layers"]
    return with_manifest(layers=[{**layer, **members}])


def config_of(media_type: str) -> dict[str, object]:
    return {**json.loads(IMAGE.manifest)["config"], "mediaType": media_type}


R52: dict[str, tuple[FakeImage, str]] = {
    "manifest and index": (with_manifest(manifests=[]), "manifest.ambiguous"),
    "schema 1": (with_manifest(schemaVersion=1), "manifest.schema"),
    "unknown type": (with_manifest(mediaType="text/plain"), "manifest.media_type"),
    "index by its type": (with_manifest(mediaType=INDEX_TYPE), "manifest.media_type"),
    "unknown layer": (layer_with(mediaType="application/zip"), "manifest.layer_type"),
    "no layers": (with_manifest(layers=[]), "manifest.layers"),
    "too many layers": (
        with_manifest(layers=json.loads(IMAGE.manifest)["layers"] * 129),
        "manifest.layers",
    ),
    "no image": (
        with_manifest(config=config_of("application/vnd.oci.empty.v1+json")),
        "manifest.config_type",
    ),
}


@pytest.mark.parametrize("name", R52)
def test_r52_document_that_is_two_things_or_none(hostile: Harness, name: str) -> None:
    image, reason = R52[name]
    assert hostile.pull(hostile.serve(image)) == reason
    assert hostile.pull() is None


def test_r52_content_type_that_contradicts_the_document(hostile: Harness) -> None:
    fault = Fault(headers={"Content-Type": INDEX_TYPE})
    assert hostile.refusal(IMAGE.digest, fault) == "manifest.media_type"


def index_of(*entries: dict[str, object]) -> FakeImage:
    document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": list(entries)}
    return FakeImage(json.dumps(document).encode(), IMAGE.config, IMAGE.blobs, INDEX_TYPE)


(ENTRY,) = json.loads(make_index(IMAGE, platforms=[("linux", "amd64")]))["manifests"]
ABSENT = {**ENTRY, "digest": "sha256:" + "0" * 64}
R53: dict[str, tuple[FakeImage, str | None]] = {
    "one match": (index_of(ENTRY), None),
    "first of two matches": (index_of(ENTRY, ABSENT), None),
    "first match is not there": (index_of(ABSENT, ENTRY), "registry.not_found"),
    "no match": (
        index_of({**ENTRY, "platform": {"os": "linux", "architecture": "arm64"}}),
        "manifest.platform",
    ),
    "index in an index": (index_of({**ENTRY, "mediaType": INDEX_TYPE}), "manifest.nested"),
    "65 entries": (index_of(*[ENTRY] * 65), "manifest.entries"),
    "size of another": (index_of({**ENTRY, "size": 7}), "pull.blob_size"),
}


@pytest.mark.parametrize("name", R53)
def test_r53_index(hostile: Harness, name: str) -> None:
    image, reason = R53[name]
    assert hostile.pull(hostile.serve(image)) == reason


R54: dict[str, tuple[FakeImage, str]] = {
    "one more": (layer_with(size=len(BLOB) + 1), "pull.blob_size"),
    "one less": (layer_with(size=len(BLOB) - 1), "pull.blob_size"),
    "negative": (layer_with(size=-1), "manifest.size"),
    "fraction": (layer_with(size=0.5), "manifest.number"),
    "text": (layer_with(size=str(len(BLOB))), "manifest.size"),
    "truth": (layer_with(size=True), "manifest.size"),
    "beyond the cap": (layer_with(size=1 << 50), "manifest.size"),
    "beyond every integer": (layer_with(size=1 << 70), "manifest.number"),
}


@pytest.mark.parametrize("name", R54)
def test_r54_size_in_a_descriptor(hostile: Harness, name: str) -> None:
    image, reason = R54[name]
    assert hostile.pull(hostile.serve(image)) == reason
    assert hostile.pull() is None


FLIPPED = BLOB[:-9] + bytes([BLOB[-9] ^ 1]) + BLOB[-8:]
R55: dict[str, tuple[Fault, str]] = {
    "flipped bit": (Fault(body=FLIPPED), "pull.blob_digest"),
    "truncated": (Fault(body=BLOB[:-1]), "pull.blob_size"),
    "extended": (Fault(body=BLOB + b"x"), "pull.blob_size"),
    "always cut": (Fault(cut=1000), "net.truncated"),
    "without an end": (Fault(body=BLOB, endless=True), "pull.blob_size"),
    "not there": (Fault(status=404), "registry.not_found"),
    "always busy": (Fault(status=503), "registry.busy"),
    "content coding": (Fault(headers={"Content-Encoding": "gzip"}), "net.encoding"),
    "no end announced": (Fault(headers={"Content-Length": None}), "net.unframed"),
    "headers beyond their cap": (Fault(headers={"X-More": "x" * 70_000}), "net.headers"),
    "no HTTP": (Fault(raw=b"SSH-2.0-OpenSSH\r\n"), "net.truncated"),
}


@pytest.mark.parametrize("name", R55)
def test_r55_blob_that_is_not_what_was_asked_for(hostile: Harness, name: str) -> None:
    fault, reason = R55[name]
    assert hostile.refusal(LAYER, fault) == reason
    tried = sum(LAYER in path for path, _headers in hostile.registry.requests)
    assert tried <= ATTEMPTS + 1  # bounded attempts, and the honest one


PAGES = {
    "without an end": Fault(body=b"<html>", headers={"Content-Length": None}),
    "that is long": Fault(body=b"<html>" + bytes(100_000)),
    "that is packed": Fault(body=b"<html>", headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("name", PAGES)
def test_r55_page_of_a_load_balancer_counts_by_its_status(hostile: Harness, name: str) -> None:
    busy = replace(PAGES[name], status=503)
    for ending in (IMAGE.digest, LAYER):
        hostile.registry.faults = {ending: replace(busy, times=3)}
        assert hostile.pull() is None
        assert hostile.refusal(ending, busy) == "registry.busy"
        assert hostile.refusal(ending, replace(busy, status=404)) == "registry.not_found"


def test_blob_from_a_store_that_tells_how_it_was_uploaded_is_taken(hostile: Harness) -> None:
    hostile.registry.faults[LAYER] = Fault(headers={"Content-Encoding": "aws-chunked"})
    assert hostile.pull() is None


def test_r55_blob_that_is_always_reset(hostile: Harness) -> None:
    # A reset may come before or after what was sent has been read.
    reset = Fault(cut=1000, reset=True)
    assert hostile.refusal(LAYER, reset) in {"net.truncated", "net.closed"}


@pytest.mark.parametrize(
    "fault", [Fault(stall=30), Fault(drip=0.1)], ids=["silence", "a byte at a time"]
)
def test_r55_blob_that_does_not_come_ends_with_the_time(hostile: Harness, fault: Fault) -> None:
    assert hostile.refusal(LAYER, fault, seconds=1) in {"registry.deadline", "net.deadline"}


@pytest.mark.parametrize("reset", [False, True], ids=["cut", "reset"])
@pytest.mark.parametrize("then", [Fault(), Fault(ignore_range=True), Fault(lie_about_range=True)])
def test_r55_blob_that_breaks_at_99_percent_goes_on_and_ends_whole(
    hostile: Harness, then: Fault, *, reset: bool
) -> None:
    first = Fault(cut=len(BLOB) * 99 // 100, times=1, reset=reset)
    hostile.registry.faults = {LAYER: first, "/" + LAYER: then}
    if then.lie_about_range:
        then.times = 1
    with (
        pulled(hostile.reference(), hostile.authority.ca_pem, hostile.work / "pull") as image,
        overlaid(image, hostile.work / "overlay") as merged,
    ):
        assert (merged / "data").read_bytes() == CONTENT
    asked = [headers for path, headers in hostile.registry.requests if LAYER in path]
    assert "range" not in asked[0]
    assert "range" in asked[1]


def test_r55_blob_that_goes_on_in_parts_shorter_than_asked_for_ends_whole(
    hostile: Harness,
) -> None:
    first = Fault(cut=len(BLOB) // 2, times=1)
    hostile.registry.faults = {LAYER: first, "/" + LAYER: Fault(range_bytes=len(BLOB) // 5)}
    assert hostile.pull() is None
    asked = [headers.get("range") for path, headers in hostile.registry.requests if LAYER in path]
    parts = len(BLOB) // 2, len(BLOB) // 2 + len(BLOB) // 5, len(BLOB) // 2 + len(BLOB) // 5 * 2
    assert asked == [None, *(f"bytes={part}-" for part in parts)]


def test_r55_blob_whose_reply_breaks_behind_its_last_byte_is_whole(hostile: Harness) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    hostile.registry.faults = {LAYER: Fault(raw=head + b"%x\r\n%b\r\n" % (len(BLOB), BLOB))}
    assert hostile.pull() is None
    assert sum(LAYER in path for path, _headers in hostile.registry.requests) == 1


def test_r55_part_that_was_changed_after_a_break_is_noticed(hostile: Harness) -> None:
    first = Fault(cut=len(BLOB) // 2, times=1)
    hostile.registry.faults = {LAYER: first, "/" + LAYER: Fault(body=FLIPPED)}
    assert hostile.pull() == "pull.blob_digest"


def test_r55_large_blob_over_a_line_that_breaks_is_asked_for_a_part_at_a_time(
    hostile: Harness,
) -> None:
    part = RegistryLimits(total_seconds=0).progress_bytes
    tar = make_tar(Entry("data", bytes(6 * part)))
    image = hostile.serve(make_image([tar], pack=bytes, media_type=TAR))
    (layer,) = image.blob_names()
    hostile.registry.faults[layer] = Fault(cut=part)
    assert hostile.pull(image) is None
    assert sum(layer in path for path, _headers in hostile.registry.requests) == 6 + 1
    hostile.registry.requests.clear()
    hostile.registry.faults[layer] = Fault(cut=part // 4)
    assert hostile.pull(image) == "net.truncated"
    # Every fourth break uses up none.
    assert sum(layer in path for path, _headers in hostile.registry.requests) == ATTEMPTS + 2
