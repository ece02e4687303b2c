"""A guest whose identity ends while it runs: a real KBS, real children, an owner who looks on.

Natively: the children are fresh interpreters without rights, the TPM is simulated behind a socket,
and this process is PID 1 with its loop. Identities live for seconds, which no order can say; what a
renewal waits for is `renewal_schedule`'s in the one case, and short in the other.
"""

import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.agent.guest import Guest, assemble
from ccinit.agent.phases import evidence
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.kbs_session import fetch_grants, want_identity, wipe_grants
from ccinit.agent.planes import identity_renewal
from ccinit.agent.planes.owner_plane import open_owner_plane
from ccinit.agent.platform import devices
from ccinit.agent.processes.children import Children
from ccinit.attest.detect import Platform
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import Limits, OwnerConfig
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.planes.owner_rpc import ClientRole
from ccinit.kernel.event_loop import EventLoop, sleep
from guest_owner.cli import main
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.minting import MintedIdentity
from guest_owner.kbs.state.store import Store
from guest_owner.plane.authority import read_authority
from guest_owner.plane.client import Endpoint, OwnerClient
from guest_owner.plane.minting import mint_identity
from tests.fakes.documents.guest import CONFIG, POD
from tests.fakes.machine.owned import owned_pids
from tests.fakes.network.tls_server import identity_pem, make_authority
from tests.fakes.platforms.measured_events import MeasuredEvents
from tests.fakes.platforms.tpm_device import SimulatedTpm
from tests.fakes.platforms.tpm_quote import extend
from tests.integration.free_ports import free_port
from tests.integration.kbs import harness as kbs_harness
from tests.integration.kbs.harness import Kbs, booted_tpm, make_state, running_kbs
from tests.integration.owner_plane.world import read_lines, texts

ROOT = Path(__file__).parents[3]
DOCUMENT = make_document(CONFIG, POD)
IDENTITY = parse_resource_uri("kbs:///ccinit/shop/tls-identity")
LIFE_SECONDS = 20
PATIENCE_SECONDS = 60.0

pytestmark = pytest.mark.usefixtures("as_root")


def mint_brief(state: Path, *, pod: str, session: str, life_seconds: int) -> MintedIdentity:
    """Make an identity that ends within a test."""
    assert life_seconds == 24 * 3600
    return mint_identity(state, pod=pod, session=session, life_seconds=LIFE_SECONDS)


@pytest.fixture
def kbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kbs]:
    monkeypatch.setattr(kbs_harness, "mint_identity", mint_brief)
    state = make_state(tmp_path)
    Store(state).add_initdata("shop", DOCUMENT)
    owner(state, "client-ca", "init")
    owner(state, "client-cert", "new", "alice", "--role", "logs", "--output", tmp_path / "alice")
    with running_kbs(state) as server:
        yield server


def owner(state: Path, *words: object) -> None:
    assert main([*map(str, words), "--state", str(state)]) == 0


