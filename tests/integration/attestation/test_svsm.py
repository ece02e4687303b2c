"""The whole way of an SVSM's vTPM: keys, credential, report, quote, and the real verifier.

The TPM is an emulator, spoken to by the guest's own code; processor, SVSM and the kernel's way to
them are stand-ins (tests/fakes). Needs root and the tools tree (`CCINIT_TOOLS`, or build/tools).
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.jobs import measure
from ccinit.agent.jobs.evidence import svsm_attester
from ccinit.agent.jobs.messages.evidence import EvidenceRequest
from ccinit.agent.jobs.messages.measurement import BindRequest
from ccinit.attest.svsm import read_keys
from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import JsonValue, encode_base64, parse_json
from ccinit.formats.evidence.snp import Certificate, CertType
from ccinit.formats.evidence.svsm import encode_svsm_keys, parse_svsm_evidence
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.tcg.tpm2_keys import AK_TEMPLATE, EK_TEMPLATE, is_made_from
from ccinit.formats.tcg.tpm_commands import TpmCommands
from ccinit.kernel import tsm
from ccinit.kernel.tpm import TpmDevice
from ccinit.kernel.tsm import open_vtpm_entry
from ccinit.values import replace as but
from guest_owner.kbs.appraisal import EvidenceRefusedError
from guest_owner.kbs.state.store import Store
from guest_owner.kbs.verifiers.svsm import verify_evidence
from tests.fakes.platforms.configfs_tsm import DIRECTORY, FakeConfigfs
from tests.fakes.platforms.snp import Chain, FakeSnp, der_of
from tests.fakes.platforms.svsm import Svsm
from tests.fakes.platforms.swtpm import Swtpm
from tests.fakes.platforms.tpm_quote import extend
from tests.integration.attestation.asked_guest import fetch_on_request
from tests.integration.attestation.svsm_world import DIGEST, LAUNCH, booted, svsm_kbs
from tests.integration.kbs.harness import DOCUMENT, SECRET, Kbs, refusal_of_another_log_key
from tests.unit.guest_owner.kbs.values import failed


@pytest.fixture(scope="module")
def kbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kbs]:
    with svsm_kbs(tmp_path_factory.mktemp("owner")) as server:
        yield server


@pytest.fixture(scope="module")
def swtpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    tpm = booted(tmp_path_factory.mktemp("swtpm"))
    yield tpm
    tpm.stop()


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    """A TPM that is in no SVSM: its registers say what its owner likes."""
    tpm = booted(tmp_path_factory.mktemp("another"))
    yield tpm
    tpm.stop()


@contextmanager
def connected(swtpm: Swtpm) -> Iterator[int]:
    fd = swtpm.connect()
    try:
        yield fd
    finally:
        os.close(fd)


@dataclass
class Guest:
    """One guest: its vTPM, and what the kernel reaches of the SVSM."""

    kbs: Kbs
    swtpm: Swtpm
    svsm: Svsm
    configfs: FakeConfigfs
    init_data: str = DOCUMENT.decode()
    request: bytes = b""

    def answer(self, data: ReportData, request: bytes) -> JsonValue:
        self.request = request
        self.configfs.make_service = self.svsm.attest
        asked = EvidenceRequest(tee=Tee.SVSM, report_data=data, verifiers_request=request)
        # The emulator takes one client at a time.
        with connected(self.swtpm) as tpm, open_vtpm_entry(data, DIRECTORY) as fds:
            return svsm_attester({**fds, "tpm": tpm}, asked).collect_evidence(data)

    def parameters(self) -> dict[str, dict[str, JsonValue]]:
        with self.swtpm.open() as device:
            return {"svsm": encode_svsm_keys(read_keys(device))}

    def fetch(self, parameters: Mapping[str, JsonValue] | None = None) -> bytes:
        return fetch_on_request(
            self.kbs,
            Tee.SVSM,
            self.answer,
            init_data=self.init_data,
            parameters=self.parameters() if parameters is None else parameters,
        )

    def refused(self, parameters: Mapping[str, JsonValue] | None = None) -> str:
        with pytest.raises(CcinitError) as refused:
            self.fetch(parameters)
        assert refused.value.reason == "kbs.attestation_error"
        return str(self.kbs.audit()[-1]["reason"])


@pytest.fixture
def guest(kbs: Kbs, swtpm: Swtpm, monkeypatch: pytest.MonkeyPatch) -> Guest:
    with swtpm.open() as device:
        manifest = read_keys(device).ek
    svsm = Svsm(snp=FakeSnp().with_fields(measurement=LAUNCH), manifest=manifest)
    configfs = FakeConfigfs(
        make_report=lambda _inblob, _level: (b"", b""), make_service=svsm.attest, floor=2
    )
    monkeypatch.setattr(tsm, "os", configfs)
    return Guest(kbs, swtpm, svsm, configfs)


def test_guest_below_an_svsm_gets_its_resource(guest: Guest) -> None:
    assert guest.fetch() == SECRET
    attest, release = guest.kbs.audit()[-2:]
    assert (attest["tee"], attest["decision"]) == ("svsm", "accepted")
    assert (attest["reference"], release["decision"]) == ("svsm-image", "released")
    assert attest["snp"]["measurement"] == LAUNCH.hex()
    assert attest["pcr"]["8"] == extend(bytes(32), DIGEST).hex()


def test_keys_are_the_same_whenever_they_are_made_and_leave_no_handle(guest: Guest) -> None:
    with guest.swtpm.open() as device:
        keys = {read_keys(device) for _ in range(8)}  # a TPM has room for three
    (found,) = keys
    assert is_made_from(found.ek, EK_TEMPLATE)
    assert is_made_from(found.ak, AK_TEMPLATE)


def test_endorsement_key_is_that_of_the_tcgs_template(guest: Guest) -> None:
    """As tpm2-tools makes it."""
    guest.swtpm.tools("tpm2", "createek", "-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub")
    made = (guest.swtpm.directory / "ek.pub").read_bytes()
    assert made[2:] == guest.svsm.manifest


def test_binding_names_the_keys(tmp_path_factory: pytest.TempPathFactory, guest: Guest) -> None:
    fresh = booted(tmp_path_factory.mktemp("fresh"), bound=False)
    try:
        with connected(fresh) as tpm:
            channel: Any = SimpleNamespace(fds={"tpm": tpm})
            reply = measure.run(BindRequest(tee=Tee.SVSM, digest=DIGEST), channel)
            held = TpmCommands(TpmDevice(tpm)).read_pcrs((8,))
        assert held == (extend(bytes(32), DIGEST),)
        named = parse_json(reply.parameters, "test", 4096)
        assert named == replace(guest, swtpm=fresh).parameters()
    finally:
        fresh.stop()


def test_tpm_that_is_not_the_svsms_is_refused(guest: Guest, another: Swtpm) -> None:
    """It names its own keys, which the SVSM does not; or the SVSM's, which it cannot use."""
    stranger = replace(guest, swtpm=another)
    assert stranger.refused().startswith("svsm.manifest: ")
    mixed = {"svsm": {**stranger.parameters()["svsm"], "ek": guest.parameters()["svsm"]["ek"]}}
    with pytest.raises(CcinitError) as refused:
        stranger.fetch(mixed)
    assert refused.value.reason == "tpm.refused"
    assert guest.fetch() == SECRET


