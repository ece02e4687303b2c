"""Evidence from a real TPM emulator: provisioned by tpm2-tools, spoken to by the guest's own code.

Needs root and the tools tree (`CCINIT_TOOLS`, or build/tools). The checks of the quote use
`cryptography` and hashlib directly, not the project's verifier.
"""

import hashlib
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from ccinit.agent.jobs.messages.measurement import ExtendReply, ExtendRequest
from ccinit.agent.platform import measurement
from ccinit.agent.platform.measurement import RuntimeMeasurement, container_starts
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.attest.detect import Node, Platform
from ccinit.attest.tpm import AK_HANDLE, TpmAttester
from ccinit.errors import ChildError, PeerError, VerificationError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.evidence.tpm import TpmEvidence, parse_tpm_evidence
from ccinit.formats.tcg.event_log import Algorithm
from ccinit.formats.tcg.tpm2 import (
    ALL_SHA256_PCRS,
    parse_tpms_attest,
    parse_tpmt_signature,
)
from ccinit.kernel.event_loop import EventLoop, Lock
from ccinit.kernel.tpm import TpmDevice
from ccinit.measure.initdata import bind_initdata
from ccinit.measure.register import Pcr
from ccinit.measure.tpm_pcr import TpmPcr
from tests.fakes.platforms.swtpm import Swtpm

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest

DIGEST = hashlib.sha256(b"initdata").digest()
GET_RANDOM = struct.pack(">HIIH", 0x8001, 12, 0x17B, 8)
"""TPM2_GetRandom of eight bytes (TPM 2.0 Library, part 3, section 16.1)."""