@pytest.fixture(autouse=True)
def tpm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a TPM that has booted this pod to every child that makes evidence."""
    booted = booted_tpm()
    booted.pcrs[8] = extend(bytes(32), hashlib.sha256(DOCUMENT).digest())
    device = SimulatedTpm(tpm=booted)

    @contextmanager
    def open_tpm(_platform: object, _report_data: bytes) -> Iterator[Mapping[str, int]]:
        ours, theirs = socket.socketpair()
        threading.Thread(target=device.serve, args=(ours,), daemon=True).start()
        with theirs:
            yield {"tpm": theirs.fileno()}

    for module in (evidence, devices):
        monkeypatch.setattr(module, "open_platform", open_tpm)


@dataclass
class World:
    """A guest of pod `shop` with its owner plane, as its owner sees it."""

    kbs: Kbs
    port: int = field(default_factory=free_port)
    began_with: bytes = b""

    @property
    def owners(self) -> OwnerConfig:
        return OwnerConfig(
            port=self.port, client_ca_pem=(self.kbs.state / "owner-ca.pem").read_text()
        )

    def connect(self) -> OwnerClient:
        return OwnerClient.connect(
            Endpoint(
                host="127.0.0.1",
                port=self.port,
                pod="shop",
                roots=self.kbs.state / "owner-ca.pem",
                identity=self.kbs.state.parent / "alice",
            )
        )

    def look(self) -> tuple[bytes, list[str]]:
        """Return what certificate is shown now, and the guest's events so far."""
        with self.connect() as client:
            return client.certificate_der, texts(read_lines(client, "events"))

    def wait_for(self, event: str) -> bytes:
        """Look until the guest has logged `event`; return the certificate shown then."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            _, events = self.look()
            if any(event in one for one in events):
                return self.look()[0]
            assert time.monotonic() < deadline, events

    def live(self, visit: Callable[[], None]) -> None:
        """Be the guest for as long as its owner visits it, from a thread."""
        loop = EventLoop()
        with ThreadPoolExecutor(1) as pool:
            loop.run(self._live(loop, lambda: pool.submit(visit)))
        assert owned_pids() == ()

    async def _live(self, loop: EventLoop, begin: Callable[[], Any]) -> None:
        guest, configured = make_guest(loop), self._configured()
        grants = await fetch_grants(
            guest, configured, (want_identity(configured.manifest, self.owners),)
        )
        first = grants[IDENTITY].secret
        self.began_with = x509.load_pem_x509_certificate(first.reveal()).public_bytes(Encoding.DER)
        open_owner_plane(guest, configured, Attested(grants=grants), self.owners)
        visiting = begin()
        while not visiting.done():
            await sleep(0.02)
        assert await guest.teardown.run() == ()
        visiting.result()
        assert len(first) == 0  # the key that was shown at first is wiped
        assert len(grants[IDENTITY].secret) > 0
        wipe_grants(grants)

    def _configured(self) -> Any:
        return SimpleNamespace(
            config=SimpleNamespace(kbs=self.kbs.config(), limits=Limits(attest_seconds=30)),
            manifest=SimpleNamespace(name="shop", images=(), containers=(), secrets=()),
            platform=Platform(tee=Tee.TPM),
            measurement=MeasuredEvents(),
            document=DOCUMENT,
        )


def make_guest(loop: EventLoop) -> Guest:
    children = Children(
        (sys.executable, "-m", "ccinit"),
        {"PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path)))},
    )
    return assemble(loop, bytes(16)).with_children(children)


def test_identity_that_ends_gets_successors_and_no_client_is_turned_away(
    kbs: Kbs, record_property: Callable[[str, object], None]
) -> None:
    owner(kbs.state, "register", "tls-identity", IDENTITY)
    world = World(kbs)
    shown: list[bytes] = []

    def visit() -> None:
        """Stay connected from before to after the first one's end, and connect anew all along."""
        with world.connect() as early:
            assert early.certificate_der == world.began_with
            ends = x509.load_der_x509_certificate(early.certificate_der).not_valid_after_utc
            while time.time() < ends.timestamp() + 2:
                shown.append(world.look()[0])  # refused, if what it is shown had ended
                time.sleep(0.2)
            assert "identity: renewed, ends " in "".join(texts(read_lines(early, "events")))

    world.live(visit)
    different = list(dict.fromkeys(shown))
    record_property("connections", len(shown))
    record_property("identities", len(different))
    assert different[0] == world.began_with
    assert len(different) > 1
    certificates = [x509.load_der_x509_certificate(one) for one in different]
    ends = [one.not_valid_after_utc for one in certificates]
    assert ends == sorted(set(ends))
    released = [record for record in kbs.audit() if record["decision"] == "released"]
    minted = [record["minted"] for record in released]
    assert minted[: len(different)] == [
        f"tls-identity sha256:{one.fingerprint(SHA256()).hex()}" for one in certificates
    ]
    assert len({record["session"] for record in released}) == len(released)


def test_stored_identity_is_replaced_by_a_good_one_and_by_no_other(
    kbs: Kbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, store = read_authority(kbs.state), Store(kbs.state)
    monkeypatch.setattr(identity_renewal, "seconds_to_renewal", lambda *_: 0.2)
    world = World(kbs)

    def put(pem: bytes) -> None:
        kind = EnvelopeKind.TLS_IDENTITY
        store.write_resource(IDENTITY, encode_envelope(Envelope(uri=IDENTITY, kind=kind, data=pem)))

    put(authority.issue_guest("shop", 1))
    successor = authority.issue_guest("shop", 2)
    bad = {
        "tls_identity.name": authority.issue_guest("bank", 2),
        "tls_identity.chain": identity_pem(make_authority().issue(("shop",))),
        "tls_identity.usage": authority.issue_client("shop", ClientRole.ADMIN, 2),
    }

    def visit() -> None:
        for reason, pem in bad.items():
            put(pem)
            assert world.wait_for(f"identity: not renewed: {reason}: ") == world.began_with
        store.delete_resource(IDENTITY)
        assert world.wait_for("identity: not renewed: kbs.") == world.began_with
        put(successor)
        shown = world.wait_for("identity: renewed, ends ")
        assert shown == x509.load_pem_x509_certificate(successor).public_bytes(Encoding.DER)

    world.live(visit)
