"""Which chains of keys are AMD's: each link made wrong once."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.errors import CcinitError
from ccinit.formats.evidence.snp import Certificate, CertType, SnpEvidence
from ccinit.formats.evidence.snp_report import TcbVersion, parse_snp_report
from guest_owner.kbs.references.requirements import SnpProduct
from guest_owner.kbs.references.roots import parse_certificates
from guest_owner.kbs.verifiers.snp_chain import EndorsementKey, verify_endorsement_key
from tests.fakes.platforms.snp import CHIP_ID, OIDS, WEAK, Chain, FakeSnp, der_of, rsa_key

VECTORS = Path(__file__).parents[5] / "tests/vectors/snp"
REPORT = parse_snp_report(FakeSnp().report(bytes(64)))
CHAIN = Chain()


def evidence(*certificates: tuple[CertType, bytes]) -> SnpEvidence:
    return SnpEvidence(
        report=REPORT,
        certificates=tuple(Certificate(cert_type=kind, data=data) for kind, data in certificates),
    )


def of(chain: Chain) -> SnpEvidence:
    kind = CertType.VCEK if chain.leaf_name != "SEV-VLEK" else CertType.VLEK
    return evidence((kind, der_of(chain.leaf)))


def verify(found: SnpEvidence, trusted: tuple[bytes, ...] = CHAIN.trusted) -> EndorsementKey:
    return verify_endorsement_key(found, trusted)


def refusal(found: SnpEvidence, trusted: tuple[bytes, ...] = CHAIN.trusted) -> tuple[str, str]:
    with pytest.raises(CcinitError) as caught:
        verify(found, trusted)
    return caught.value.reason, caught.value.detail


def reason_of(found: SnpEvidence, trusted: tuple[bytes, ...] = CHAIN.trusted) -> str:
    return refusal(found, trusted)[0]


def test_key_under_a_registered_root_is_returned() -> None:
    key = verify(of(CHAIN))
    assert (key.kind, key.product, key.hwid) == (CertType.VCEK, SnpProduct.MILAN, CHIP_ID)
    assert key.tcb == TcbVersion(fmc=None, bootloader=4, tee=0, snp=24, microcode=219)
    assert key.key.public_numbers() == CHAIN.leaf_key.public_key().public_numbers()


def test_chain_of_amd_itself_is_followed() -> None:
    pem = (VECTORS / "vcek_genoa.pem").read_bytes()
    trusted = parse_certificates((VECTORS / "ask_ark_genoa.pem").read_bytes())
    key = verify(evidence((CertType.VCEK, pem)), trusted)
    assert (key.kind, key.product) == (CertType.VCEK, SnpProduct.GENOA)
    assert key.tcb == TcbVersion(fmc=None, bootloader=10, tee=0, snp=23, microcode=84)
    assert key.hwid.hex().startswith("0506ffba875e939c2729d20c74eb72b4")
    assert reason_of(evidence((CertType.VCEK, pem))) == "snp.chain"


@pytest.mark.parametrize(
    ("text", "product"),
    [
        ("Milan-B0", SnpProduct.MILAN),
        ("Genoa", SnpProduct.GENOA),
        ("Siena-A0", SnpProduct.GENOA),
        ("Bergamo-A0", SnpProduct.GENOA),
    ],
)
def test_product_is_that_of_the_generation(text: str, product: SnpProduct) -> None:
    assert verify(of(Chain(product=text))).product is product


def test_certificate_in_pem_is_read_too() -> None:
    pem = CHAIN.leaf.public_bytes(Encoding.PEM)
    assert verify(evidence((CertType.VCEK, pem))) == verify(of(CHAIN))


def test_key_of_a_provider_has_no_chip() -> None:
    chain = Chain(leaf_name="SEV-VLEK")
    key = verify(of(chain))
    assert (key.kind, key.hwid) == (CertType.VLEK, b"")
    assert key.csp_id == "CN=cc-north-1.cloud.example"
    assert verify(of(CHAIN)).csp_id == ""


def test_intermediate_may_come_with_the_evidence() -> None:
    ask, ark = CHAIN.trusted
    leaf = (CertType.VCEK, der_of(CHAIN.leaf))
    assert reason_of(evidence(leaf), (ark,)) == "snp.chain"
    assert verify(evidence(leaf, (CertType.ASK, ask)), (ark,))
    # ... but not as something else, and no root may.
    assert reason_of(evidence(leaf, (CertType.ARK, ask)), (ark,)) == "snp.chain"
    assert reason_of(evidence(leaf, (CertType.ARK, ark)), (ask,)) == "snp.root"


def test_evidence_under_other_roots_is_refused() -> None:
    other = Chain(number=1)
    assert reason_of(of(other)) == "snp.chain"
    assert reason_of(of(CHAIN), other.trusted) == "snp.chain"
    ask = (CertType.ASK, der_of(other.ask))
    assert reason_of(evidence((CertType.VCEK, der_of(other.leaf)), ask)) == "snp.chain"
    assert verify(of(other), other.trusted)


def test_key_that_a_root_signed_itself_is_refused() -> None:
    ask, ark = CHAIN.trusted
    assert reason_of(evidence((CertType.VCEK, ask)), (ark,)) == "snp.chain"


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        pytest.param(Chain(number=2, bits=3072), "snp.root", id="3072 bits"),
        pytest.param(replace(CHAIN, **WEAK), "snp.root", id="SHA-256"),
    ],
)
def test_weaker_signatures_are_refused(chain: Chain, reason: str) -> None:
    assert reason_of(of(chain), chain.trusted) == reason


@dataclass(kw_only=True)
class RsaChain(Chain):
    """One whose endorsement key is of the vendor's other kind."""

    @property
    def leaf_key(self) -> Any:
        return rsa_key(0)


