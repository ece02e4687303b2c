"""`ccinit.toml`: how this guest reaches its owner; part of the measured initdata document.

Version 1, strict: an unknown key is refused. What each key *does* is left to the rooms; this module
only fixes form and limits.
"""

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum

from ccinit.errors import FormatError
from ccinit.formats.fields import Fields
from ccinit.formats.initdata import parse_toml
from ccinit.formats.jwk import TeeKeyAlgorithm

MIB = 1 << 20
GIB = 1 << 30

_MAX_PEM_BYTES = 64 * 1024
_MAX_URL_BYTES = 1024
KBS_VSOCK_PORT = 1025
"""Where the host's relay to the KBS listens; the host plane's own port is the guest's 1024."""

LOG_PUBLIC_KEY_BYTES = 1184 + 32
"""ML-KEM-768 encapsulation key (FIPS 203) followed by an X25519 public key (RFC 7748)."""


class EnvelopePolicy(StrEnum):
    """Whether resource bodies are envelopes that name their own URI and kind."""

    REQUIRED = "required"
    NONE = "none"


class KbsTransport(StrEnum):
    """How the KBS is reached."""

    TCP = "tcp"
    VSOCK = "vsock"  # a relay of the host's carries the same TLS; no network card takes part


class StartBy(StrEnum):
    """Who says that the pod may start."""

    GUEST = "guest"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class KbsConfig:
    """The owner's Key Broker Service.

    Attributes:
        url: `https://host[:port]`, no path.
        ca_pem: the only roots that may vouch for it.
        tee_key_algorithm: the kind of key that the guest has its secrets encrypted to.
    """

    url: str
    ca_pem: str
    envelope: EnvelopePolicy
    transport: KbsTransport
    tee_key_algorithm: TeeKeyAlgorithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps that the owner may change; units in the names."""

    scratch_tags_bytes: int = 256 * MIB
    image_bytes: int = 8 * GIB
    log_ring_bytes: int = 4 * MIB
    attest_seconds: int = 600
    pull_seconds: int = 1800
    network_seconds: int = 300
    stop_grace_seconds: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestConfig:
    """The whole of `ccinit.toml`.

    Attributes:
        log_public_key: MLKEM768-X25519 public key that the sealed log is encrypted to.
        start_by: `host` waits for the RPC method `start` before the pod runs.
        debug_allowed: whether debug may open on a platform without a runtime register.
    """

    kbs: KbsConfig
    log_public_key: bytes
    start_by: StartBy
    debug_allowed: bool
    limits: Limits


def parse_guest_config(text: str) -> GuestConfig:
    """Parse `ccinit.toml`.

    Raises:
        FormatError: `ccinit.…`, the key that is wrong.
    """
    with Fields(parse_toml(text.encode(), "ccinit.toml"), "ccinit") as fields:
        fields.integer("version", low=1, high=1)
        return GuestConfig(
            kbs=fields.table("kbs", _read_kbs),
            log_public_key=fields.table("log", _read_log),
            start_by=fields.table("start", _read_start, default=StartBy.GUEST),
            debug_allowed=fields.table("debug", _read_debug, default=False),
            limits=fields.table("limits", _read_limits, default=Limits()),
        )


def _read_kbs(fields: Fields) -> KbsConfig:
    url = fields.text("url", max_bytes=_MAX_URL_BYTES)
    if not url.startswith("https://") or url.count("/") != len("//") or " " in url:
        raise FormatError("ccinit.kbs.url", "expected https://host[:port] without a path")
    ca_pem = fields.text("ca", max_bytes=_MAX_PEM_BYTES)
    if "-----BEGIN CERTIFICATE-----" not in ca_pem:
        raise FormatError("ccinit.kbs.ca", "expected PEM certificates")
    return KbsConfig(
        url=url,
        ca_pem=ca_pem,
        envelope=fields.choice("envelope", EnvelopePolicy),
        transport=fields.choice("transport", KbsTransport, default=KbsTransport.TCP),
        tee_key_algorithm=fields.choice(
            "tee_key_algorithm", TeeKeyAlgorithm, default=TeeKeyAlgorithm.P256
        ),
    )


def _read_log(fields: Fields) -> bytes:
    try:
        key = base64.b64decode(fields.text("public_key"), validate=True)
    except binascii.Error as error:
        raise FormatError("ccinit.log.public_key", "not base64") from error
    if len(key) != LOG_PUBLIC_KEY_BYTES:
        raise FormatError(
            "ccinit.log.public_key", f"expected {LOG_PUBLIC_KEY_BYTES} bytes, found {len(key)}"
        )
    return key


def _read_start(fields: Fields) -> StartBy:
    return fields.choice("by", StartBy, default=StartBy.GUEST)


def _read_debug(fields: Fields) -> bool:
    return fields.boolean("allowed", default=False)


def _read_limits(fields: Fields) -> Limits:
    default = Limits()

    def size(key: str, value: int, high: int) -> int:
        return fields.integer(key, low=1, high=high, default=value)

    return Limits(
        scratch_tags_bytes=size("scratch_tags_bytes", default.scratch_tags_bytes, 64 * GIB),
        image_bytes=size("image_bytes", default.image_bytes, 1024 * GIB),
        log_ring_bytes=size("log_ring_bytes", default.log_ring_bytes, 256 * MIB),
        attest_seconds=size("attest_seconds", default.attest_seconds, 86_400),
        pull_seconds=size("pull_seconds", default.pull_seconds, 86_400),
        network_seconds=size("network_seconds", default.network_seconds, 86_400),
        stop_grace_seconds=size("stop_grace_seconds", default.stop_grace_seconds, 3_600),
    )
