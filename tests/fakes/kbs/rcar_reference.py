"""RCAR 0.4.0 written down a second time, from its description alone.

What a guest must send to a KBS, byte by byte: every text is put together here as text, so that no
encoder of the project, and not even a JSON library's habits, vouches for itself. Only cases that
the tests need: ASCII throughout, a TPM's evidence as one JSON text.
"""

import base64
import hashlib
from dataclasses import dataclass

PREFIX = "/kbs/v0"


def encode(number: bytes) -> str:
    """base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(number).decode().replace("=", "")


@dataclass(frozen=True, kw_only=True)
class Key:
    """A `tee-pubkey` by its members' texts; `members` in the order of their names."""

    members: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        return "{" + ",".join(f'"{name}":"{value}"' for name, value in self.members) + "}"


def ec_key(crv: str, x: bytes, y: bytes) -> Key:
    size = {"P-256": 32, "P-521": 66}[crv]
    assert len(x) == len(y) == size
    return Key(
        members=(
            ("alg", "ECDH-ES+A256KW"),
            ("crv", crv),
            ("kty", "EC"),
            ("x", encode(x)),
            ("y", encode(y)),
        )
    )


def rsa_key(modulus: bytes) -> Key:
    return Key(
        members=(("alg", "RSA-OAEP-256"), ("e", "AQAB"), ("kty", "RSA"), ("n", encode(modulus)))
    )


def device_digest(nonce: str, key: Key) -> bytes:
    """SHA-384 of the canonical text of nonce and key."""
    return hashlib.sha384(f'{{"nonce":"{nonce}","tee-pubkey":{key.text}}}'.encode()).digest()


def primary_digest(nonce: str, key: Key, additional: str) -> bytes:
    """The same with the additional evidence before them, which is never left out."""
    text = additional.replace('"', '\\"')
    document = f'{{"additional-evidence":"{text}","nonce":"{nonce}","tee-pubkey":{key.text}}}'
    return hashlib.sha384(document.encode()).digest()


def auth_body(tee: str) -> str:
    return (
        f'{{"version":"0.4.0","tee":"{tee}",'
        '"extra-params":{"supported-hash-algorithms":["sha384"]}}'
    )


def attest_body(nonce: str, key: Key, *, document: str, evidence: str, additional: str) -> str:
    toml = document.replace('"', '\\"').replace("\n", "\\n")
    text = additional.replace('"', '\\"')
    return (
        f'{{"init-data":{{"format":"toml","body":"{toml}"}},'
        f'"runtime-data":{{"nonce":"{nonce}","tee-pubkey":{key.text}}},'
        f'"tee-evidence":{{"primary_evidence":{evidence},"additional_evidence":"{text}"}}}}'
    )


def request(
    method: str, path: str, *, host: str, body: str = "", cookie: str = "", token: str = ""
) -> bytes:
    """One whole HTTP/1.1 request of a client that says no more than it must."""
    lines = [
        f"{method} {PREFIX}/{path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: ccinit",
        "Accept: */*",
        "Accept-Encoding: identity",
        "Connection: keep-alive",
    ]
    if cookie:
        lines.append(f"Cookie: kbs-session-id={cookie}")
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", body)).encode("ascii")


def same_request(sent: bytes, expected: bytes) -> bool:
    """Whether two requests are the same: request line and body by the byte, the fields by name.

    Names of fields have no case and their order says nothing (RFC 9110 sections 5.1 and 5.3); each
    may come once.
    """
    return _parts(sent) == _parts(expected)


def _parts(whole: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    head, _, body = whole.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    pairs = [field.partition(b":") for field in fields]
    return line, sorted((name.lower(), value.strip()) for name, _, value in pairs), body
