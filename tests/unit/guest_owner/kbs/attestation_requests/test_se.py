"""Requests to ultravisors: made for registered machines, opened by their maker alone."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ccinit.errors import CcinitError, FormatError
from ccinit.formats.evidence.se import parse_se_request
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.attestation_requests import se as se_requests
from guest_owner.kbs.attestation_requests.se import (
    MAX_HOST_KEYS,
    check_host_keys,
    make_se_nonce,
    open_secrets,
    read_host_key,
)
from guest_owner.kbs.references.measurements.se import SeMeasurements
from guest_owner.kbs.references.values import Profile, encode_reference_set, parse_reference_set
from guest_owner.kbs.state.store import Store
from tests.fakes.platforms.snp import der_of
from tests.fakes.platforms.ultravisor import HEADER, Ultravisor, host_key_document, host_key_pem
from tests.unit.guest_owner.kbs.se_values import (
    SEALING_KEY,
    machine_root,
    se_image,
    se_references,
    se_request,
)

IV = slice(0x10, 0x1C)
SLOTS = slice(0x40, 0xE0 + 2 * 80)  # with the public key before them


def test_only_registered_machines_can_open_a_request() -> None:
    nonce = make_se_nonce(se_references(roots=(machine_root(), machine_root(1))))
    request = parse_se_request(nonce.encode())
    secrets = open_secrets(SEALING_KEY, request.sealed_key, request.sealed_nonce)
    for machine in (0, 1):
        opened = Ultravisor(machine=machine).open(request.blob)
        assert opened == (secrets.measurement_key, secrets.nonce)
    assert Ultravisor(machine=2).open(request.blob) is None


def test_changed_request_is_not_opened() -> None:
    blob = se_request().blob
    assert Ultravisor().open(blob)
    for spot in (0x10, 0xE0 + 40, -97, -96, -1):  # IV, slot, its tag, secret, tag
        changed = bytearray(blob)
        changed[spot] ^= 1
        assert Ultravisor().open(bytes(changed)) is None


def test_every_request_has_secrets_of_its_own() -> None:
    first, second = (
        open_secrets(SEALING_KEY, request.sealed_key, request.sealed_nonce)
        for request in (se_request(), se_request())
    )
    assert first.measurement_key != second.measurement_key
    assert first.nonce != second.nonce


def test_secrets_open_under_their_key_and_in_their_place_only() -> None:
    request = se_request()
    for key, sealed in (
        (bytes(32), (request.sealed_key, request.sealed_nonce)),
        (SEALING_KEY, (request.sealed_nonce, request.sealed_key)),
        (SEALING_KEY, (b"", request.sealed_nonce)),
    ):
        with pytest.raises(CcinitError) as refused:
            open_secrets(key, *sealed)
        assert refused.value.reason == "se.request"


def test_nonce_is_a_request_in_trustees_form() -> None:
    nonce = make_se_nonce(se_references())
    assert Ultravisor().open(parse_se_request(nonce.encode()).blob)
    assert set(json.loads(nonce)) == {
        *("request_blob", "measurement_size", "additional_size"),
        *("encr_measurement_key", "encr_request_nonce", "image_hdr_tags"),
    }


def test_requests_of_a_minute_cost_one_exchange_for_each_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, now = 0, 0.0
    make_slot = se_requests._slot

    def counted(*given: Any) -> bytes:
        nonlocal made
        made += 1
        return make_slot(*given)

    monkeypatch.setattr(se_requests, "_slot", counted)
    monkeypatch.setattr("guest_owner.kbs.attestation_requests.se.time.monotonic", lambda: now)
    se_requests._wrap_shared_key.cache_clear()
    two = se_references(roots=(machine_root(), machine_root(1)))

    def ask() -> bytes:
        return parse_se_request(make_se_nonce(two).encode()).blob

    blobs = [ask() for _ in range(19)]
    now = 59.9
    blobs.append(ask())
    assert made == 2
    # what a request is about is nevertheless its own, and so is its IV
    assert len({Ultravisor(machine=1).open(blob) for blob in blobs}) == 20
    assert len({blob[IV] for blob in blobs}) == 20
    assert len({blob[SLOTS] for blob in blobs}) == 1
    now = 60.0
    later = ask()
    assert made == 4
    assert later[SLOTS] != blobs[0][SLOTS]
    # who was registered meanwhile is asked at once, and who was removed no more
    assert Ultravisor(machine=1).open(later)
    one = make_se_nonce(se_references(roots=(machine_root(),)))
    assert Ultravisor(machine=1).open(parse_se_request(one.encode()).blob) is None
    assert made == 5


def test_request_needs_a_machine() -> None:
    assert make_se_nonce(se_references())
    for references in (se_references(roots=()), se_references(request_key=None)):
        with pytest.raises(CcinitError) as refused:
            make_se_nonce(references)
        assert refused.value.reason == "se.host_key"
    assert make_se_nonce(se_references(roots=(machine_root(),) * 255))
    with pytest.raises(CcinitError) as refused:
        make_se_nonce(se_references(roots=(machine_root(),) * 256))
    assert refused.value.reason == "se.host_key"


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ec.generate_private_key(ec.SECP384R1()), id="P-384"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), id="Ed25519"),
    ],
)
def test_host_key_of_another_kind_is_refused(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    good, other = (
        der_of(document) for document in (host_key_document(), host_key_document(key=key))
    )
    check_host_keys([good])
    for refuse in (lambda: read_host_key(other), lambda: check_host_keys([good, other])):
        with pytest.raises(FormatError) as refused:
            refuse()
        assert refused.value.reason == "se.host_key"
        assert refused.value.detail == "a host key document has a key on P-521"


def test_what_is_no_certificate_is_no_host_key() -> None:
    with pytest.raises(FormatError) as refused:
        read_host_key(b"no certificate")
    assert refused.value.reason == "se.host_key"


def test_no_more_machines_are_registered_than_can_be_asked() -> None:
    good = der_of(host_key_document())
    check_host_keys([good] * MAX_HOST_KEYS)
    with pytest.raises(FormatError) as refused:
        check_host_keys([good] * (MAX_HOST_KEYS + 1))
    assert refused.value.reason == "se.host_key"
    assert refused.value.detail.endswith("fit into a request: remove some")


def test_registering_a_machine_makes_the_sealing_key_once(tmp_path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    store = Store(tmp_path)
    assert store.read_references().request_key is None
    store.add_root("machine", Tee.SE, host_key_pem())
    key = store.read_references().request_key
    assert key is not None
    assert len(key) == 32
    assert (tmp_path / "request.key").stat().st_mode & 0o777 == 0o600
    store.add_root("machine-1", Tee.SE, host_key_pem(1))
    assert store.read_references().request_key == key
    assert key.hex() not in repr(store.read_references())
    (tmp_path / "request.key").write_bytes(b"short")
    with pytest.raises(CcinitError) as refused:
        store.read_references()
    assert refused.value.reason == "state.request_key"


def test_reference_values_are_the_headers() -> None:
    image = se_image()
    assert parse_reference_set(encode_reference_set(image)) == image
    value = json.loads(encode_reference_set(image))
    assert (value["platform"], value["profile"]) == ("se", Profile.PROD)
    for name, part in HEADER.items():
        for wrong in (bytes(len(part)), part + b"x"):
            with pytest.raises(FormatError) as refused:
                SeMeasurements(**{**HEADER, name: wrong})
            assert refused.value.reason == f"reference.{name}"