ROOT = Path(__file__).parents[3]
CHILDREN = Children(
    (sys.executable, "-m", "ccinit"),
    {"PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path)))},
)


@pytest.fixture(scope="module")
def swtpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    tpm = Swtpm(tmp_path_factory.mktemp("swtpm"))
    try:
        tpm.provision(AK_HANDLE)
        yield tpm
    finally:
        tpm.stop()


@pytest.fixture
def device(swtpm: Swtpm) -> Iterator[TpmDevice]:
    with swtpm.open() as device:
        yield device


def verify_quote(evidence: TpmEvidence) -> None:
    """Check signature and digest; raises InvalidSignature."""
    key = load_der_public_key(evidence.ak_public_der)
    assert isinstance(key, RSAPublicKey)
    signature = parse_tpmt_signature(evidence.signature)
    key.verify(signature, evidence.message, PKCS1v15(), SHA256())
    quoted = parse_tpms_attest(evidence.message).pcr_digest
    assert quoted == hashlib.sha256(b"".join(evidence.pcrs)).digest()


def test_initdata_is_bound_once_and_a_second_bind_is_refused(device: TpmDevice) -> None:
    register = TpmPcr(device, Pcr.INITDATA)

    bind_initdata(register, DIGEST)
    with pytest.raises(VerificationError) as refused:
        bind_initdata(register, DIGEST)
    assert refused.value.reason == "config.register_used"
    assert register.read() == hashlib.sha256(bytes(32) + DIGEST).digest()


@pytest.mark.parametrize("size", [32, 64])
def test_evidence_carries_report_data_registers_and_the_provisioned_key(
    swtpm: Swtpm, device: TpmDevice, size: int
) -> None:
    TpmPcr(device, Pcr.EVENT_LOG).extend(hashlib.sha256(b"event").digest())
    report_data = ReportData(os.urandom(size))

    value = TpmAttester(device).collect_evidence(report_data)
    evidence = parse_tpm_evidence(value)

    verify_quote(evidence)
    attest = parse_tpms_attest(evidence.message)
    assert attest.extra_data == report_data
    assert attest.pcr_selections == (ALL_SHA256_PCRS,)
    assert evidence.pcrs[Pcr.EVENT_LOG] != bytes(32)
    assert evidence.pcrs[17] == b"\xff" * 32  # dynamic launch has not happened
    provisioned = load_pem_public_key((swtpm.directory / "ak.pem").read_bytes())
    assert evidence.ak_public_der == provisioned.public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.usefixtures("as_root")
def test_child_extends_the_register_of_events_and_no_event_twice(
    swtpm: Swtpm, device: TpmDevice
) -> None:
    register = TpmPcr(device, Pcr.EVENT_LOG)
    before = register.read()
    events = tuple(container_starts(name, Digest("ab" * 32)) for name in ("one", "two"))
    digests = tuple(event.digest(Algorithm.SHA256) for event in events)
    request = ExtendRequest(tee=Tee.TPM, before=before, digests=digests)
    expected = before
    for digest in digests:
        expected = hashlib.sha256(expected + digest).digest()

    device.close()  # the emulator serves one client at a time
    for _repeated in range(2):
        fd = swtpm.connect()
        try:
            reply = EventLoop().run(
                CHILDREN.run(Role.EXTEND, request, ExtendReply, seconds=30, fds={"register": fd})
            )
        finally:
            os.close(fd)
        assert reply.value == expected
    with swtpm.open() as again:
        assert TpmPcr(again, Pcr.EVENT_LOG).read() == expected


class DyingOnce:
    """Children, the first of which dies between a command of its own and the reply."""

    def __init__(self) -> None:
        self.left = 0

    async def run(
        self,
        role: Role,
        request: ExtendRequest,
        reply: type[ExtendReply],
        *,
        seconds: float,
        fds: dict[str, int],
    ) -> ExtendReply:
        if not self.left:
            self.left = os.write(fds["register"], GET_RANDOM)
            raise ChildError("child.ended", "killed")
        return await CHILDREN.run(role, request, reply, seconds=seconds, fds=fds)


@pytest.mark.usefixtures("as_root")
def test_what_a_dead_child_left_in_the_device_does_not_reach_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swtpm, children = Swtpm(tmp_path), DyingOnce()
    monkeypatch.setattr(measurement, "open_path", lambda *_: swtpm.connect())
    guest = SimpleNamespace(event=lambda _: None, children=children, evidence_lock=Lock())
    node = Node(name="register", path="/dev/tpmrm0", writable=True)
    runtime = RuntimeMeasurement(cast("Guest", guest), Platform(tee=Tee.TPM, register=node))
    event = container_starts("web", Digest("cd" * 32))
    runtime.note(event)
    try:
        EventLoop().run(runtime.measure())
        with swtpm.open() as again:
            value = TpmPcr(again, Pcr.EVENT_LOG).read()
    finally:
        swtpm.stop()
    assert children.left == len(GET_RANDOM)
    assert value == hashlib.sha256(bytes(32) + event.digest(Algorithm.SHA256)).digest()


def test_evidence_with_one_changed_byte_does_not_verify(device: TpmDevice) -> None:
    value = TpmAttester(device).collect_evidence(ReportData(bytes(range(32))))
    good = parse_tpm_evidence(value)
    verify_quote(good)

    message = bytearray(good.message)
    message[-1] ^= 1
    with pytest.raises(InvalidSignature):
        verify_quote(
            TpmEvidence(
                message=bytes(message),
                signature=good.signature,
                pcrs=good.pcrs,
                ak_public_der=good.ak_public_der,
            )
        )


def test_key_that_may_sign_anything_is_no_attestation_key(swtpm: Swtpm) -> None:
    handle = 0x81010003
    swtpm.tools("tpm2", "createprimary", "-C", "o", "-G", "rsa", "-c", "owner.ctx")
    swtpm.tools(
        *("tpm2", "create", "-C", "owner.ctx", "-G", "rsa2048:rsassa-sha256:null"),
        *("-u", "free.pub", "-r", "free.priv", "-c", "free.ctx"),
    )
    swtpm.tools("tpm2", "evictcontrol", "-c", "free.ctx", hex(handle))
    with swtpm.open() as device, pytest.raises(VerificationError) as refused:
        TpmAttester(device, ak_handle=handle).collect_evidence(ReportData(bytes(32)))
    assert refused.value.reason == "attest.key"


def test_tpm_without_the_key_refuses_by_its_response_code(device: TpmDevice) -> None:
    with pytest.raises(PeerError) as refused:
        TpmAttester(device, ak_handle=0x8101FFFF).collect_evidence(ReportData(bytes(32)))
    assert refused.value.reason == "tpm.refused"
    assert "0x18b" in refused.value.detail  # TPM_RC_HANDLE of handle 1
