"""A TLS identity for each session: from the KBS through the guest's own client into a handshake."""

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from ccinit.attest.patience import Waiting
from ccinit.errors import CcinitError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from ccinit.formats.kbs.tls_identity import parse_tls_identity
from guest_owner.cli import main
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.state.store import Store
from guest_owner.plane.client import Endpoint, OwnerClient
from tests.fakes.documents.guest import CONFIG, POD
from tests.integration.attestation.test_kbs import Guest
from tests.integration.kbs.harness import TEST_IMAGE, Kbs, booted_tpm, running_kbs
from tests.integration.kbs.two_pods import guest_with, owner, two_pods_state

SHOP = make_document(CONFIG, POD)
BANK = make_document(CONFIG, POD.replace('name = "shop"', 'name = "bank"'))
IDENTITY = parse_resource_uri("kbs:///ccinit/shop/tls-identity")


@pytest.fixture
def kbs(tmp_path: Path) -> Iterator[Kbs]:
    documents = {"shop": SHOP, "bank": BANK}
    identity = ("tls-identity", str(IDENTITY), "--life-hours", "2")
    state = two_pods_state(tmp_path, documents, *identity)
    with running_kbs(state) as server:
        yield server


def guest(kbs: Kbs, document: bytes = SHOP) -> Guest:
    return guest_with(kbs, document)


def fetch(who: Guest, uri: ResourceUri = IDENTITY) -> bytes:
    with who.client() as client:
        return client.get_envelope(uri, EnvelopeKind.TLS_IDENTITY).envelope.data


def do_handshake(server_pem: Path, authority: Path, name: str) -> x509.Certificate:
    """TLS 1.3 between a guest with this identity and an owner with this root, in memory."""
    guest_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    guest_side.minimum_version = ssl.TLSVersion.TLSv1_3
    guest_side.load_cert_chain(server_pem)
    owner_side = ssl.create_default_context(cafile=authority)
    owner_side.verify_flags |= ssl.VERIFY_X509_STRICT
    to_guest, to_owner = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = guest_side.wrap_bio(to_guest, to_owner, server_side=True)
    client = owner_side.wrap_bio(to_owner, to_guest, server_hostname=name)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def test_each_boot_shows_an_identity_of_its_own_to_its_owner(kbs: Kbs, tmp_path: Path) -> None:
    shown = []
    for boot in ("one", "two"):
        path = tmp_path / f"{boot}.pem"
        path.write_bytes(fetch(guest(kbs)))
        parse_tls_identity(path.read_bytes())  # the guest's own reader takes it
        shown.append(do_handshake(path, kbs.state / "owner-ca.pem", "shop"))
    assert shown[0].public_key() != shown[1].public_key()

    # The audit log says which certificate went to which session, and holds no key.
    released = [record for record in kbs.audit() if record["decision"] == "released"]
    for certificate, record in zip(shown, released, strict=True):
        assert certificate.subject.rfc4514_string() == f"CN={record['session']}"
        fingerprint = certificate.fingerprint(SHA256()).hex()
        assert record["minted"] == f"tls-identity sha256:{fingerprint}"
    assert b"PRIVATE KEY" not in (kbs.state / "audit.jsonl").read_bytes()
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        do_handshake(tmp_path / "two.pem", kbs.state / "owner-ca.pem", "bank")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        do_handshake(tmp_path / "two.pem", kbs.state / "ca.pem", "shop")


def test_session_that_asks_again_gets_another_and_each_is_in_the_audit_log(kbs: Kbs) -> None:
    with guest(kbs).client() as client:
        given = [client.get_envelope(IDENTITY, EnvelopeKind.TLS_IDENTITY) for _ in range(2)]
    certificates = [x509.load_pem_x509_certificate(one.envelope.data) for one in given]
    assert certificates[0].public_key() != certificates[1].public_key()
    records = [record for record in kbs.audit() if record["decision"] == "released"]
    assert len({record["session"] for record in records}) == 1
    assert [record["minted"] for record in records] == [
        f"tls-identity sha256:{one.fingerprint(SHA256()).hex()}" for one in certificates
    ]


