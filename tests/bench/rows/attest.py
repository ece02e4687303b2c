"""ATTEST, from the start of the phase to the first key in hand, with the KBS on loopback.

Ours is the agent's ATTEST from the published root: a child that speaks with the owner's KBS over
TLS, a child that makes the evidence, both under their restrictions; challenge, quote, token, and
one resource that is decrypted and found to be what was asked for. The KBS is the owner's own, its
audit log on disk; the TPM is simulated in this process. The peer is what none of that can do
without: a fresh interpreter that imports the modules of both children, then three small requests
on one TLS connection to the same KBS.

Goal: 1.5. The peer has one interpreter where we have two, since the child that speaks with the
network has no access to the TPM; nor does the peer drop rights, sign, verify, agree on keys or
decrypt.
"""

import hashlib
import shutil
import socket

from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from guest_owner.kbs.state.store import Store
from tests.bench.guest_root import ENVIRONMENT, GuestRoot, open_guest_root, run
from tests.bench.measurement import Bench, Row, compare, interleave
from tests.fakes.platforms.tpm_device import SimulatedTpm, serving
from tests.integration.kbs.harness import DOCUMENT, Kbs, booted_tpm, make_state, running_kbs

ROUNDS = 15
GOAL = 1.5
URI = parse_resource_uri("kbs:///ccinit/shop/log-psk")


def measure(bench: Bench) -> tuple[Row, ...]:
    """Measure both in the same rounds."""
    root = open_guest_root(bench)
    state = make_state(bench.work)
    psk = hashlib.sha256(b"any").digest()
    body = encode_envelope(Envelope(uri=URI, kind=EnvelopeKind.LOG_PSK, data=psk))
    Store(state).write_resource(URI, body)
    with running_kbs(state) as kbs, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bench.work / "tpm"))
        listener.listen()
        runs = _Runs(bench, root, kbs)
        sides = {"ours": runs.ours, "peer": runs.floor}
        with serving(SimulatedTpm(tpm=booted_tpm()), listener):
            seen = interleave(sides, bench.rounds(ROUNDS), bench.say)
    row = compare(
        "ATTEST: start to key in hand, local KBS",
        "ms",
        ours=seen["ours"],
        peer=seen["peer"],
        peer_name="bare import of its modules + 3 TLS round trips",
        goal=GOAL,
    )
    return (row,)


class _Runs:
    """Both sides; each returns the milliseconds that its program has counted."""

    def __init__(self, bench: Bench, root: GuestRoot, kbs: Kbs) -> None:
        self._store = bench.work
        self._root = root
        self._url = kbs.url
        self._programs = {name: root.add_program(name) for name in ("attest", "attest_floor")}
        shutil.copy(kbs.state / "ca.pem", bench.work / "ca.pem")
        (bench.work / "initdata.toml").write_bytes(DOCUMENT)

    def ours(self) -> float:
        """The agent's ATTEST."""
        return self._run("attest", "/tmp/ca.pem", "/tmp/initdata.toml", "/tmp/tpm")

    def floor(self) -> float:
        """What it cannot do without."""
        return self._run("attest_floor", "/tmp/ca.pem")

    def _run(self, program: str, *arguments: str) -> float:
        words = (self._programs[program], self._url, *arguments)
        return float(run(self._root.command_with_store(self._store, *words), ENVIRONMENT))
