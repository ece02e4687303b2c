import json
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.errors import CcinitError
from ccinit.formats.oci.artifact import MAX_SIGNATURE_BYTES
from ccinit.formats.oci.image import MediaType
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.net.http import HttpReply
from ccinit.pull.messages.fetch import AttachedManifest
from ccinit.pull.registry.attachments import find_signatures
from ccinit.pull.registry.client import Registry
from tests.fakes.images import signatures as fake
from tests.fakes.images.registry import (
    FAST,
    FakeHttp,
    Waits,
    digest_of,
    make_image,
    make_index,
    reply,
)
from tests.fakes.images.signatures import Attachment, referrers_tag, signature_tag

IMAGE = make_image([b"tar"])
INDEX = make_index(IMAGE, platforms=[("linux", "amd64")])
KEY = ec.generate_private_key(ec.SECP256R1())
PAYLOAD = fake.payload_of(IMAGE.digest, "r.example/a")
CLASSIC = fake.classic(fake.classic_layer(PAYLOAD, KEY))
BUNDLE = fake.bundle_artifact(IMAGE.manifest, fake.message_bundle(IMAGE.manifest, KEY))
SECOND = fake.bundle_artifact(
    IMAGE.manifest, fake.envelope_bundle(fake.statement_of(IMAGE.digest), KEY)
)


class Harness:
    def __init__(self, *attachments: Attachment) -> None:
        self.http = FakeHttp(IMAGE)
        for one in attachments:
            self.http.script(digest_of(one.manifest), reply(200, one.manifest))
            for blob in one.blobs:
                self.http.script(digest_of(blob), reply(200, blob))
        reference = parse_image_reference(f"r.example/a@{IMAGE.digest}")
        self.registry = Registry(self.http, reference, None, FAST, Waits())

    def find(self, documents: Sequence[bytes] = (IMAGE.manifest,)) -> tuple[AttachedManifest, ...]:
        return find_signatures(self.registry, tuple(documents))

    def refusal(self) -> str:
        with pytest.raises(CcinitError) as refused:
            self.find()
        return refused.value.reason

    def paths(self) -> list[str]:
        return [url.partition("/v2/a/")[2] for url, _headers in self.http.seen]


def attached(one: Attachment) -> AttachedManifest:
    return AttachedManifest(manifest=one.manifest, blobs=one.blobs)


def test_image_without_signatures_is_looked_up_in_all_three_places() -> None:
    harness = Harness()
    assert harness.find() == ()
    assert harness.paths() == [
        f"manifests/{signature_tag(IMAGE.digest)}",
        f"referrers/{IMAGE.digest}",
        f"manifests/{referrers_tag(IMAGE.digest)}",
    ]


def test_classic_signatures_are_under_their_tag() -> None:
    harness = Harness(CLASSIC)
    harness.http.script(signature_tag(IMAGE.digest), reply(200, CLASSIC.manifest))
    assert harness.find() == (attached(CLASSIC),)


def test_bundles_are_found_by_the_list_of_referrers() -> None:
    harness = Harness(BUNDLE, SECOND)
    listed = fake.referrers(BUNDLE, SECOND)
    harness.http.script(f"referrers/{IMAGE.digest}", reply(200, listed))
    assert harness.find() == (attached(BUNDLE), attached(SECOND))
    assert f"manifests/{referrers_tag(IMAGE.digest)}" not in harness.paths()


def test_listed_manifest_that_is_gone_hides_no_other() -> None:
    harness = Harness(SECOND)
    listed = fake.referrers(BUNDLE, SECOND)
    harness.http.script(f"referrers/{IMAGE.digest}", reply(200, listed))
    assert harness.find() == (attached(SECOND),)


def test_bundles_are_found_by_the_tag_where_there_is_no_list() -> None:
    harness = Harness(BUNDLE)
    harness.http.script(referrers_tag(IMAGE.digest), reply(200, fake.referrers(BUNDLE)))
    assert harness.find() == (attached(BUNDLE),)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            reply(303, location="https://web.example/-/v2/packages/r/a%2Freferrers"), id="GitHub"
        ),
        pytest.param(reply(400), id="malformed"),
        pytest.param(reply(405), id="unsupported"),
        pytest.param(reply(406), id="Artifactory"),
        pytest.param(reply(200, b"<html>", content_type="text/html; charset=utf-8"), id="a page"),
    ],
)
def test_registry_without_a_list_may_say_so_in_its_own_way(answer: HttpReply) -> None:
    harness = Harness(BUNDLE)
    harness.http.script(f"referrers/{IMAGE.digest}", answer)
    harness.http.script(referrers_tag(IMAGE.digest), reply(200, fake.referrers(BUNDLE)))
    assert harness.find() == (attached(BUNDLE),)
    assert all(url.startswith("https://r.example/v2/a/") for url, _headers in harness.http.seen)


