"""`ccinit.toml`: how this guest reaches its owner; part of the measured initdata document.

Version 1, strict: an unknown key is refused. This module fixes only form and limits; what each key
*does* is left to the rooms.
"""

from enum import StrEnum
from functools import partial

from ccinit.errors import FormatError
from ccinit.formats.disk.verity import VerityParameters
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.pem import read_roots
from ccinit.formats.encoding.strict_json import decode_base64
from ccinit.formats.encoding.strict_toml import parse_toml
from ccinit.formats.initdata.origin import read_origin
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.planes.ports import WORKLOAD_PORT
from ccinit.formats.pod.volume import read_verity_parameters
from ccinit.formats.sealed_log import OWNER_KEY_BYTES, SizeClass
from ccinit.values import frozen

MIB = 1 << 20
GIB = 1 << 30

_MAX_API_KEY_BYTES = 256
_MIN_BATCH_MS = 50
KBS_VSOCK_PORT = 1025
"""Where the host's relay to the KBS listens; the host plane's own port is the guest's 1024."""


class EnvelopePolicy(StrEnum):
    """Whether resource bodies are envelopes that name their own URI and kind."""

    REQUIRED = "required"
    NONE = "none"


class KbsTransport(StrEnum):
    """How the KBS is reached."""

    TCP = "tcp"
    VSOCK = "vsock"  # the same TLS through a relay of the host, without a network card


class AttestationService(StrEnum):
    """Public services that can appraise the guest in place of the KBS."""

    AZURE = "azure-attestation"
    INTEL_TRUST_AUTHORITY_V1 = "intel-trust-authority-v1"
    INTEL_TRUST_AUTHORITY_V2 = "intel-trust-authority-v2"


class StartBy(StrEnum):
    """Who decides when the pod starts."""

    GUEST = "guest"
    HOST = "host"


@frozen
class PassportConfig:
    """Whose token is shown to the KBS.

    Attributes:
        url: `https://host[:port]`, no path.
        ca_pem: the only roots that may vouch for it.
        api_key: names the owner's account with the service; the host can read it.
        policy_ids: policies of that account; Intel's service only.
    """

    service: AttestationService
    url: str
    ca_pem: str
    api_key: str | None
    policy_ids: tuple[str, ...]


@frozen
class KbsAddress:
    """Where the KBS is and what vouches for it, as a file beside `ccinit.toml` says.

    Attributes:
        url, ca_pem: as in `KbsConfig`.
        file: that file's name.
    """

    url: str
    ca_pem: str
    file: str


@frozen
class KbsConfig:
    """The owner's Key Broker Service.

    Attributes:
        url: `https://host[:port]`, no path.
        ca_pem: the only roots that may vouch for it.
        tee_key_algorithm: the kind of key to which the KBS encrypts the guest's secrets.
        passport: the service that appraises the guest; None leaves that to the KBS.
    """

    url: str
    ca_pem: str
    envelope: EnvelopePolicy
    transport: KbsTransport
    tee_key_algorithm: TeeKeyAlgorithm
    passport: PassportConfig | None = None


@frozen
class OwnerConfig:
    """The owner plane; without it the guest has none.

    Attributes:
        port: TCP port on the pod's addresses; 0 for none: then only the host's `relay` leads there.
        client_ca_pem: the only roots that may vouch for a client.
    """

    port: int
    client_ca_pem: str


@frozen
class LogConfig:
    """The sealed log.

    Attributes:
        public_key: MLKEM768-X25519 public key that it is encrypted to.
        heartbeat_seconds: how often a log without new records is signed; 0 for never.
        batch_ms: how often the host is shown a batch; 0 shows it each record at once.
        batch_bytes: length of every batch.
    """

    public_key: bytes
    heartbeat_seconds: int = 60
    batch_ms: int = 0
    batch_bytes: int = 16 << 10


@frozen
class DebugConfig:
    """What debug may do; only a grant of the KBS opens it.

    Attributes:
        allowed: whether it may open on a platform without a runtime register.
        tools: the only disk that it may mount: all of it, erofs and hash tree, without a
            superblock.
    """

    allowed: bool = False
    tools: VerityParameters | None = None


@frozen
class Limits:
    """Caps that the owner may change; units in the names."""

    # 8 MiB for the tags of each of 32 GiB, and 1 MiB for the 136 KiB of each of four disks.
    scratch_tags_bytes: int = 257 * MIB
    memory_store_bytes: int = 512 * MIB
    image_bytes: int = 8 * GIB
    log_ring_bytes: int = 4 * MIB
    attest_seconds: int = 600
    pull_seconds: int = 1800
    network_seconds: int = 300
    stop_grace_seconds: int = 30


@frozen
class GuestConfig:
    """The whole of `ccinit.toml`.

    Attributes:
        start_by: `host` waits for the RPC method `start` before the pod runs.
    """

    kbs: KbsConfig
    log: LogConfig
    owner: OwnerConfig | None
    start_by: StartBy
    limits: Limits
    debug: DebugConfig = DebugConfig()


