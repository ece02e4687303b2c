"""Simulated TDX; the launch field is MRCONFIGID.

Quotes have the real format (version 4) and a valid signature, by an attestation key that anybody
can read below, under a chain of no vendor (tests/vectors/tdx_sim). They prove nothing: the
firmware's event log and the registers that follow from it are constants, and of no image. As on
Linux before 6.16, there is no register that the guest may extend. Layouts are those that
`ccinit.formats.evidence.tdx_quote` and `ccinit.formats.evidence.tdx_report` parse.
"""

import base64
import struct
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.attest.platform_fd import PlatformFd
from ccinit.formats.tcg.event_log import (
    END_OF_RECORDS,
    Algorithm,
    LoggedEvent,
    encode_event,
    encode_header,
    replay,
)
from ccinit.kernel.tsm import TDX_GUEST

_SHA384 = Algorithm.SHA384
_SEPARATOR, _CONFIG_FLAGS, _EVENT_TAG, _APPLICATION = 0x4, 0xA, 0x6, 0x80000003
MRTD = _SHA384.hash(b"ccinit simulated firmware")
MRSEAM = _SHA384.hash(b"ccinit simulated TDX module")
_EVENTS = tuple(
    LoggedEvent(register=register, kind=kind, digest=_SHA384.hash(data), data=data)
    for register, kind, data in (  # numbers of the log are RTMR + 1
        (1, _CONFIG_FLAGS, b"ccinit simulated tables"),
        (1, _SEPARATOR, bytes(4)),
        (2, _APPLICATION, b"ccinit simulated kernel"),
        (3, _EVENT_TAG, b"ccinit simulated command line"),
    )
)
EVENT_LOG = (
    encode_header(_SHA384)
    + b"".join(encode_event(event, _SHA384) for event in _EVENTS)
    + END_OF_RECORDS
)
RTMRS = tuple(
    replay((event.digest for event in _EVENTS if event.register == rtmr + 1), _SHA384)
    for rtmr in range(4)
)