def test_quote_of_another_tpm_is_refused(guest: Guest, another: Swtpm) -> None:
    """With the credential opened by the right one."""
    honest = guest.answer

    def mixed(data: ReportData, request: bytes) -> JsonValue:
        own: Any = honest(data, request)
        stranger = replace(guest, swtpm=another)
        with pytest.raises(CcinitError) as closed:
            stranger.answer(data, request)
        assert closed.value.reason == "tpm.refused"
        with another.open() as device:
            tpm = TpmCommands(device)
            key = tpm.create_primary(AK_TEMPLATE)
            tpm.flush(key.handle)
        return {**own, "ak": encode_base64(key.encoded)}

    guest.answer = mixed  # type: ignore[method-assign]
    assert guest.refused().startswith("svsm.ak: ")


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"measurement": b"m" * 48}, "paravisor.measurement"),
        ({"policy": 0x30000 | 1 << 19}, "snp.policy.debug"),
        ({"report_id_ma": b"a" * 32}, "snp.report_id_ma"),
        ({"launch_tcb": bytes(8)}, "snp.tcb.launch"),
    ],
)
def test_other_hardware_is_refused_by_name(
    guest: Guest, fields: dict[str, bytes | int], name: str
) -> None:
    guest.svsm.snp = guest.svsm.snp.with_fields(**fields)
    assert guest.refused().startswith(f"{name}: ")