@pytest.mark.parametrize("pod", ["shop", "bank"])
def test_owners_client_knows_the_guest_by_its_minted_identity(
    kbs: Kbs, tmp_path: Path, pod: str
) -> None:
    identity, client = tmp_path / "guest.pem", tmp_path / "alice.pem"
    identity.write_bytes(fetch(guest(kbs)))
    owner(kbs.state, "client-cert", "new", "alice", "--role", "exec", "--output", str(client))
    roots = kbs.state / "owner-ca.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(roots)
    endpoint = Endpoint(host="", port=0, pod=pod, roots=roots, identity=client)
    here, there = socket.socketpair()
    with here, there, ThreadPoolExecutor(1) as pool:
        served = pool.submit(context.wrap_socket, there, server_side=True)
        if pod == "shop":
            shown = x509.load_der_x509_certificate(OwnerClient(here, endpoint).certificate_der)
            assert shown == x509.load_pem_x509_certificate(identity.read_bytes())
            served.result().close()
        else:
            with pytest.raises(CcinitError) as caught:
                OwnerClient(here, endpoint)
            assert caught.value.reason == "owner.certificate"
            assert isinstance(served.exception(), OSError)


def refused(who: Guest, uri: ResourceUri = IDENTITY) -> str:
    with pytest.raises(CcinitError) as caught:
        fetch(who, uri)
    return caught.value.reason


def test_guest_of_another_pod_gets_none_even_where_a_rule_allows_it(kbs: Kbs) -> None:
    assert refused(guest(kbs, BANK)) == "kbs.plugin_internal_error"
    record = kbs.audit()[-1]
    assert record["decision"] == "denied"
    assert str(record["reason"]).startswith("mint.pod: ")
    assert b"BEGIN CERTIFICATE" in fetch(guest(kbs))


def test_policy_decides_about_identities_as_about_any_resource(kbs: Kbs) -> None:
    who = guest(kbs)
    for index in (4, 9, 11):
        who.tpm.pcrs[index] = booted_tpm(TEST_IMAGE).pcrs[index]
    assert refused(who) == "kbs.policy_deny"
    assert b"BEGIN CERTIFICATE" in fetch(guest(kbs))


def test_identity_that_was_not_ordered_is_absent(kbs: Kbs) -> None:
    owner(kbs.state, "register", "tls-identity", "kbs:///ccinit/bank/tls-identity")
    uri = parse_resource_uri("kbs:///ccinit/bank/tls-identity")
    assert b"BEGIN CERTIFICATE" in fetch(guest(kbs, BANK), uri)
    Store(kbs.state).delete_resource(uri)
    assert refused(guest(kbs, BANK), uri) == "kbs.plugin_internal_error"


def test_without_the_authority_nothing_is_made(kbs: Kbs) -> None:
    key = kbs.state / "owner-ca-key.pem"
    saved = key.read_bytes()
    key.unlink()

    def put_back(_seconds: float) -> None:
        assert str(kbs.audit()[-1]["reason"]).startswith("owner_ca.half: ")
        key.write_bytes(saved)

    who = guest(kbs)
    who.waiting = Waiting(sleep=put_back)  # it asks again: this is no judgement of a guest
    assert who.fetch(str(IDENTITY))
    decisions = [record["decision"] for record in kbs.audit()]
    assert decisions == ["accepted", "denied", "released"]


def test_name_is_either_stored_or_minted(kbs: Kbs) -> None:
    store = Store(kbs.state)
    with pytest.raises(CcinitError) as caught:
        store.write_resource(IDENTITY, b"a body of somebody else's")
    assert caught.value.reason == "resource.minted"
    store.delete_resource(IDENTITY)
    store.write_resource(IDENTITY, b"a body")
    command = ["register", "tls-identity", str(IDENTITY), "--state", str(kbs.state)]
    assert main(command) == 1
    store.delete_resource(IDENTITY)
    assert main(command) == 0