def parse_guest_config(text: str, kbs: KbsAddress | None = None) -> GuestConfig:
    """Parse `ccinit.toml`.

    Args:
        text: of the file.
        kbs: what another file of the document says in place of `kbs.url` and `kbs.ca`.

    Raises:
        FormatError: `ccinit.…`, the key that is wrong; `ccinit.kbs.twice`, the other file names
            it, too.
    """
    with Fields(parse_toml(text.encode(), "ccinit.toml"), "ccinit") as fields:
        fields.integer("version", low=1, high=1)
        return GuestConfig(
            kbs=fields.table("kbs", partial(_read_kbs, address=kbs)),
            log=fields.table("log", _read_log),
            owner=fields.optional_table("owner", _read_owner),
            start_by=fields.table("start", _read_start, default=StartBy.GUEST),
            limits=fields.table("limits", _read_limits, default=Limits()),
            debug=fields.table("debug", _read_debug, default=DebugConfig()),
        )


def _read_passport(fields: Fields) -> PassportConfig:
    where = "ccinit.kbs.passport"
    passport = PassportConfig(
        service=fields.choice("service", AttestationService),
        url=read_origin(fields, where),
        ca_pem=read_roots(fields, "ca", f"{where}.ca"),
        api_key=fields.optional_text("api_key", max_bytes=_MAX_API_KEY_BYTES),
        policy_ids=fields.texts("policy_ids", max_items=16, max_bytes=64),
    )
    if passport.service is AttestationService.AZURE and (passport.api_key or passport.policy_ids):
        raise FormatError(
            f"{where}.service", "Azure Attestation takes no api_key and no policy_ids"
        )
    if passport.api_key is not None and not _is_plain(passport.api_key):
        raise FormatError(f"{where}.api_key", "expected letters, digits and +/.=_-")
    if not all(map(_is_plain, passport.policy_ids)):
        raise FormatError(f"{where}.policy_ids", "expected letters, digits and +/.=_-")
    return passport


def _is_plain(text: str) -> bool:
    return bool(text) and text.isascii() and all(one.isalnum() or one in "+/.=_-" for one in text)


def _read_kbs(fields: Fields, address: KbsAddress | None) -> KbsConfig:
    url, ca_pem = _read_address(fields, address)
    return KbsConfig(
        url=url,
        ca_pem=ca_pem,
        envelope=fields.choice("envelope", EnvelopePolicy),
        transport=fields.choice("transport", KbsTransport, default=KbsTransport.TCP),
        tee_key_algorithm=fields.choice(
            "tee_key_algorithm", TeeKeyAlgorithm, default=TeeKeyAlgorithm.P256
        ),
        passport=fields.optional_table("passport", _read_passport),
    )


def _read_address(fields: Fields, other: KbsAddress | None) -> tuple[str, str]:
    if other is None:
        return read_origin(fields, "ccinit.kbs"), read_roots(fields, "ca", "ccinit.kbs.ca")
    for key in ("url", "ca"):
        if fields.has(key):
            raise FormatError("ccinit.kbs.twice", f"{other.file} names the KBS, and {key} is here")
    return other.url, other.ca_pem


def _read_owner(fields: Fields) -> OwnerConfig:
    port = fields.integer("port", low=0, high=0xFFFF, default=0)
    if port == WORKLOAD_PORT:  # both are taken before the first container starts
        raise FormatError("ccinit.owner.port", f"{port} is the workload API's")
    return OwnerConfig(
        port=port,
        client_ca_pem=read_roots(fields, "client_ca", "ccinit.owner.client_ca"),
    )


def _read_log(fields: Fields) -> LogConfig:
    log = LogConfig(
        public_key=_read_log_key(fields),
        heartbeat_seconds=fields.integer("heartbeat_seconds", low=0, high=3600, default=60),
        batch_ms=fields.integer("batch_ms", low=0, high=60_000, default=0),
        batch_bytes=fields.integer("batch_bytes", low=4096, high=64 << 10, default=16 << 10),
    )
    if 0 < log.batch_ms < _MIN_BATCH_MS:
        raise FormatError("ccinit.log.batch_ms", f"0, or {_MIN_BATCH_MS} and more")
    if log.batch_bytes % SizeClass.SMALL.wire_bytes:
        raise FormatError("ccinit.log.batch_bytes", "expected a multiple of 512")
    return log


def _read_log_key(fields: Fields) -> bytes:
    text = fields.text("public_key")
    return decode_base64(text, "ccinit.log.public_key", OWNER_KEY_BYTES, OWNER_KEY_BYTES)


def _read_start(fields: Fields) -> StartBy:
    return fields.choice("by", StartBy, default=StartBy.GUEST)


def _read_debug(fields: Fields) -> DebugConfig:
    return DebugConfig(
        allowed=fields.boolean("allowed", default=False),
        tools=fields.optional_table("tools", read_verity_parameters),
    )


def _read_limits(fields: Fields) -> Limits:
    default = Limits()

    def size(key: str, value: int, high: int) -> int:
        return fields.integer(key, low=1, high=high, default=value)

    return Limits(
        scratch_tags_bytes=size("scratch_tags_bytes", default.scratch_tags_bytes, 64 * GIB),
        memory_store_bytes=fields.integer(
            "memory_store_bytes", low=MIB, high=1024 * GIB, default=default.memory_store_bytes
        ),
        image_bytes=size("image_bytes", default.image_bytes, 1024 * GIB),
        log_ring_bytes=fields.integer(
            "log_ring_bytes", low=MIB, high=256 * MIB, default=default.log_ring_bytes
        ),
        attest_seconds=size("attest_seconds", default.attest_seconds, 86_400),
        pull_seconds=size("pull_seconds", default.pull_seconds, 86_400),
        network_seconds=size("network_seconds", default.network_seconds, 86_400),
        stop_grace_seconds=size("stop_grace_seconds", default.stop_grace_seconds, 3_600),
    )