@pytest.mark.parametrize(
    "tagged",
    [
        pytest.param(IMAGE.manifest, id="an image"),
        pytest.param(b"not JSON", id="no document"),
        pytest.param(b'{"schemaVersion": 2, "manifests": {}}', id="no index"),
    ],
)
def test_tag_that_holds_no_list_hides_no_signature_elsewhere(tagged: bytes) -> None:
    harness = Harness(CLASSIC)
    harness.http.script(signature_tag(IMAGE.digest), reply(200, CLASSIC.manifest))
    harness.http.script(referrers_tag(IMAGE.digest), reply(200, tagged))
    assert harness.find() == (attached(CLASSIC),)
    listed = Harness(CLASSIC)
    listed.http.script(f"referrers/{IMAGE.digest}", reply(200, tagged))
    assert listed.refusal().startswith("signature.manifest")


def test_tagged_list_that_is_too_long_is_a_list() -> None:
    harness = Harness()
    named = json.loads(fake.referrers(BUNDLE))["manifests"] * 33
    too_many = {"schemaVersion": 2, "manifests": named}
    harness.http.script(referrers_tag(IMAGE.digest), reply(200, json.dumps(too_many).encode()))
    assert harness.refusal() == "signature.manifest.count"


SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
LARGE = b"x" * 600_000  # an SBOM in a bundle, as GitHub's and cosign's attestations of them are


def stating(predicate: str, bundle: bytes) -> Attachment:
    annotations = fake.annotations_of(predicate)
    return fake.bundle_artifact(IMAGE.manifest, bundle, annotations=annotations)


def test_bundles_with_other_statements_are_passed_over_unread() -> None:
    attested = stating("https://spdx.dev/Document/v2.3", LARGE)
    signed = stating(SIGNATURE, BUNDLE.blobs[0])
    harness = Harness(attested, signed)
    listed = fake.referrers(attested, signed)  # without annotations, as under the fallback tag
    harness.http.script(f"referrers/{IMAGE.digest}", reply(200, listed))
    nothing = AttachedManifest(manifest=attested.manifest, blobs=())
    assert harness.find() == (nothing, attached(signed))
    assert f"blobs/{digest_of(LARGE)}" not in harness.paths()


def test_manifest_that_a_list_says_to_state_something_else_is_not_fetched() -> None:
    scans = [stating("https://cosign.sigstore.dev/attestation/vuln/v1", b"%d" % n)
             for n in range(40)]  # fmt: skip
    listed = json.loads(fake.referrers(*scans, BUNDLE))
    for entry in listed["manifests"][:-1]:
        entry["annotations"] = fake.annotations_of(
            "https://cosign.sigstore.dev/attestation/vuln/v1"
        )
    listed["manifests"][-1]["annotations"] = fake.annotations_of(SIGNATURE)
    harness = Harness(*scans, BUNDLE)
    harness.http.script(f"referrers/{IMAGE.digest}", reply(200, json.dumps(listed).encode()))
    assert harness.find() == (attached(BUNDLE),)
    assert not any(digest_of(one.manifest) in path for one in scans for path in harness.paths())


def test_list_may_be_where_the_registry_redirects_to() -> None:
    harness = Harness(BUNDLE)
    moved = f"https://other.example/v2/b/referrers/{IMAGE.digest}"
    listed = reply(200, fake.referrers(BUNDLE), content_type=MediaType.OCI_INDEX.value)
    harness.http.script(f"referrers/{IMAGE.digest}", reply(307, location=moved), listed)
    assert harness.find() == (attached(BUNDLE),)
    assert moved in [url for url, _headers in harness.http.seen]


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "registry.challenge"), (403, "registry.unauthorized"), (503, "registry.busy")],
)
def test_list_that_is_not_given_is_no_list_that_is_not_there(status: int, reason: str) -> None:
    harness = Harness(BUNDLE)
    harness.http.script(f"referrers/{IMAGE.digest}", *[reply(status)] * 9)
    harness.http.script(referrers_tag(IMAGE.digest), reply(200, fake.referrers(BUNDLE)))
    assert harness.refusal() == reason


@pytest.mark.parametrize("status", [303, 400, 405, 406])
def test_manifest_that_a_list_names_is_refused_by_any_status(status: int) -> None:
    harness = Harness()
    harness.http.script(f"referrers/{IMAGE.digest}", reply(200, fake.referrers(BUNDLE)))
    harness.http.script(digest_of(BUNDLE.manifest), reply(status))
    assert harness.refusal() in ("registry.redirect", "registry.status")


