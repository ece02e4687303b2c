"""A signer's certificate in the place of a key; most of it is tested by `test_judge`."""

import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ccinit.errors import VerificationError
from ccinit.formats.signature.image_policy import Fulcio, KeySource
from ccinit.pull.signature.fulcio import verify_certificate
from tests.fakes.images import signatures as fake

AUTHORITY = fake.Authority()
KEY = ec.generate_private_key(ec.SECP256R1())
FULCIO = Fulcio(
    roots=KeySource(data=b"", resource=None),
    oidc_issuer=fake.ISSUER,
    subject_email=fake.SUBJECT,
)


def signer(common_name: str) -> x509.Certificate:
    """A certificate like Fulcio's, which also names its signer in X.500's way."""
    like = AUTHORITY.issue(KEY)
    name = x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False)
    names = [x509.RFC822Name(fake.SUBJECT), x509.DirectoryName(x509.Name([name]))]
    builder = x509.CertificateBuilder(
        issuer_name=like.issuer,
        subject_name=like.subject,
        public_key=KEY.public_key(),
        serial_number=7,
        not_valid_before=like.not_valid_before_utc,
        not_valid_after=like.not_valid_after_utc,
    )
    issuer = x509.ObjectIdentifier(fake.ISSUER_V1)
    for extension in (
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]),
        x509.SubjectAlternativeName(names),
        x509.UnrecognizedExtension(issuer, fake.ISSUER.encode()),
    ):
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(AUTHORITY.key, SHA256())


def verify(leaf: x509.Certificate) -> object:
    chain, roots = (AUTHORITY.intermediate,), (AUTHORITY.root,)
    return verify_certificate(leaf, chain, roots=roots, fulcio=FULCIO, seconds=fake.NOW)


def test_name_that_the_library_warns_of_is_malformed() -> None:
    assert verify(signer("x" * 64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as where nobody makes them errors
        leaf = signer("x" * 65)
        with pytest.raises(VerificationError) as refused:
            verify(leaf)
    assert refused.value.reason == "signature.certificate"