@dataclass(kw_only=True)
class RenamedChain(Chain):
    """One whose intermediate has the right key and another name than the one that signed."""

    @property
    def ask(self) -> x509.Certificate:
        own, vendors = rsa_key(1, self.bits), rsa_key(0, self.bits)
        return self._sign("SEV-Genoa", "ARK-Milan", own.public_key(), vendors, {})


def test_intermediate_of_another_name_is_refused() -> None:
    """RFC 5280, section 6.1.3 (a)(4)."""
    renamed = RenamedChain()
    assert renamed.ask.public_key() == CHAIN.ask.public_key()
    assert reason_of(of(CHAIN), renamed.trusted) == "snp.chain"


@dataclass(kw_only=True)
class EdwardsChain(Chain):
    """One whose intermediate has a key of a kind that has no size."""

    @property
    def ask(self) -> x509.Certificate:
        key: Any = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
        return self._sign("SEV-Milan", "ARK-Milan", key, rsa_key(0, self.bits), {})


def test_intermediate_whose_key_has_no_size_is_refused() -> None:
    leaf, (right, ark) = (CertType.VCEK, der_of(CHAIN.leaf)), CHAIN.trusted
    other = (CertType.ASK, der_of(EdwardsChain().ask))
    assert reason_of(evidence(leaf, other), (ark,)) == "snp.chain"
    assert verify(evidence(leaf, other, (CertType.ASK, right)), (ark,))


RSA, EXPONENT = bytes.fromhex("2a864886f70d010101"), bytes.fromhex("0203010001")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param(RSA, RSA[:-1] + b"\x7f", id="of an unknown kind"),
        pytest.param(EXPONENT, EXPONENT[:-1] + b"\0", id="malformed"),
    ],
)
def test_root_whose_key_cannot_be_read_stands_behind_nothing(right: bytes, wrong: bytes) -> None:
    ask, ark = CHAIN.trusted
    bad = ark.replace(right, wrong)
    assert bad != ark
    assert reason_of(of(CHAIN), (ask, bad)) == "snp.root"
    assert verify(of(CHAIN), (bad, ask, ark))


NAME = "the certificate is not one of a VCEK"
NOT_P384 = "the key is not on P-384"
TYPE = "an extension of another type"
BOOTLOADER = f"{OIDS}.3.3"


@pytest.mark.parametrize(
    ("chain", "detail"),
    [
        pytest.param(Chain(curve=ec.SECP256R1), NOT_P384, id="P-256"),
        pytest.param(RsaChain(), NOT_P384, id="RSA"),
        pytest.param(Chain(leaf_name="SEV-VXEK"), NAME, id="name"),
        pytest.param(Chain(product="Naples"), "unknown product 'Naples'", id="product"),
        pytest.param(Chain(hwid=CHIP_ID[:63]), TYPE, id="hardware id"),
        pytest.param(
            Chain(hwid=b"\x04\x3f" + CHIP_ID[:63]),
            "a hardware id has 8 or 64 bytes",
            id="hardware id as an octet string",
        ),
        pytest.param(
            Chain(extensions={BOOTLOADER: b"\x02\x02\x01\x00"}),
            f"{BOOTLOADER} is not a byte",
            id="no byte",
        ),
        pytest.param(Chain(extensions={BOOTLOADER: b"\x04\x01\x18"}), TYPE, id="no integer"),
        pytest.param(Chain(extensions={BOOTLOADER: b"\x02\x01"}), TYPE, id="cut"),
        pytest.param(Chain(extensions={BOOTLOADER: b""}), TYPE, id="empty"),
        pytest.param(Chain(extensions={BOOTLOADER: b"\x02\x01\x18\x00"}), TYPE, id="longer"),
        pytest.param(Chain(product="Turin-A0"), f"no extension {OIDS}.3.9", id="Turin without FMC"),
        pytest.param(
            Chain(leaf_name="SEV-VLEK", extensions={f"{OIDS}.5": b"\x04\x01A"}), TYPE, id="CSP id"
        ),
    ],
)
def test_certificate_of_another_form_is_refused(chain: Chain, detail: str) -> None:
    assert refusal(of(chain)) == ("snp.endorsement_key", detail)


