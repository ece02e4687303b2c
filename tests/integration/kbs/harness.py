"""A running KBS over a registered state, and a client that does what Trustee's client does."""

import hashlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64url, encode_base64url
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.initdata.guest_config import EnvelopePolicy, KbsConfig, KbsTransport
from ccinit.formats.kbs.jwk import P256, TeeKeyAlgorithm, parse_epk
from ccinit.formats.sealed_log import parse_boot_id, report_data
from ccinit.values import replace
from guest_owner.cli import main
from guest_owner.kbs.audit.log import read_audit
from guest_owner.kbs.http.server import build_server, open_listener
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.references.values import Profile, ReferenceSet, encode_reference_set
from guest_owner.kbs.service import open_service
from guest_owner.kbs.state.store import Store
from guest_owner.kbs.verifiers.table import verify_log_evidence
from guest_owner.plane.minting import mint_identity
from tests.fakes.platforms.tpm_quote import FakeTpm
from tests.unit.guest_owner.kbs import values

SECRET = b"the owner's secret, 7d1c"
URI = "ccinit/shop/file-password"
DOCUMENT = (
    b'algorithm = "sha256"\nversion = "0.1.0"\n\n[data]\n"ccinit.toml" = ""\n"pod.toml" = ""\n'
)
LIMITS = Limits()
"""Deadlines that no client here uses up, on a slow machine either."""
IMAGE = values.reference_set("image-1")
TEST_IMAGE = values.reference_set("image-1-test", Profile.TEST)


def booted_tpm(image: ReferenceSet = IMAGE, key: int = 0) -> FakeTpm:
    return values.booted_tpm(image, DOCUMENT, key)


@dataclass
class Clock:
    """Seconds for the sessions; tests move it."""

    now: float = 1000.0
    step: float = 0.0  # what every look at the clock takes

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@dataclass
class Kbs:
    """A running server."""

    url: str
    port: int
    state: Path
    clock: Clock
    clients: ExitStack

    @property
    def tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.state / "ca.pem")
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    def config(self, **changes: Any) -> KbsConfig:
        """What `[kbs]` of a guest's ccinit.toml says of it."""
        plain = KbsConfig(
            url=self.url,
            ca_pem=(self.state / "ca.pem").read_text(),
            envelope=EnvelopePolicy.REQUIRED,
            transport=KbsTransport.TCP,
            tee_key_algorithm=TeeKeyAlgorithm.P256,
        )
        return replace(plain, **changes)

    def client(self, tpm: FakeTpm | None = None) -> "StockClient":
        http = httpx.Client(base_url=self.url, verify=self.tls, timeout=60, trust_env=False)
        self.clients.enter_context(http)
        return StockClient(http=http, tpm=tpm or booted_tpm())

    def audit(self) -> list[dict[str, Any]]:
        """Records of what was asked over the network."""
        records = read_audit(self.state / "audit.jsonl")
        return [record for record in records if "user" not in record]


@dataclass
class StockClient:
    """What Trustee's client sends: fixed request, JCS text hashed with SHA-384, cookie jar."""

    http: httpx.Client
    tpm: FakeTpm
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    nonce: str = ""

    @property
    def jwk(self) -> dict[str, str]:
        return jwk_of(self.key)

    def auth(self, version: str = "0.4.0", tee: str = "tpm") -> httpx.Response:
        algorithms = ["sha256", "sha384", "sha512", "sm3"]
        reply = self.http.post(
            "/kbs/v0/auth",
            json={
                "version": version,
                "tee": tee,
                "extra-params": {"supported-hash-algorithms": algorithms},
            },
        )
        if reply.status_code == 200:
            self.nonce = reply.json()["nonce"]
        return reply

    def attestation(self, **changes: object) -> dict[str, object]:
        evidence = self.tpm.quote(self.report_data())
        runtime = {
            "nonce": changes.get("nonce", self.nonce),
            "tee-pubkey": changes.get("tee_pubkey", self.jwk),
        }
        return {
            "init-data": {"format": "toml", "body": changes.get("document", DOCUMENT.decode())},
            "runtime-data": runtime,
            "tee-evidence": {
                "primary_evidence": changes.get("evidence", evidence.to_json_value()),
                "additional_evidence": changes.get("additional", ""),
            },
        }

    def report_data(self) -> bytes:
        text = json.dumps(
            {"additional-evidence": "", "nonce": self.nonce, "tee-pubkey": self.jwk},
            sort_keys=True,
            separators=(",", ":"),
        )
        return hashlib.sha384(text.encode()).digest()[:32]

    def attest(self, **changes: object) -> httpx.Response:
        return self.http.post("/kbs/v0/attest", json=self.attestation(**changes))

    def handshake(self, **changes: object) -> httpx.Response:
        """Both of its requests; return the reply to the evidence."""
        self.auth()
        return self.attest(**changes)

    def get(self, path: str = URI, token: str | None = None) -> httpx.Response:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return self.http.get(f"/kbs/v0/resource/{path}", headers=headers)

    def open(self, reply: httpx.Response) -> bytes:
        return decrypt(reply.json(), self.key)


