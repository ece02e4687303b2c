"""What Intel's certification service publishes for a platform, made for the generated one.

TCB Info (version 3), QE Identity (version 2) and revocation lists, signed under the same root as
the platform's chain; Intel's Provisioning Certification Service API, version 4. Only a verifier
that asks for such collateral needs it: the independent one of the tests.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from tests.fakes.platforms.tdx_quote import QE_SIGNER, FakePck, FakeTdx, p256_key, raw_signature

NOW = datetime.now(UTC)
ISSUED, NEXT = ((NOW + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ") for days in (-1, 29))
SIGNER = "tcb signing"
UP_TO_DATE = {"tcbDate": ISSUED, "tcbStatus": "UpToDate"}
PUBLISHED = {"issueDate": ISSUED, "nextUpdate": NEXT, "tcbEvaluationDataNumber": 17}


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A published document; its signature is over the text as it stands."""

    text: str

    @property
    def signature(self) -> bytes:
        return raw_signature(p256_key(SIGNER), self.text.encode())


def tcb_info(domain: FakeTdx) -> Signed:
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    levels = [{"tcb": {"isvsvn": 4}, **UP_TO_DATE}]
    tcb = {
        "sgxtcbcomponents": [{"svn": svn} for svn in domain.pck.components],
        "pcesvn": domain.pck.pce_svn,
        "tdxtcbcomponents": [{"svn": svn} for svn in domain.tee_tcb_svn],
    }
    return _document(
        id="TDX",
        version=3,
        fmspc=domain.pck.fmspc.hex().upper(),
        pceId="0000",
        tcbType=0,
        tdxModule=module,
        tdxModuleIdentities=[{"id": "TDX_01", **module, "tcbLevels": levels}],
        tcbLevels=[{"tcb": tcb, **UP_TO_DATE}],
    )


def qe_identity() -> Signed:
    return _document(
        id="TD_QE",
        version=2,
        miscselect="00000000",
        miscselectMask="FFFFFFFF",
        attributes="11" + "00" * 15,
        attributesMask="FB" + "FF" * 7 + "00" * 8,
        mrsigner=QE_SIGNER.hex().upper(),
        isvprodid=2,
        tcbLevels=[{"tcb": {"isvsvn": 4}, **UP_TO_DATE}],
    )


def signing_chain(pck: FakePck) -> str:
    signer = pck.certificate("Intel SGX TCB Signing", SIGNER, "Intel SGX Root CA", pck.root, None)
    return _pem(signer, pck.root_certificate)


def platform_chain(pck: FakePck) -> str:
    _leaf, intermediate, root = x509.load_pem_x509_certificates(pck.chain_pem)
    return _pem(intermediate, root)


def revocations(pck: FakePck) -> tuple[bytes, bytes]:
    """The lists of the root and of the platform authority, DER, both empty."""
    _leaf, intermediate, root = x509.load_pem_x509_certificates(pck.chain_pem)
    return _empty_list(root, pck.root), _empty_list(intermediate, "platform ca")


def _document(**members: object) -> Signed:
    return Signed(text=json.dumps({**members, **PUBLISHED}, separators=(",", ":")))


def _empty_list(issuer: x509.Certificate, key: str) -> bytes:
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(NOW - timedelta(days=1))
        .next_update(NOW + timedelta(days=29))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(p256_key(key).public_key()),
            critical=False,
        )
        .sign(p256_key(key), SHA256())
        .public_bytes(Encoding.DER)
    )


def _pem(*certificates: x509.Certificate) -> str:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates).decode()