_VENDOR_INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_HEADER = struct.pack("<HHI4x16s20x", 4, 2, 0x81, _VENDOR_INTEL)  # version, ECDSA P-256, TDX
_TCB_SVN = bytes((5, 1, 2)).ljust(16, b"\0")
_ATTRIBUTES = struct.pack("<QQ", 1 << 28, 0x0602E7)  # SEPT_VE_DISABLE and nothing else; XFAM
_QE_CERTIFICATION, _REPORT_TYPE_TDX = 6, 0x81
# Nobody's: see above.
_KEY = int("03b7e70f716a3498001753343e6110911071153dc5d73b604b6fa0ec261a7e53", 16)
_CERTIFICATION = (
    "BwcCAgMBAAMAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEQAAAAAAAADnAAAAAAAAAKX-cVThEo"
    "eiTh-WlYE8pwcHpiQ-v2e7JnZ_ySl8U0oSAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADHCF7wjgLSXD9UGWe_"
    "PsAS55IQwX3m1BtR-uA40rEfxAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIACAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAUpQMkacDZsOhBvdexiW2Cg3PtTlUGCrfpuwqPwE6FsA"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAdA_Qbqkv-YAbe3Kq5dq0VuY9hq74EtQ97vwvzG7mO-mXQB0X2GL0"
    "I0pczMfCRgww2hYpQ1kKjth1bfm_i8wgHiAAAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8FAJcLAAAtLS0tLU"
    "JFR0lOIENFUlRJRklDQVRFLS0tLS0KTUlJRUdqQ0NBNytnQXdJQkFnSVVBSWw2U29ML3diOWJpcm1WY2t6ZUZxV1J3bUF3"
    "Q2dZSUtvWkl6ajBFQXdJdwpUVEVpTUNBR0ExVUVBd3daU1c1MFpXd2dVMGRZSUZCRFN5QlFiR0YwWm05eWJTQkRRVEVhTU"
    "JnR0ExVUVDZ3dSClNXNTBaV3dnUTI5eWNHOXlZWFJwYjI0eEN6QUpCZ05WQkFZVEFsVlRNQjRYRFRJMU1ERXdNVEF3TURB"
    "d01Gb1gKRFRRME1USXlOekF3TURBd01Gb3dUVEVpTUNBR0ExVUVBd3daU1c1MFpXd2dVMGRZSUZCRFN5QkRaWEowYVdacA"
    "pZMkYwWlRFYU1CZ0dBMVVFQ2d3UlNXNTBaV3dnUTI5eWNHOXlZWFJwYjI0eEN6QUpCZ05WQkFZVEFsVlRNRmt3CkV3WUhL"
    "b1pJemowQ0FRWUlLb1pJemowREFRY0RRZ0FFNDRTT1Z4Yk9kMWZXMmhPakpFQUNQRnBVdzNTWmk0NEUKczFUZXRTWUswNG"
    "44VU9qTFY0MElIZVkzSVpnWWhPbFRrelNVMmZnQXZ5S3owZzdPMFI1ZWFhT0NBbnN3Z2dKMwpNQXdHQTFVZEV3RUIvd1FD"
    "TUFBd0RnWURWUjBQQVFIL0JBUURBZ2JBTUIwR0ExVWREZ1FXQkJTalNQSzV1bG1QCldkQXdxNGZFbk5Yc2VsYTVFakFmQm"
    "dOVkhTTUVHREFXZ0JSOGY5eGhaNGtZM3FLRldhQ2M1U0JmQkhyb3l6Q0MKQWhVR0NTcUdTSWI0VFFFTkFRU0NBZ1l3Z2dJ"
    "Q01CNEdDaXFHU0liNFRRRU5BUUVFRUFBQkFnTUVCUVlIQ0FrSwpDd3dORGc4d2dnRmpCZ29xaGtpRytFMEJEUUVDTUlJQl"
    "V6QVFCZ3NxaGtpRytFMEJEUUVDQVFJQkJ6QVFCZ3NxCmhraUcrRTBCRFFFQ0FnSUJCekFRQmdzcWhraUcrRTBCRFFFQ0F3"
    "SUJBakFRQmdzcWhraUcrRTBCRFFFQ0JBSUIKQWpBUUJnc3Foa2lHK0UwQkRRRUNCUUlCQXpBUUJnc3Foa2lHK0UwQkRRRU"
    "NCZ0lCQVRBUUJnc3Foa2lHK0UwQgpEUUVDQndJQkFEQVFCZ3NxaGtpRytFMEJEUUVDQ0FJQkF6QVFCZ3NxaGtpRytFMEJE"
    "UUVDQ1FJQkFEQVFCZ3NxCmhraUcrRTBCRFFFQ0NnSUJBREFRQmdzcWhraUcrRTBCRFFFQ0N3SUJBREFRQmdzcWhraUcrRT"
    "BCRFFFQ0RBSUIKQURBUUJnc3Foa2lHK0UwQkRRRUNEUUlCQURBUUJnc3Foa2lHK0UwQkRRRUNEZ0lCQURBUUJnc3Foa2lH"
    "K0UwQgpEUUVDRHdJQkFEQVFCZ3NxaGtpRytFMEJEUUVDRUFJQkFEQVFCZ3NxaGtpRytFMEJEUUVDRVFJQkRUQWZCZ3NxCm"
    "hraUcrRTBCRFFFQ0VnUVFCd2NDQWdNQkFBTUFBQUFBQUFBQUFEQVFCZ29xaGtpRytFMEJEUUVEQkFJQUFEQVUKQmdvcWhr"
    "aUcrRTBCRFFFRUJBWUFnRzhGQUFBd0R3WUtLb1pJaHZoTkFRMEJCUW9CQVRBZUJnb3Foa2lHK0UwQgpEUUVHQkJBQUFBQU"
    "FBQUFBQUFBQUFBQUFBQUFBTUNBR0NpcUdTSWI0VFFFTkFRY3dFakFRQmdzcWhraUcrRTBCCkRRRUhBUUVCL3pBS0JnZ3Fo"
    "a2pPUFFRREFnTkpBREJHQWlFQXFtN2VSNDhzYk1GT3I0ZVc0KzR2elcycHZwUDIKZkUzcGowOU1xYzZSVHFzQ0lRRGFISk"
    "V3MDRwL29mQVRnajI4d2pCZjltNTliRUlYYXJyeTVWeDVmS3RpUFE9PQotLS0tLUVORCBDRVJUSUZJQ0FURS0tLS0tCi0t"
    "LS0tQkVHSU4gQ0VSVElGSUNBVEUtLS0tLQpNSUlCK0RDQ0FaK2dBd0lCQWdJVFIxdWdLS0d3K2svZ202U3JEMVo4c2RnWE"
    "t6QUtCZ2dxaGtqT1BRUURBakJGCk1Sb3dHQVlEVlFRRERCRkpiblJsYkNCVFIxZ2dVbTl2ZENCRFFURWFNQmdHQTFVRUNn"
    "d1JTVzUwWld3Z1EyOXkKY0c5eVlYUnBiMjR4Q3pBSkJnTlZCQVlUQWxWVE1CNFhEVEkxTURFd01UQXdNREF3TUZvWERUUT"
    "BNVEl5TnpBdwpNREF3TUZvd1RURWlNQ0FHQTFVRUF3d1pTVzUwWld3Z1UwZFlJRkJEU3lCUWJHRjBabTl5YlNCRFFURWFN"
    "QmdHCkExVUVDZ3dSU1c1MFpXd2dRMjl5Y0c5eVlYUnBiMjR4Q3pBSkJnTlZCQVlUQWxWVE1Ga3dFd1lIS29aSXpqMEMKQV"
    "FZSUtvWkl6ajBEQVFjRFFnQUVmNThPdDN0SURBdE13dkk1NmNzN3FOTXVBOGRYOG1RN2xWN1g3NlErd3F4egpzcUc1NEx3"
    "Z1JmVWdtQVhzbmFoRkxXY0VYRzFaa0E0R0p1amo5cjNYR3FObU1HUXdFZ1lEVlIwVEFRSC9CQWd3CkJnRUIvd0lCQURBT0"
    "JnTlZIUThCQWY4RUJBTUNBUVl3SFFZRFZSME9CQllFRkh4LzNHRm5pUmplb29WWm9KemwKSUY4RWV1akxNQjhHQTFVZEl3"
    "UVlNQmFBRkJONjRlRlBCeG13bjF2dFo3amQ5aDlQN0Fua01Bb0dDQ3FHU000OQpCQU1DQTBjQU1FUUNJR2UxWmNiOGUrS0"
    "NIbjFReTBabHF2K2NzTWFucUtzZWlQREtWZ0RDMTFZckFpQUl3UnZQCmpxaGhQTlNiVk95STJ2Zi95RG1EQlB4amVwMXo0"
    "L1BzYnRXOERRPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQotLS0tLUJFR0lOIENFUlRJRklDQVRFLS0tLS0KTUlJQj"
    "h6Q0NBWmlnQXdJQkFnSVVBSzZLS25DTjNhY29BbHhQUS9UNU1hMEVjRkF3Q2dZSUtvWkl6ajBFQXdJdwpSVEVhTUJnR0Ex"
    "VUVBd3dSU1c1MFpXd2dVMGRZSUZKdmIzUWdRMEV4R2pBWUJnTlZCQW9NRVVsdWRHVnNJRU52CmNuQnZjbUYwYVc5dU1Rc3"
    "dDUVlEVlFRR0V3SlZVekFlRncweU5UQXhNREV3TURBd01EQmFGdzAwTkRFeU1qY3cKTURBd01EQmFNRVV4R2pBWUJnTlZC"
    "QU1NRVVsdWRHVnNJRk5IV0NCU2IyOTBJRU5CTVJvd0dBWURWUVFLREJGSgpiblJsYkNCRGIzSndiM0poZEdsdmJqRUxNQW"
    "tHQTFVRUJoTUNWVk13V1RBVEJnY3Foa2pPUFFJQkJnZ3Foa2pPClBRTUJCd05DQUFUVEY4NHhuVUhSNEFWYWRuZmVLTk9r"
    "aUJqT0NmcFdCWFZ5YWtoTVRJdHBUMHVtQm9HR09HeEkKdjc5d28ySGlmV3dvNWpPU0xzM2FTUjFtK0xUNzYwMXpvMll3Wk"
    "RBU0JnTlZIUk1CQWY4RUNEQUdBUUgvQWdFQgpNQTRHQTFVZER3RUIvd1FFQXdJQkJqQWRCZ05WSFE0RUZnUVVFM3JoNFU4"
    "SEdiQ2ZXKzFudU4zMkgwL3NDZVF3Ckh3WURWUjBqQkJnd0ZvQVVFM3JoNFU4SEdiQ2ZXKzFudU4zMkgwL3NDZVF3Q2dZSU"
    "tvWkl6ajBFQXdJRFNRQXcKUmdJaEFOUC8yTWgvQXdHV1BEYXA1Y0FKTFJiTE5ucVlMUFZnYnFobXV1M1VQY1VwQWlFQXVj"
    "TjgrUVk4Z3YwSgpnaVhHZGRXSHNTM1E3RGp0a0xReDhkdFQ0bTlQa3NvPQotLS0tLUVORCBDRVJUSUZJQ0FURS0tLS0tCg"
    "A="
)