@pytest.mark.parametrize("level", [1, 2, 3])
def test_report_of_a_guests_own_level_is_refused(guest: Guest, level: int) -> None:
    """The guest can have one over any data; only an SVSM has one of VMPL 0."""
    guest.svsm.level = level
    assert guest.refused().startswith("snp.vmpl: ")


def test_processor_of_another_vendor_is_refused(guest: Guest) -> None:
    guest.svsm.snp = replace(guest.svsm.snp, chain=Chain(number=1))
    assert guest.refused().startswith("snp.signature: ")


def test_document_of_the_host_is_refused(guest: Guest) -> None:
    other = replace(guest, init_data=DOCUMENT.decode() + "\n")
    assert other.refused().startswith("pcr.8: ")


def test_request_that_names_no_keys_is_refused(guest: Guest) -> None:
    assert "names no keys" in guest.refused({})
    keys = guest.parameters()["svsm"]
    swapped = {"svsm": {"ek": keys["ak"], "ak": keys["ek"]}}
    assert "svsm.ek" in guest.refused(swapped)


DATA = ReportData(bytes(range(64)))


def test_every_changed_part_is_refused_by_name(guest: Guest) -> None:
    guest.fetch()
    references = Store(guest.kbs.state).read_references()
    evidence = parse_svsm_evidence(guest.answer(DATA, guest.request))

    def names(changed: Any, data: bytes = DATA) -> list[str]:
        try:
            verify_evidence(
                changed.to_json_value(),
                report_data=data,
                initdata_digest=DIGEST,
                references=references,
            )
        except EvidenceRefusedError as error:
            return failed(error)
        return []

    assert names(evidence) == []
    assert names(but(evidence, activated=bytes(32))) == ["svsm.credential"]
    assert names(but(evidence, sealed=b"x" * 100)) == [
        "svsm.request",
        "svsm.manifest",
        "svsm.ak",
        "svsm.credential",
    ]
    manifest = bytearray(evidence.manifest)
    manifest[-1] ^= 1
    assert names(but(evidence, manifest=bytes(manifest))) == ["svsm.manifest", "snp.report_data"]
    ak = bytearray(evidence.ak)
    ak[5] ^= 4  # an attribute
    assert names(but(evidence, ak=bytes(ak))) == ["svsm.ak", "svsm.ak"]
    assert names(evidence, bytes(64)) == ["snp.report_data", "quote.report_data"]
    pcrs = (*evidence.tpm.pcrs[:23], b"x" * 32)
    assert names(but(evidence, tpm=but(evidence.tpm, pcrs=pcrs))) == ["quote.pcr_digest"]
    leaf = Certificate(cert_type=CertType.VCEK, data=der_of(Chain().leaf))
    assert names(but(evidence, snp=but(evidence.snp, certificates=(leaf,)))) == []
    without = replace(references, request_key=None)
    references = without
    assert names(evidence)[0] == "svsm.request"
    references = replace(without, request_key=bytes(32), requirements=())
    assert "paravisor.requirements" in names(evidence)


def test_credential_of_another_handshake_still_shows_where_the_keys_are(guest: Guest) -> None:
    guest.fetch()
    earlier, honest = guest.request, guest.answer
    guest.answer = lambda data, request: honest(data, earlier)  # type: ignore[method-assign]  # noqa: ARG005
    assert guest.fetch() == SECRET  # what makes it fresh is the report data


def test_sealed_logs_key_is_bound_by_the_kbss_request(guest: Guest) -> None:
    guest.fetch()
    answer = partial(guest.answer, request=guest.request)
    assert refusal_of_another_log_key(guest.kbs, Tee.SVSM, answer) == "snp.report_data"


def test_report_over_something_else_ends_the_job(guest: Guest) -> None:
    guest.fetch()
    guest.svsm.attest = lambda guid, nonce: (  # type: ignore[method-assign]  # noqa: ARG005
        guest.svsm.snp.report(nonce),
        guest.svsm.manifest,
    )
    with pytest.raises(CcinitError) as refused:
        guest.answer(DATA, guest.request)
    assert refused.value.reason == "attest.report"


def test_without_a_request_there_is_no_evidence(guest: Guest) -> None:
    with pytest.raises(CcinitError) as refused:
        guest.answer(DATA, b"")
    assert refused.value.reason == "attest.request"
