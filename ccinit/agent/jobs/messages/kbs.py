"""Between PID 1 and the child `kbs`, or `launch` where the secrets came with the launch."""

from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import EnvelopePolicy, KbsTransport, PassportConfig
from ccinit.formats.kbs.debug_grant import DebugGrant
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.kbs.resource_uri import KbsUri, PluginUri, ResourceUri
from ccinit.formats.kbs.rollback_counter import CounterAdvance
from ccinit.formats.kbs.sealed_secret import SealedSecret
from ccinit.formats.kbs.tls_identity import ExpectedIdentity, VerifiedIdentity
from ccinit.values import field, frozen


@frozen
class Wanted:
    """A resource and the use it must be meant for.

    Attributes:
        is_policy: it is an image policy; the resources that it names are wanted, too.
        sealed: the sealed secrets that name it, if any; their keys are wanted, too.
        identity: what the guest's TLS identity has to be, if this is that.
    """

    uri: KbsUri
    kind: EnvelopeKind
    is_policy: bool = False
    sealed: tuple[SealedSecret, ...] = ()
    identity: ExpectedIdentity | None = None


@frozen
class CounterStep:
    """A volume's rollback counter: read it, or advance it first if `advance` says so."""

    uri: PluginUri
    advance: CounterAdvance | None = None


@frozen
class KbsRequest:
    """What to ask of which KBS.

    Attributes:
        document: the initdata document's text, which the KBS appraises as a whole.
        seconds: time limit for the whole job.
        devices: names of devices that vouch for the guest in addition to the platform.
        parameters: of the platform, for the request; JSON, or empty.
        with_token: the KBS's attestation result is wanted, too.
        counters: rollback counters, after the resources.
        debug_grant: where a debug grant is, if one is wanted.
        has_clock: certificates' dates are checked, too; only in ATTEST is there no clock yet.
    """

    url: str
    ca_pem: str
    transport: KbsTransport
    tee: Tee
    document: str
    envelope: EnvelopePolicy
    tee_key_algorithm: TeeKeyAlgorithm
    passport: PassportConfig | None
    wanted: tuple[Wanted, ...]
    seconds: int
    devices: tuple[str, ...] = ()
    parameters: bytes = b""
    with_token: bool = False
    counters: tuple[CounterStep, ...] = ()
    debug_grant: ResourceUri | None = None
    has_clock: bool = True


@frozen
class LaunchRequest:
    """What the launch's secrets have to contain; the reply is a KbsReply without a token."""

    wanted: tuple[Wanted, ...]


@frozen
class EvidenceQuestion:
    """Asks for evidence that carries these bytes and answers the verifier's request, if any."""

    report_data: bytes
    verifiers_request: bytes = b""


@frozen
class EvidenceAnswer:
    """The evidence as JSON text."""

    evidence: bytes


@frozen
class ClockQuestion:
    """Tells the KBS's time in seconds since 1970; dates are checked after the answer."""

    seconds: int


@frozen
class ClockAnswer:
    """The clock is now no earlier than that."""


@frozen
class ConnectionQuestion:
    """Asks for a connection to the host's relay, and says how long connecting may take."""

    milliseconds: int


@frozen
class ConnectionAnswer:
    """The connection comes as an fd; `errno` says why there is none, else it is 0."""

    errno: int


@frozen
class Released:
    """One resource; `create` is the owner's permission to format an empty disk with it.

    Attributes:
        identity: what checking it found, if it was wanted as the guest's TLS identity; a launch's
            secret is not checked.
        certificate_der: of that identity in either case, the certificate that the guest shows, so
            that PID 1 need not read the identity's text.
    """

    uri: KbsUri
    data: bytes = field(repr=False)
    create: bool
    identity: VerifiedIdentity | None = None
    certificate_der: bytes = b""


@frozen
class KbsReply:
    """Everything that was wanted, in the same order, and the KBS's time in seconds since 1970.

    Attributes:
        policy_keys: the resources that image policies among them name.
        token: the attestation result, if it was wanted; a credential.
        counters: the rollback counters' values now, in the order of the request.
        debug_grant: if it was wanted: for the key of this session, and valid at `date`.
    """

    released: tuple[Released, ...]
    policy_keys: tuple[Released, ...]
    date: int
    token: str = field(default="", repr=False)
    counters: tuple[int, ...] = ()
    debug_grant: DebugGrant | None = None