def make_files(mrconfigid: bytes, report_data: bytes) -> Mapping[str, bytes]:
    """Return an entry's attributes by name, as configfs-tsm has them, and what the guest reads.

    `td_report` stands for the device's answer, `ccel` for firmware's memory.
    """
    return {
        "provider": TDX_GUEST.encode() + b"\n",
        "generation": b"2\n",
        "generation_after": b"2\n",
        "outblob": make_quote(mrconfigid, report_data),
        PlatformFd.TD_REPORT: make_td_report(mrconfigid, report_data),
        PlatformFd.CCEL: EVENT_LOG,
    }


def make_quote(mrconfigid: bytes, report_data: bytes) -> bytes:
    """Return a signed quote over 64 bytes of report data."""
    module = _TCB_SVN + MRSEAM + bytes(48 + 8)  # signed by Intel, no attributes
    signed = _HEADER + module + _domain(mrconfigid) + report_data
    key = ec.derive_private_key(_KEY, ec.SECP256R1())
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(SHA256())))
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    certification = base64.urlsafe_b64decode(_CERTIFICATION)
    data = (
        r.to_bytes(32, "big")
        + s.to_bytes(32, "big")
        + point[1:]
        + struct.pack("<HI", _QE_CERTIFICATION, len(certification))
        + certification
    )
    return signed + struct.pack("<I", len(data)) + data


def make_td_report(mrconfigid: bytes, report_data: bytes) -> bytes:
    """Return the module's own report, 1024 bytes; the MAC, which only it can check, is zero."""
    mac = bytes((_REPORT_TYPE_TDX,)).ljust(128, b"\0") + report_data
    return (mac.ljust(512, b"\0") + _domain(mrconfigid)).ljust(1024, b"\0")


def _domain(mrconfigid: bytes) -> bytes:
    """TDINFO as far as a quote has it, too: ATTRIBUTES to RTMR 3."""
    return _ATTRIBUTES + MRTD + mrconfigid + bytes(2 * 48) + b"".join(RTMRS)