def jwk_of(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    return {
        "kty": "EC",
        "crv": "P-256",
        "alg": "ECDH-ES+A256KW",
        "x": encode_base64url(numbers.x.to_bytes(32, "big")),
        "y": encode_base64url(numbers.y.to_bytes(32, "big")),
    }


def decrypt(reply: dict[str, str], key: ec.EllipticCurvePrivateKey) -> bytes:
    """RFC 7516 and 7518 section 4.6 by hand, so that no code of the KBS is its own witness."""
    assert set(reply) == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}
    part = {name: decode_base64url(text, name) for name, text in reply.items()}
    header = json.loads(part["protected"])
    assert (header["alg"], header["enc"]) == ("ECDH-ES+A256KW", "A256GCM")
    point = parse_epk(header["epk"], P256)
    public = ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP256R1(), b"\x04" + point.x + point.y
    )
    algorithm = header["alg"].encode()
    info = len(algorithm).to_bytes(4, "big") + algorithm + bytes(8) + (256).to_bytes(4, "big")
    shared = key.exchange(ec.ECDH(), public)
    wrapping = hashlib.sha256(b"\0\0\0\x01" + shared + info).digest()
    content = AESGCM(aes_key_unwrap(wrapping, part["encrypted_key"]))
    return content.decrypt(
        part["iv"], part["ciphertext"] + part["tag"], reply["protected"].encode()
    )


def make_state(root: Path) -> Path:
    """A state directory made with the owner's own commands, as far as they take these inputs."""
    state = root / "state"
    run("kbs", "init", "--state", state, "--name", "127.0.0.1", "--name", "localhost")
    (root / "ak.der").write_bytes(booted_tpm().public_der)
    (root / "secret").write_bytes(SECRET)
    for image in (IMAGE, TEST_IMAGE):
        (root / "reference.json").write_bytes(encode_reference_set(image))
        run("register", "reference", "--state", state, root / "reference.json")
    run("register", "ak", "--state", state, root / "ak.der")
    Store(state).add_initdata("shop", DOCUMENT)
    run("register", "resource", "--state", state, "kbs:///" + URI, root / "secret")
    run("register", "resource", "--state", state, "kbs:///ccinit/bank/pin", root / "secret")
    run("policy", "allow", "--state", state, "ccinit/shop/*", "--initdata", "shop")
    return state


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@contextmanager
def running_kbs(
    state: Path, limits: Limits = LIMITS, look: Callable[[], Iterable[str]] = tuple
) -> Iterator[Kbs]:
    """Serve a state directory from a thread; the audit log is empty, tests move the clock."""
    for log in state.glob("audit*.jsonl"):
        log.unlink()
    clock = Clock()
    server = build_server(
        open_service(state, limits, partial(mint_identity, state), clock),
        limits,
        certificate=state / "server.pem",
        key=state / "server-key.pem",
        look=look,
    )
    with open_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            with ExitStack() as clients:
                yield Kbs(f"https://127.0.0.1:{port}", port, state, clock, clients)
        finally:
            server.should_exit = True
            thread.join(60)
    assert not thread.is_alive()


@contextmanager
def put_back(path: Path) -> Iterator[bytes]:
    """Yield what the file holds, and write it again in the end, whatever has become of it."""
    saved = path.read_bytes()
    try:
        yield saved
    finally:
        path.write_bytes(saved)


def variant(reply: httpx.Response) -> str:
    """Return the name of the error that a reply tells, in Trustee's form."""
    body = reply.json()
    assert set(body) == {"type", "detail"}
    prefix = "https://github.com/confidential-containers/kbs/errors/"
    assert body["type"].startswith(prefix)
    return str(body["type"]).removeprefix(prefix)


def refused(reply: httpx.Response, error: str = "AttestationError") -> str:
    """Return the detail of a refusal, which must be of this name."""
    assert reply.status_code == (403 if error == "PolicyDeny" else 401), reply.text
    assert variant(reply) == error
    return str(reply.json()["detail"])


def refusal_of_another_log_key(
    kbs: Kbs, tee: Tee, answer: Callable[[ReportData], JsonValue]
) -> str:
    """Bind a sealed log's key by evidence; return why the same evidence refuses another key."""
    boot_id, signing_key = parse_boot_id(bytes(range(16))), b"k" * 32
    judge = partial(
        verify_log_evidence,
        tee,
        answer(ReportData(report_data(boot_id, signing_key))),
        boot_id=boot_id,
        references=Store(kbs.state).read_references(),
    )
    assert judge(signing_key=signing_key).initdata.name == "shop"
    with pytest.raises(CcinitError) as caught:
        judge(signing_key=b"j" * 32)
    return caught.value.reason
