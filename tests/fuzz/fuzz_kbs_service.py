"""Invariant: whatever anybody sends to the KBS is answered, a refusal in Trustee's form; what is
attested is the nonce and the key that the evidence is bound to, and a resource goes to nobody else
than who attested, or shows the token of that, and may have it.

Run as `python -m tests.fuzz.fuzz_kbs_service [SECONDS [SEED]]`.
"""

import asyncio
import contextlib
import hashlib
import io
import json
import logging
import random
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from guest_owner.cli import main as owner
from guest_owner.kbs.http.app import build_app
from guest_owner.kbs.jwe import public_jwk
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.references.values import encode_reference_set
from guest_owner.kbs.service import open_service
from guest_owner.kbs.state.store import Store
from guest_owner.plane.minting import mint_identity
from tests.fakes.platforms.tpm_quote import FakeTpm
from tests.fuzz.mutation import mutate_json, mutate_text
from tests.fuzz.trials import Trials, run
from tests.unit.guest_owner.kbs.values import booted_tpm, reference_set

DOCUMENT = (
    b'algorithm = "sha256"\nversion = "0.1.0"\n\n[data]\n"ccinit.toml" = ""\n"pod.toml" = ""\n'
)
RESOURCE = "/kbs/v0/resource/ccinit/shop/file-password"
ERRORS = "https://github.com/confidential-containers/kbs/errors/"
AUTH = {"version": "0.4.0", "tee": "tpm", "extra-params": ""}
PATHS = (
    *("/kbs/v0/auth", "/kbs/v0/attest", RESOURCE, "/kbs/v0/resource/ccinit/bank/pin"),
    *("/kbs/v0/rollback-counter/shop/data", "/kbs/v0/resource-policy", "/kbs/v0/reference-value"),
    *("/healthz", "/metrics", "/.well-known/jwks.json", "/kbs/v0/", "/"),
)
WORDS = (
    *(b"/..", b"//", b"%2f", b"%00", b"?x=y", b"#", b"\xff", b"\\ud800", b"null", b"{}", b"[" * 99),
    *(b"bank", b"shop", b"pin", b"\0", b"1e9", b'"', b"-1", b"kbs:///", b";", b",", b"tpm", b"=="),
)
KEY = ec.generate_private_key(ec.SECP256R1())
JWK = public_jwk(KEY.public_key()).to_json_object()
Reply = tuple[int, dict[str, str], bytes]


class Kbs:
    """A service in a folder, asked without a socket."""

    def __init__(self, state: Path, loop: asyncio.AbstractEventLoop) -> None:
        limits = Limits(sessions=8, request_bytes=4096)
        service = open_service(state, limits, partial(mint_identity, state))
        self._app = build_app(service, limits)
        self._loop = loop

    def ask(self, method: str, path: bytes, headers: Mapping[str, bytes], body: bytes) -> Reply:
        """Return status, headers and body of the answer."""
        scope = {
            "type": "http",
            "method": method,
            "path": path.decode("utf-8", "replace"),
            "raw_path": path,
            "root_path": "",
            "query_string": b"",
            "headers": [(name.encode(), value) for name, value in headers.items()],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        self._loop.run_until_complete(self._app(scope, receive, send))
        head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], head, b"".join(part.get("body", b"") for part in sent[1:])

    def post(self, path: str, value: object, headers: Mapping[str, bytes]) -> Reply:
        return self.ask("POST", path.encode(), headers, json.dumps(value).encode())


def make_state(root: Path) -> Path:
    """Return a state with one image, one pod, and resources of two pods."""
    state, file = root / "state", root / "file"
    file.write_bytes(b"secret")
    with contextlib.redirect_stdout(io.StringIO()):
        assert not owner(["kbs", "init", "--state", str(state), "--name", "localhost"])
        for uri in ("kbs:///ccinit/shop/file-password", "kbs:///ccinit/bank/pin"):
            assert not owner(["register", "resource", "--state", str(state), uri, str(file)])
        file.write_bytes(encode_reference_set(reference_set()))
        assert not owner(["register", "reference", "--state", str(state), str(file)])
        file.write_bytes(booted().public_der)
        assert not owner(["register", "ak", "--state", str(state), str(file)])
        Store(state).add_initdata("shop", DOCUMENT)
        rule = ["policy", "allow", "--state", str(state), "ccinit/shop/*", "--initdata", "shop"]
        assert not owner(rule)
    return state


def booted() -> FakeTpm:
    return booted_tpm(reference_set(), DOCUMENT)


