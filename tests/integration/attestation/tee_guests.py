"""Guests of SEV-SNP and TDX, from the kernel's interface to the resource, and their owner's KBS.

The processor and the kernel's interface to it are stand-ins (tests/fakes/platforms/snp.py,
tdx_quote.py, tdx_boot.py, configfs_tsm.py); reports, quotes, certificates, event logs and
everything behind them are as on hardware. What is registered is so with the owner's own commands.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.agent.jobs.evidence import snp_attester, tdx_attester
from ccinit.attest.client import KbsClient
from ccinit.attest.passport import PassportSource
from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.kernel import tsm
from ccinit.kernel.tsm import open_report_entry
from ccinit.net.http import HttpClient
from ccinit.net.tls import pinned_context
from guest_owner.kbs.references.values import Profile, encode_reference_set
from guest_owner.kbs.state.store import Store
from tests.fakes.platforms.configfs_tsm import DIRECTORY, FakeConfigfs
from tests.fakes.platforms.snp import Chain, FakeSnp
from tests.fakes.platforms.tdx_boot import FakeBoot
from tests.fakes.platforms.tdx_quote import FakePck, FakeTdx
from tests.integration.kbs.harness import DOCUMENT, URI, Kbs, make_state, run, running_kbs
from tests.unit.guest_owner.kbs import snp_values
from tests.unit.guest_owner.kbs.verifiers import tdx_values

TDX_DOCUMENT = DOCUMENT.replace(b"sha256", b"sha384")
MakePassport = Callable[["TeeGuest"], PassportSource]


@dataclass(kw_only=True)
class TeeGuest:
    """One guest with a document; `passport` makes who appraises it, if not the KBS."""

    tee: ClassVar[Tee]
    kbs: Kbs
    configfs: FakeConfigfs
    init_data: str
    passport: MakePassport | None = None

    def evidence_for(self, data: ReportData, _request: bytes) -> JsonValue:
        """Have the platform's Attester make evidence."""
        raise NotImplementedError

    def fetch(self, uri: str = "kbs:///" + URI) -> bytes:
        return self.fetch_all(uri)[0]

    def fetch_all(self, *uris: str) -> list[bytes]:
        """Fetch resources in one session."""
        roots = (self.kbs.state / "ca.pem").read_text()
        with HttpClient(pinned_context(roots, check_time=False)) as transport:
            client = KbsClient(
                url=self.kbs.url,
                transport=transport,
                tee=self.tee,
                evidence_for=self.evidence_for,
                init_data=self.init_data,
                passport=None if self.passport is None else self.passport(self),
            )
            wanted = [parse_resource_uri(uri) for uri in uris]
            return [client.get_resource(uri).body.reveal() for uri in wanted]

    def refused(self, told: str = "kbs.attestation_error") -> str:
        """Fetch, which must fail; return what the owner reads about it."""
        with pytest.raises(CcinitError) as refused:
            self.fetch()
        assert refused.value.reason == told
        record = self.kbs.audit()[-1]
        assert record["decision"] == "refused"
        return str(record["reason"])

    def changed(self, **fields: Any) -> "TeeGuest":
        """The same guest with other launch fields."""
        raise NotImplementedError


@dataclass(kw_only=True)
class SnpGuest(TeeGuest):
    """One guest on a processor with SEV-SNP."""

    tee: ClassVar[Tee] = Tee.SNP
    snp: FakeSnp

    def evidence_for(self, data: ReportData, _request: bytes) -> JsonValue:
        self.configfs.make_report = lambda inblob, level: (
            self.snp.report(inblob, level),
            self.snp.chain.whole_table(),
        )
        with open_report_entry(data, DIRECTORY) as fds:
            return snp_attester(fds).collect_evidence(data)

    def changed(self, **fields: Any) -> "SnpGuest":
        return replace(self, snp=self.snp.with_fields(**fields))


