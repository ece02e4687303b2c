"""A signer's certificate in the place of a key; most of it is tested by `test_judge`."""

import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ccinit.errors import VerificationError
from ccinit.formats.signature.image_policy import Fulcio
from ccinit.pull.signature.fulcio import verify_certificate
from tests.fakes.images import signatures as fake

AUTHORITY = fake.Authority()
WORKFLOW = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.2")
"""What started a build: Fulcio says that, too, and much more of the kind."""
KEY = ec.generate_private_key(ec.SECP256R1())
FULCIO = Fulcio(
    roots=b"",
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
        x509.UnrecognizedExtension(WORKFLOW, b"push"),
    ):
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(AUTHORITY.key, SHA256())


def verify(
    leaf: x509.Certificate,
    issuer: x509.Certificate = AUTHORITY.intermediate,
    seconds: int = fake.NOW,
) -> object:
    roots = (AUTHORITY.root,)
    return verify_certificate(leaf, (issuer,), roots=roots, fulcio=FULCIO, seconds=seconds)


def issuer(*, is_authority: bool, may_sign: bool) -> x509.Certificate:
    """The intermediate certificate, as its root may have signed it."""
    like = AUTHORITY.intermediate
    usage = (like if may_sign else AUTHORITY.issue(KEY)).extensions
    builder = x509.CertificateBuilder(
        issuer_name=like.issuer,
        subject_name=like.subject,
        public_key=like.public_key(),
        serial_number=8,
        not_valid_before=like.not_valid_before_utc,
        not_valid_after=like.not_valid_after_utc,
    )
    for extension in (
        x509.BasicConstraints(ca=is_authority, path_length=None),
        usage.get_extension_for_class(x509.KeyUsage).value,
    ):
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(AUTHORITY.root_key, SHA256())


@pytest.mark.parametrize(("is_authority", "may_sign"), [(False, True), (True, False)])
def test_holder_of_a_certificate_who_is_no_issuer_makes_no_signer(
    *, is_authority: bool, may_sign: bool
) -> None:
    """Or whoever has one for an address of his own could issue one for any other."""
    leaf = AUTHORITY.issue(KEY)
    assert verify(leaf, issuer(is_authority=True, may_sign=True))
    with pytest.raises(VerificationError) as refused:
        verify(leaf, issuer(is_authority=is_authority, may_sign=may_sign))
    assert refused.value.reason == "signature.certificate"


@pytest.mark.parametrize("seconds", [-1, 253_402_300_800, 1 << 63])
def test_time_of_a_log_that_is_none_is_refused(seconds: int) -> None:
    assert verify(AUTHORITY.issue(KEY))
    with pytest.raises(VerificationError, match="is not a time") as refused:
        verify(AUTHORITY.issue(KEY), seconds=seconds)
    assert refused.value.reason == "signature.certificate"


def test_name_that_the_library_warns_of_is_malformed() -> None:
    assert verify(signer("x" * 64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as where nobody makes them errors
        leaf = signer("x" * 65)
        with pytest.raises(VerificationError) as refused:
            verify(leaf)
    assert refused.value.reason == "signature.certificate"