def attestation(nonce: str) -> dict[str, Any]:
    """Return what an honest guest sends for this nonce."""
    runtime = {"additional-evidence": "", "nonce": nonce, "tee-pubkey": JWK}
    text = json.dumps(runtime, sort_keys=True, separators=(",", ":"))
    quote = booted().quote(hashlib.sha384(text.encode()).digest()[:32])
    return {
        "init-data": {"format": "toml", "body": DOCUMENT.decode()},
        "runtime-data": {"nonce": nonce, "tee-pubkey": JWK},
        "tee-evidence": {"primary_evidence": quote.to_json_value(), "additional_evidence": ""},
    }


def open_session(kbs: Kbs) -> tuple[str, bytes]:
    """Return the nonce and the cookie of a new session."""
    status, headers, body = kbs.post("/kbs/v0/auth", AUTH, {})
    assert status == 200, body
    return json.loads(body)["nonce"], headers["set-cookie"].partition(";")[0].encode()


def check_reply(reply: Reply, path: bytes = b"") -> None:
    """A refusal says what it is, in the words of a KBS."""
    status, _headers, body = reply
    assert status in {200, 400, 401, 403, 404, 408, 413, 501}, status
    if status != 200:
        assert body.startswith(b"{"), (status, body, path)
        value = json.loads(body)
        assert value.keys() == {"type", "detail"}
        assert value["type"].startswith(ERRORS)
        # Bodies come at once here: what is late is evidence without its session.
        assert (status == 408) == (value["detail"] == "no such session, or it has expired"), value


def changed(source: random.Random, data: bytes) -> bytes:
    change = source.choice((mutate_json, mutate_text))
    return change(source, data, WORDS)


def check_attestation(source: random.Random, kbs: Kbs, shown: list[dict[str, bytes]]) -> bool:
    """Attest with something changed; what is accepted is bound to nonce and key all the same."""
    nonce, cookie = open_session(kbs)
    honest = attestation(nonce)
    body = json.dumps(honest).encode()
    if source.randrange(8):
        body = changed(source, body)
    reply = kbs.ask("POST", b"/kbs/v0/attest", {"cookie": cookie}, body)
    check_reply(reply)
    if reply[0] != 200:
        return False
    assert json.loads(body)["runtime-data"] == honest["runtime-data"]
    token = json.loads(reply[2])["token"].encode()
    shown[:] = [{"cookie": cookie}, {"authorization": b"Bearer " + token}]
    return True


def check_request(source: random.Random, kbs: Kbs, shown: list[dict[str, bytes]]) -> bool:
    """Ask for something; return whether a resource was released."""
    path = source.choice(PATHS).encode()
    if source.randrange(3) == 0:
        path = b"/" + mutate_text(source, path, WORDS)
        # What HTTP's reader lets through, without the query.
        path = bytes(one for one in path.partition(b"?")[0] if 0x20 < one < 0x7F)
    headers = dict(source.choice([{}, *shown]))
    is_spoilt = False
    if headers and source.randrange(3) == 0:
        name, value = headers.popitem()
        headers[name] = changed(source, value)
        # A scheme's name may be written in any case, and other cookies may stand beside ours.
        is_spoilt = (
            name != "cookie" and headers[name].partition(b" ")[2] != value.partition(b" ")[2]
        )
    method = source.choice(("GET", "GET", "POST", "PUT", "DELETE", "HEAD"))
    if headers and not is_spoilt and source.randrange(4) == 0:
        method, path = "GET", RESOURCE.encode()
    body = changed(source, json.dumps(AUTH).encode())
    status, _, said = reply = kbs.ask(method, path, headers, body)
    if method != "HEAD":
        check_reply(reply, path)
    if status != 200 or not path.lstrip(b"/").startswith(b"kbs/v0/resource/"):
        return False
    assert path == RESOURCE.encode(), path
    assert headers
    assert not is_spoilt, headers
    assert json.loads(said).keys() == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}
    return True


def main(seconds: float, seed: int) -> int:
    """Ask for a while; return how often."""
    trials = Trials(seconds, seed)
    logging.getLogger("guest_owner").setLevel(logging.CRITICAL)
    runs = accepted = released = 0
    shown: list[dict[str, bytes]] = []
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        kbs = Kbs(make_state(Path(folder)), runner.get_loop())
        for source in trials:
            accepted += check_attestation(source, kbs, shown)
            for _ in range(4):
                released += check_request(source, kbs, shown)
            runs += 5
    trials.require(accepted, one_in=20)
    trials.require(released, one_in=40)
    return runs


if __name__ == "__main__":
    run(main)
