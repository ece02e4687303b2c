"""Keys and roots of an image policy: what is refused is what the guest refuses, in its words."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import FormatError
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri
from ccinit.formats.signature.image_policy import parse_image_policy
from ccinit.pull.signature.certificate import MAX_CERTIFICATES, load_pem_certificates
from ccinit.pull.signature.public_key import load_public_key
from ccinit.pull.signature.transparency_log import load_log_key
from guest_owner.resources.policy_keys import check_keys
from tests.fakes.documents.spoilt_certificates import pem, spoilt_certificates
from tests.fakes.images.signatures import b64, public_pem
from tests.fakes.network.tls_server import make_authority
from tests.unit.ccinit.formats.signature.image_policy_cases import KEY, fulcio, policy, signed

AUTHORITY = make_authority()
ROOT = AUTHORITY.pem.encode()
TEXTS: dict[str, bytes] = {
    "P-256": KEY,
    "P-384": public_pem(ec.generate_private_key(ec.SECP384R1())),
    "P-521": public_pem(ec.generate_private_key(ec.SECP521R1())),
    "Ed25519": public_pem(ed25519.Ed25519PrivateKey.generate()),
    "RSA-2048": public_pem(rsa.generate_private_key(65537, 2048)),
    "RSA-1024": public_pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505 - to be refused
    **{
        f"RSA-{bits}": rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for bits in (8192, 8193)
    },
    "a key cut short": KEY[:80],
    "DER": ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "nothing": b"",
    "a root": ROOT,
    "as many roots as allowed": MAX_CERTIFICATES * ROOT,
    "one more": (MAX_CERTIFICATES + 1) * ROOT,
    "a root cut short": ROOT[:200],
}
SPOILT = spoilt_certificates(
    AUTHORITY.certificate.public_bytes(Encoding.DER),
    AUTHORITY.certificate.subject.rfc4514_string().removeprefix("CN="),
)
RESOURCE = ResourceUri("a", "b", "c")


def as_guest(load: Callable[[], object]) -> str:
    try:
        load()
    except FormatError as error:
        return str(error)
    return ""


def as_owner(document: bytes, contents: dict[KbsUri, bytes] | None = None) -> str:
    return as_guest(lambda: check_keys(parse_image_policy(document), contents or {}))


@pytest.mark.parametrize("kind", TEXTS)
def test_key_or_root_is_judged_as_by_the_guest(kind: str) -> None:
    text = TEXTS[kind]
    by_key, by_log = policy(signed(keyData=b64(text))), signed(rekorPublicKeyData=b64(text))
    assert as_owner(by_key) == as_guest(lambda: load_public_key(text, "policy.key"))
    assert as_owner(policy(by_log)) == as_guest(lambda: load_log_key(text))
    assert_roots_are_judged_as_by_the_guest(text)


@pytest.mark.filterwarnings("ignore")  # as outside of tests: what a library warns of is refused
@pytest.mark.parametrize("der", SPOILT)
def test_root_that_is_spoilt_is_judged_as_by_the_guest(der: bytes) -> None:
    assert_roots_are_judged_as_by_the_guest(pem(der))


def assert_roots_are_judged_as_by_the_guest(text: bytes) -> None:
    owner = as_owner(policy(fulcio(caData=b64(text))))
    assert owner == as_guest(lambda: load_pem_certificates(text, "policy.fulcio"))


def test_texts_are_some_good_and_some_bad_of_each_kind() -> None:
    """Else the comparison would show little."""
    good = {kind for kind, text in TEXTS.items() if not as_owner(policy(signed(keyData=b64(text))))}
    assert good == {"P-256", "P-384", "Ed25519", "RSA-2048", "RSA-8192"}
    roots = {kind for kind, text in TEXTS.items() if not as_owner(policy(fulcio(caData=b64(text))))}
    assert roots == {"a root", "as many roots as allowed"}


def in_scope(requirement: dict[str, object]) -> bytes:
    return policy({"type": "reject"}, transports={"docker": {"r.example": [requirement]}})


def test_every_scope_and_every_key_is_judged() -> None:
    both: dict[str, object] = {"type": "sigstoreSigned", "keyDatas": [b64(KEY), b64(b"no key")]}
    assert as_owner(in_scope(both)) == "policy.key: not a PEM public key"
    assert as_owner(in_scope({**both, "keyDatas": [b64(KEY)]})) == ""


def test_key_in_a_resource_is_judged_where_its_content_is_known() -> None:
    document = in_scope({"type": "sigstoreSigned", "keyPath": str(RESOURCE)})
    assert as_owner(document) == ""
    assert as_owner(document, {RESOURCE: KEY}) == ""
    refused = as_owner(document, {RESOURCE: b"no key"})
    assert refused == "policy.key: kbs:///a/b/c: not a PEM public key"
