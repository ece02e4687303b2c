"""Azure's paravisor as a guest sees it: a report in the vTPM that follows what the guest writes.

Laid out here a second time, from Azure's description of the report, and not with the project's
encoders. The hardware report is given; who signs it is `tests.fakes`' other modules.
"""

import base64
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

from ccinit.formats.encoding.strict_json import JsonValue
from tests.fakes.platforms.snp import FakeSnp, der_of
from tests.fakes.platforms.tdx_device import td_report
from tests.fakes.platforms.tdx_quote import FakeTdx
from tests.fakes.platforms.tpm_quote import FakeTpm

REPORT_INDEX = 0x01400001
USER_DATA_INDEX = 0x01400002
AK_HANDLE = 0x81000003
SNP, TDX = 2, 4
OWNER = 0x40000001
EMPTY_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)

Transmit = Callable[[bytes], bytes]
MakeHardware = Callable[[bytes], bytes]
"""Makes the hardware's report over 64 bytes of report data."""


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def encode_claims(modulus: bytes, user_data: bytes, **changes: object) -> bytes:
    """The paravisor's JSON; `changes` replace members."""
    claims: dict[str, object] = {
        "keys": [
            {
                "kid": "HCLAkPub",
                "key_ops": ["sign"],
                "kty": "RSA",
                "e": "AQAB",
                "n": base64url(modulus),
            }
        ],
        "vm-configuration": {"secure-boot": False, "tpm-enabled": True},
        "user-data": user_data.hex().upper(),
    }
    return json.dumps({**claims, **changes}, separators=(",", ":")).encode()


def encode_report(kind: int, hardware: bytes, claims: bytes, *, hash_type: int = 1) -> bytes:
    header = b"HCLA" + struct.pack("<IIII12x", 2, 0, 2, 0)
    runtime = struct.pack("<IIIII", 20 + len(claims), 1, kind, hash_type, len(claims))
    return header + hardware.ljust(1184, b"\0") + runtime + claims


@dataclass(frozen=True)
class Paravisor:
    """Keeps the report of one vTPM up to date; `renew` is what it does some time after a write."""

    transmit: Transmit
    kind: int
    modulus: bytes
    make_hardware: MakeHardware

    def renew(self) -> None:
        """Make a new report over the user data that is in the TPM now."""
        claims = encode_claims(self.modulus, self._read_user_data())
        digest = hashlib.sha256(claims).digest().ljust(64, b"\0")
        self._write(REPORT_INDEX, encode_report(self.kind, self.make_hardware(digest), claims))

    def _read_user_data(self) -> bytes:
        command = struct.pack(">II", OWNER, USER_DATA_INDEX) + EMPTY_PASSWORD
        reply = self.transmit(_frame(0x14E, command + struct.pack(">HH", 64, 0)))
        return reply[16:80]

    def _write(self, index: int, data: bytes) -> None:
        for offset in range(0, len(data), 512):
            piece = data[offset : offset + 512]
            command = struct.pack(">II", OWNER, index) + EMPTY_PASSWORD
            body = struct.pack(">H", len(piece)) + piece + struct.pack(">H", offset)
            self.transmit(_frame(0x137, command + body))


PARAVISOR = hashlib.sha384(b"paravisor").digest()


@dataclass(frozen=True, kw_only=True)
class AzureVm:
    """A VM with its paravisor, seen from the outside: every part may be another than it should.

    Attributes:
        hardware: what is below the paravisor.
        tpm: of the paravisor.
        ak: modulus of the key that the claims name; None for the TPM's own.
        user_data: in the claims; None for what the evidence is asked to carry.
        claims: members of the claims that are replaced, before they are hashed.
        spoil: changes the encoded report afterwards.
        endorse: what the metadata service gives for a hardware report; None for the truth.
    """

    hardware: FakeSnp | FakeTdx
    tpm: FakeTpm
    ak: int | None = None
    user_data: bytes | None = None
    claims: dict[str, object] = field(default_factory=dict)
    spoil: Callable[[bytes], bytes] = bytes
    endorse: Callable[[bytes], bytes] | None = None

    def but(self, **changes: object) -> Self:
        return replace(self, **changes)  # type: ignore[arg-type]

    def evidence(self, report_data: bytes) -> dict[str, JsonValue]:
        modulus = self.ak or self.tpm.key.public_key().public_numbers().n
        user_data = report_data if self.user_data is None else self.user_data
        text = encode_claims(
            modulus.to_bytes(256, "big"), user_data.ljust(64, b"\0"), **self.claims
        )
        asked = hashlib.sha256(text).digest().ljust(64, b"\0")
        quote = self.tpm.quote(report_data)
        endorsement = (self.endorse or self.endorsement)(asked)
        return {
            "version": 2,
            "tpm_quote": {
                "signature": quote.signature[6:].hex(),  # after algorithms and length
                "message": quote.message.hex(),
                "pcrs": [value.hex() for value in quote.pcrs],
            },
            "hcl_report": base64url(self.spoil(self.report(asked, text))),
            "vcek" if isinstance(self.hardware, FakeSnp) else "td_quote": base64url(endorsement),
        }

    def report(self, asked: bytes, text: bytes) -> bytes:
        """The paravisor's report over the hardware's report of `asked`."""
        if isinstance(self.hardware, FakeSnp):
            return encode_report(SNP, self.hardware.report(asked), text)
        return encode_report(TDX, td_report(self.hardware, asked), text)

    def endorsement(self, asked: bytes) -> bytes:
        if isinstance(self.hardware, FakeSnp):
            return der_of(self.hardware.chain.leaf)
        return self.hardware.quote(asked)


def _frame(code: int, body: bytes) -> bytes:
    return struct.pack(">HII", 0x8002, 10 + len(body), code) + body