@dataclass(kw_only=True)
class TdxGuest(TeeGuest):
    """One guest in a trust domain; `ccel` is firmware's log, `events` the guest's own."""

    tee: ClassVar[Tee] = Tee.TDX
    ccel: Path
    domain: FakeTdx
    events: bytes = b""

    def evidence_for(self, data: ReportData, _request: bytes) -> JsonValue:
        self.configfs.make_report = lambda inblob, _level: (self.domain.quote(inblob), b"")
        firmware = os.open(self.ccel, os.O_RDONLY)
        try:
            with open_report_entry(data, DIRECTORY) as fds:
                attester = tdx_attester({**fds, "ccel": firmware}, self.events)
                return attester.collect_evidence(data)
        finally:
            os.close(firmware)

    def changed(self, **fields: Any) -> "TdxGuest":
        return replace(self, domain=replace(self.domain, **fields))


@contextmanager
def running_tee_kbs(root: Path) -> Iterator[Kbs]:
    """A KBS where an image is registered on each of the two platforms, and a pod."""
    state = make_state(root)
    _register_snp(state, root)
    _register_tdx(state, root)
    with running_kbs(state) as server:
        yield server


def _register_snp(state: Path, root: Path) -> None:
    (root / "amd.pem").write_bytes(Chain().pem)
    (root / "snp.toml").write_bytes(snp_values.REQUIREMENTS)
    platform = ("--platform", "snp", "--state", state)
    run("register", "root", *platform, root / "amd.pem", "--name", "amd")
    run("register", "requirements", *platform, root / "snp.toml")
    for name, profile in (("snp-image", Profile.PROD), ("snp-test", Profile.TEST)):
        (root / name).write_bytes(encode_reference_set(snp_values.snp_image(name, profile)))
        run("register", "reference", "--state", state, root / name)


def _register_tdx(state: Path, root: Path) -> None:
    (root / "intel.pem").write_bytes(FakePck().root_certificate.public_bytes(Encoding.PEM))
    (root / "tdx.toml").write_text(tdx_values.REQUIREMENTS_TOML)
    image = replace(tdx_values.tdx_reference(), name="tdx-image")
    (root / "tdx-image").write_bytes(encode_reference_set(image))
    platform = ("--platform", "tdx", "--state", state)
    run("register", "root", *platform, root / "intel.pem", "--name", "intel")
    run("register", "requirements", *platform, root / "tdx.toml")
    run("register", "reference", "--state", state, root / "tdx-image")
    Store(state).add_initdata("shop-tdx", TDX_DOCUMENT)
    run("policy", "allow", "--state", state, "ccinit/shop/*", "--initdata", "shop-tdx")


def make_snp_guest(kbs: Kbs, monkeypatch: pytest.MonkeyPatch) -> SnpGuest:
    """A guest with the registered image and pod."""
    configfs = FakeConfigfs(make_report=lambda _inblob, _level: (b"", b""))
    monkeypatch.setattr(tsm, "os", configfs)
    snp = FakeSnp().with_fields(
        host_data=hashlib.sha256(DOCUMENT).digest(),
        measurement=snp_values.snp_image("snp-image").measured.identities[0][0],
    )
    return SnpGuest(kbs=kbs, configfs=configfs, init_data=DOCUMENT.decode(), snp=snp)


def make_tdx_guest(kbs: Kbs, ccel: Path, monkeypatch: pytest.MonkeyPatch) -> TdxGuest:
    """A guest with the registered image and pod; `ccel` gets firmware's log."""
    configfs = FakeConfigfs(
        make_report=lambda _inblob, _level: (b"", b""),
        provider="tdx_guest",
        floor=None,
        has_auxblob=False,
    )
    monkeypatch.setattr(tsm, "os", configfs)
    boot = FakeBoot()
    ccel.write_bytes(boot.log + bytes(50_000))
    return TdxGuest(
        kbs=kbs,
        configfs=configfs,
        init_data=TDX_DOCUMENT.decode(),
        ccel=ccel,
        domain=boot.apply(FakeTdx(mrconfigid=hashlib.sha384(TDX_DOCUMENT).digest())),
    )
