"""Which certificates, whoever signed them, could be part of a platform's chains.

A verifier ignores all others. So if one is registered by mistake (a web server's certificate,
another vendor's root), the mistake would show only when a guest is refused.
"""

from collections.abc import Callable, Mapping, Sequence

from ccinit.errors import FormatError
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.attestation_requests.se import read_host_key
from guest_owner.kbs.verifiers import pck, snp_chain

CHECKS: Mapping[Tee, Callable[[bytes], object]] = {
    Tee.SNP: snp_chain.check_registrable,
    Tee.TDX: pck.check_registrable,
    Tee.AZ_SNP_VTPM: snp_chain.check_registrable,
    Tee.AZ_TDX_VTPM: pck.check_registrable,
    Tee.SE: read_host_key,
    Tee.SVSM: snp_chain.check_registrable,
}
"""A check for each platform that a vendor signs for; it is given DER."""


def check_vendor_certificates(platform: Tee, certificates: Sequence[bytes]) -> None:
    """Check that each of these could be part of a chain of the platform's.

    Args:
        platform: one of `VENDOR_PLATFORMS`.
        certificates: DER.

    Raises:
        FormatError: `root.kind`, `se.host_key`, …: which certificate, and what is expected.
    """
    for number, certificate in enumerate(certificates, start=1):
        try:
            CHECKS[platform](certificate)
        except FormatError as error:
            raise FormatError(error.reason, f"certificate {number}: {error.detail}") from error