def test_highest_versions_are_read() -> None:
    assert verify(of(Chain(reported=b"\xff" * 8))).tcb == TcbVersion(
        fmc=None, bootloader=255, tee=255, snp=255, microcode=255
    )


def test_hardware_id_may_be_an_octet_string() -> None:
    wrapped = Chain(hwid=b"\x04\x40" + CHIP_ID)
    assert verify(of(wrapped)).hwid == CHIP_ID
    assert verify(of(Chain(hwid=CHIP_ID[:8]))).hwid == CHIP_ID[:8] + bytes(56)


def test_certificate_under_the_wrong_type_is_refused() -> None:
    vlek = Chain(leaf_name="SEV-VLEK")
    for kind, other in ((CertType.VCEK, vlek), (CertType.VLEK, CHAIN)):
        assert refusal(evidence((kind, der_of(other.leaf)))) == (
            "snp.endorsement_key",
            f"the certificate is not one of a {kind}",
        )
    assert reason_of(evidence((CertType.VCEK, b"\x30\x00"))) == "snp.certificate"


def test_two_keys_are_refused() -> None:
    leaf = (CertType.VCEK, der_of(CHAIN.leaf))
    two_keys = ("snp.endorsement_key", "2 keys in the evidence")
    assert refusal(evidence(leaf, leaf)) == two_keys
    # One that is registered does not speak for them.
    assert refusal(evidence(leaf, leaf), (*CHAIN.trusted, der_of(CHAIN.leaf))) == two_keys


@pytest.mark.parametrize(("signing_key", "kind"), [(0, CertType.VCEK), (1, CertType.VLEK)])
def test_of_a_chips_key_and_a_providers_the_report_names_its_own(
    signing_key: int, kind: CertType
) -> None:
    vlek = (CertType.VLEK, der_of(Chain(leaf_name="SEV-VLEK").leaf))
    certificates = evidence((CertType.VCEK, der_of(CHAIN.leaf)), vlek).certificates

    def by(number: int) -> SnpEvidence:
        report = FakeSnp().with_fields(key_info=number << 2).report(bytes(64))
        return SnpEvidence(report=parse_snp_report(report), certificates=certificates)

    assert verify(by(signing_key)).kind is kind
    assert reason_of(by(7)) == "snp.endorsement_key"


def test_key_that_the_host_does_not_have_may_be_registered() -> None:
    vendors, leaf = CHAIN.trusted, der_of(CHAIN.leaf)
    shown = verify(of(CHAIN), vendors)
    assert shown.registered == vendors
    known = verify(evidence(), (*vendors, leaf))
    assert known == replace(shown, registered=(leaf, *vendors))
    assert reason_of(evidence()) == "snp.endorsement_key"
    others = (Chain(hwid=bytes(64)), Chain(reported=bytes(8)))
    wrong = (*CHAIN.trusted, *(der_of(chain.leaf) for chain in others))
    assert reason_of(evidence(), wrong) == "snp.endorsement_key"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param("a003020102", "a003020137", id="an unknown version"),
        pytest.param("0c0953", "010953", id="a name that is no text"),
        pytest.param("0c0953", "030953", id="a name that is bits"),
        pytest.param("0603550403", "0603550406", id="a country of more than two letters"),
    ],
)
@pytest.mark.parametrize("kind", [CertType.VCEK, CertType.ASK])
def test_certificate_that_the_library_balks_at_is_refused(
    kind: CertType, right: str, wrong: str
) -> None:
    issued = {CertType.VCEK: CHAIN.leaf, CertType.ASK: CHAIN.ask}
    good = der_of(issued[kind])
    bad = good.replace(bytes.fromhex(right), bytes.fromhex(wrong))
    assert bad != good
    others = {CertType.VCEK: der_of(CHAIN.leaf), kind: bad}
    assert reason_of(evidence(*others.items())) == "snp.certificate"
    others[kind] = good
    assert verify(evidence(*others.items())).kind is CertType.VCEK
