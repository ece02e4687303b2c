"""What a resource has to hold for its use, said before a guest ends for it."""

from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import DNSName
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import CcinitError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import ResourceUri
from guest_owner.certificates import common_name, private_pem
from guest_owner.plane.authority import create_authority, read_authority
from guest_owner.resources import contents as resource_contents
from guest_owner.resources.contents import check_content
from tests.unit.guest_owner.command_line import error_of, run

IDENTITY = ResourceUri("ccinit", "shop", "tls-identity")


def refused(data: bytes) -> str:
    with pytest.raises(CcinitError) as caught:
        check_content(IDENTITY, EnvelopeKind.TLS_IDENTITY, data)
    return str(caught.value)


class Later(datetime):
    """The day after tomorrow."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(days=2)


def test_identity_is_the_pods_own_and_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_authority(tmp_path)
    authority = read_authority(tmp_path)
    good = authority.issue_guest("shop", 1)
    check_content(IDENTITY, EnvelopeKind.TLS_IDENTITY, good)
    other = authority.issue_guest("bank", 1)
    assert refused(other) == "tls_identity.name: the certificate is for bank, not for shop"
    key, begin, rest = good.partition(b"-----BEGIN CERTIFICATE")
    assert refused(other.partition(begin)[0] + begin + rest) == (
        "tls_identity.key: the key does not belong to the certificate"
    )
    assert refused(key) == "tls_identity.form: expected one private key, then certificates"
    monkeypatch.setattr(resource_contents, "datetime", Later)
    assert refused(good).startswith("tls_identity.time: the certificate expired on ")


def test_identity_may_have_more_names_than_the_pods(tmp_path: Path) -> None:
    """The guest asks for its own among them, as TLS compares names."""
    create_authority(tmp_path)
    authority = read_authority(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.sign(
        key.public_key(),
        subject=common_name("of an authority elsewhere"),
        names=(DNSName("shop.example"), DNSName("SHOP")),
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
        ends=authority.end_of(timedelta(days=1)),
    )
    identity = private_pem(key) + certificate.public_bytes(Encoding.PEM)
    check_content(IDENTITY, EnvelopeKind.TLS_IDENTITY, identity)


def test_identity_of_another_pod_is_not_registered(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("client-ca", "init", "--state", state) == 0
    register = ("register", "resource", "--state", state, IDENTITY)
    kind = ("--kind", "tls-identity", "--envelope")
    for pod, status in (("bank", 1), ("shop", 0)):
        path = tmp_path / f"{pod}.pem"
        assert run("owner-identity", "new", "--state", state, pod, "--output", path) == 0
        assert run(*register, path, *kind) == status
    told = error_of(capsys)
    assert told == (
        f"guest-owner: {tmp_path / 'bank.pem'}: the certificate is for bank, not for shop"
        " [tls_identity.name]\n"
    )