@pytest.mark.parametrize("relation", ['rel="next"', "rel=next"])
def test_list_of_several_pages_is_read_to_its_end(relation: str) -> None:
    harness = Harness(BUNDLE, SECOND)
    link = f"</v2/a/referrers/{IMAGE.digest}?last=1>; {relation}"
    harness.http.script(
        f"referrers/{IMAGE.digest}",
        reply(200, fake.referrers(BUNDLE), link=link),
        reply(200, fake.referrers(SECOND)),
    )
    assert harness.find() == (attached(BUNDLE), attached(SECOND))
    assert f"referrers/{IMAGE.digest}?last=1" in harness.paths()


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ('</v2/other/referrers/x?last=1>; rel="next"', "registry.referrers"),
        ('<https://evil.example/steal?x>; rel="next"', "registry.referrers"),
        ('<https://[/referrers/x?x>; rel="next"', "registry.referrers"),
        (f'</v2/a/referrers/{IMAGE.digest}>; rel="next"', "registry.referrers"),
        (f"/v2/a/referrers/{IMAGE.digest}?last=1; rel=next", "registry.link"),
    ],
)
def test_next_page_of_another_list_is_not_followed(link: str, reason: str) -> None:
    harness = Harness(BUNDLE)
    page = reply(200, fake.referrers(BUNDLE), link=link)
    harness.http.script(f"referrers/{IMAGE.digest}", page)
    assert harness.refusal() == reason
    assert sum("referrers/" in path for path in harness.paths()) == 1


def test_next_page_that_is_not_there_is_no_end_of_the_list() -> None:
    harness = Harness(BUNDLE)
    link = f'</v2/a/referrers/{IMAGE.digest}?last=1>; rel="next"'
    page = reply(200, fake.referrers(BUNDLE), link=link)
    harness.http.script(f"referrers/{IMAGE.digest}", page, reply(404))
    assert harness.refusal() == "registry.referrers"
    assert f"referrers/{IMAGE.digest}?last=1" in harness.paths()


def test_pages_without_an_end_are_refused() -> None:
    harness = Harness()
    link = f'</v2/a/referrers/{IMAGE.digest}?x=1>; rel="next"'
    page = reply(200, fake.referrers(), link=link)
    harness.http.script(f"referrers/{IMAGE.digest}", *[page] * 20)
    assert harness.refusal() == "signature.pages"


def test_index_and_manifest_may_both_be_signed() -> None:
    harness = Harness(CLASSIC, BUNDLE)
    harness.http.script(signature_tag(digest_of(INDEX)), reply(200, CLASSIC.manifest))
    harness.http.script(f"referrers/{IMAGE.digest}", reply(200, fake.referrers(BUNDLE)))
    assert harness.find([INDEX, IMAGE.manifest]) == (attached(CLASSIC), attached(BUNDLE))


def test_bytes_that_differ_from_their_digest_are_refused() -> None:
    harness = Harness(CLASSIC)
    harness.http.script(signature_tag(IMAGE.digest), reply(200, CLASSIC.manifest))
    harness.http.script(digest_of(PAYLOAD), reply(200, PAYLOAD[:-1] + b"X"))
    assert harness.refusal() == "pull.blob_digest"
    harness = Harness(BUNDLE)
    harness.http.script(f"referrers/{IMAGE.digest}", reply(200, fake.referrers(BUNDLE)))
    harness.http.script(digest_of(BUNDLE.manifest), reply(200, SECOND.manifest))
    assert harness.refusal() == "pull.manifest_digest"


def test_blob_that_is_not_there_ends_the_pull() -> None:
    harness = Harness()
    harness.http.script(signature_tag(IMAGE.digest), reply(200, CLASSIC.manifest))
    assert harness.refusal() == "registry.not_found"


def test_registry_that_will_not_say_is_no_registry_without_signatures() -> None:
    harness = Harness()
    harness.http.script(signature_tag(IMAGE.digest), reply(403))
    assert harness.refusal() == "registry.unauthorized"


def test_more_than_anybody_needs_is_refused() -> None:
    long = "x" * 200_000
    payloads = [fake.payload_of(IMAGE.digest, f"r.example/a{n}", more=long) for n in range(6)]
    many = fake.classic(*[fake.classic_layer(one, KEY) for one in payloads])
    harness = Harness(many)
    harness.http.script(signature_tag(IMAGE.digest), reply(200, many.manifest))
    assert harness.refusal() == "signature.size"
    largest, huge = (
        fake.classic(fake.classic_layer(bytes(MAX_SIGNATURE_BYTES + more), KEY)) for more in (0, 1)
    )
    harness = Harness(huge)
    harness.http.script(signature_tag(IMAGE.digest), reply(200, huge.manifest))
    assert harness.refusal() == "signature.size"
    harness = Harness(largest)
    harness.http.script(signature_tag(IMAGE.digest), reply(200, largest.manifest))
    assert harness.find() == (attached(largest),)


def bundles(count: int) -> list[Attachment]:
    return [fake.bundle_artifact(IMAGE.manifest, b"%d" % number) for number in range(count)]


def test_more_manifests_than_anybody_needs_are_refused_for_their_number() -> None:
    """One page may list so many, and so may the next one."""
    *page, last = bundles(33)
    harness = Harness(*page, last)
    link = f"</v2/a/referrers/{IMAGE.digest}?last=1>; rel=next"
    pages = (reply(200, fake.referrers(*page), link=link), reply(200, fake.referrers(last)))
    harness.http.script(f"referrers/{IMAGE.digest}", *pages)
    assert harness.refusal() == "signature.count"
    harness = Harness(*page)
    harness.http.script(f"referrers/{IMAGE.digest}", reply(200, fake.referrers(*page)))
    assert len(harness.find()) == 32
