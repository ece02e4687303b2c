"""Evidence from a real TPM emulator: provisioned by tpm2-tools, spoken to by the guest's own code.

Needs root and the tools tree (`CCINIT_TOOLS`, or build/tools). The checks of the quote use
`cryptography` and hashlib directly, not the project's verifier.
"""

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

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

from ccinit.agent.children import Children
from ccinit.agent.measurement import container_starts
from ccinit.agent.messages import ExtendReply, ExtendRequest
from ccinit.agent.roles import Role
from ccinit.attest.tpm import AK_HANDLE, TpmAttester
from ccinit.errors import PeerError, VerificationError
from ccinit.formats.digest import Digest
from ccinit.formats.event_log import Algorithm
from ccinit.formats.tee import ReportData, Tee
from ccinit.formats.tpm2 import (
    ALL_SHA256_PCRS,
    parse_tpms_attest,
    parse_tpmt_signature,
)
from ccinit.formats.tpm_evidence import TpmEvidence, parse_tpm_evidence
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.tpm import TpmDevice
from ccinit.measure.initdata import bind_initdata
from ccinit.measure.register import Pcr, TpmPcr
from rootfs_builder.tools_tree import ToolsTree

TOOLS = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")))
DIGEST = hashlib.sha256(b"initdata").digest()
ROOT = Path(__file__).parents[2]
CHILDREN = Children(
    (sys.executable, "-m", "ccinit"),
    {"PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path)))},
)


class Swtpm:
    """One emulator with an attestation key at its persistent handle."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._socket = directory / "tpm.sock"
        (directory / "state").mkdir()
        self._process = subprocess.Popen(
            TOOLS.command(
                (
                    *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory / 'state'}"),
                    *("--server", f"type=unixio,path={self._socket}"),
                    *("--ctrl", f"type=unixio,path={self._socket}.ctrl"),
                    *("--flags", "not-need-init,startup-clear"),
                ),
                directories=(directory,),
            ),
            stderr=subprocess.DEVNULL,  # a line for every client that leaves
        )
        deadline = time.monotonic() + 20
        while not self._socket.exists():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def tools(self, *command: str) -> None:
        """Run one command of tpm2-tools, and free the slots that it leaves taken."""
        self._run(*command)
        self._run("tpm2", "flushcontext", "-t")  # there is no resource manager in front

    def _run(self, *command: str) -> None:
        TOOLS.run(
            command,
            directories=(self.directory,),
            working_directory=self.directory,
            environment={"TPM2TOOLS_TCTI": f"swtpm:path={self._socket}"},
        )

    def connect(self) -> int:
        """Return a descriptor that takes commands."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(self._socket))
            return connection.detach()

    def open(self) -> TpmDevice:
        """Return the emulator as the guest's code sees a TPM."""
        return TpmDevice(self.connect(), name="swtpm")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)


def provision(tpm: Swtpm) -> None:
    """Make the attestation key, as a platform does before its first guest."""
    tpm.tools("tpm2", "createek", "-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub")
    tpm.tools(
        *("tpm2", "createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", "rsa", "-g", "sha256"),
        *("-s", "rsassa", "-u", "ak.pem", "-f", "pem"),
    )
    tpm.tools("tpm2", "evictcontrol", "-c", "ak.ctx", hex(AK_HANDLE))


@pytest.fixture(scope="module")
def swtpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    tpm = Swtpm(tmp_path_factory.mktemp("swtpm"))
    try:
        provision(tpm)
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
    signature = parse_tpmt_signature(evidence.signature).signature
    key.verify(signature, evidence.message, PKCS1v15(), SHA256())
    quoted = parse_tpms_attest(evidence.message).pcr_digest
    assert quoted == hashlib.sha256(b"".join(evidence.pcrs)).digest()


def test_initdata_is_bound_once_and_a_second_bind_is_refused(device: TpmDevice) -> None:
    register = TpmPcr(device, Pcr.INITDATA)

    assert bind_initdata(register, DIGEST) == hashlib.sha256(bytes(32) + DIGEST).digest()
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

    value = TpmAttester(device).collect_evidence(report_data).value
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


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give it up")
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


def test_evidence_with_one_changed_byte_does_not_verify(device: TpmDevice) -> None:
    value = TpmAttester(device).collect_evidence(ReportData(bytes(range(32)))).value
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
