"""`policy.json`: which signatures an image needs (containers-policy.json(5)).

Read as containers/image reads it: an unknown or duplicate member, an empty list of requirements or
a missing `default` refuses the whole document. What cannot be honoured here refuses it too, except
`signedBy`, which is read and then never satisfied, so that one document can serve podman and the
guest. Paths to keys are names of KBS resources (`kbs:///…`); the guest has no files of its own.
`ccinit.pull.signature.sigstore` decides which signatures satisfy a requirement.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_json import decode_base64, parse_json
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri, parse_resource_uri
from ccinit.formats.oci.docker_reference import DockerReference
from ccinit.formats.signature.signed_identity import (
    MatchRepoDigestOrExact,
    SignedIdentity,
    read_signed_identity,
)
from ccinit.values import frozen

MAX_POLICY_BYTES = 256 * 1024
MAX_KEY_BYTES = 64 * 1024
MAX_POLICY_KEYS = 32
_MAX_SCOPES = 512
_MAX_REQUIREMENTS = 16
_MAX_KEYS = 16
_TRANSPORT = "docker"  # the transport of registries; the guest has no other
_GPG_KEY_TYPES = frozenset({"GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs"})


@frozen
class AcceptAnything:
    """`insecureAcceptAnything`: no signature is needed."""


@frozen
class Reject:
    """`reject`: nothing satisfies it."""


@frozen
class SignedBy:
    """`signedBy`: an OpenPGP signature, which this guest cannot check."""


KeySource: TypeAlias = bytes | ResourceUri
"""PEM text in the policy itself, or the resource of the KBS that holds it."""


@frozen
class Fulcio:
    """Certificates instead of keys: by which roots, and for whom.

    Attributes:
        oidc_issuer: who vouched for the signer towards Fulcio.
        subject_email: the signer.
    """

    roots: KeySource
    oidc_issuer: str
    subject_email: str


@frozen
class SigstoreSigned:
    """`sigstoreSigned`: one good signature by one of the keys, or by a Fulcio certificate.

    Attributes:
        rekor_keys: if any, one of these logs must have recorded the signature.
    """

    keys: tuple[KeySource, ...]
    fulcio: Fulcio | None
    rekor_keys: tuple[KeySource, ...]
    identity: SignedIdentity


Requirement: TypeAlias = AcceptAnything | Reject | SignedBy | SigstoreSigned
Requirements: TypeAlias = tuple[Requirement, ...]


@frozen
class ImagePolicy:
    """The whole document; of the transports only the registries' is kept.

    Attributes:
        scopes: requirements by scope; the empty one is the transport's default.
    """

    default: Requirements
    scopes: Mapping[str, Requirements]

    def requirements_for(self, reference: DockerReference) -> Requirements:
        """Return what `reference` needs: all of it, from the most specific scope only."""
        for scope in (*scopes_of(reference), ""):
            if scope in self.scopes:
                return self.scopes[scope]
        return self.default

    def resources(self) -> tuple[ResourceUri, ...]:
        """Return the KBS resources that the document names, each once."""
        found: dict[ResourceUri, None] = {}
        for requirements in (self.default, *self.scopes.values()):
            for requirement in requirements:
                if isinstance(requirement, SigstoreSigned):
                    found |= dict.fromkeys(_resources_of(requirement))
        return tuple(found)


def name_policy_keys(
    policies: Iterable[ImagePolicy], uses: Iterable[tuple[KbsUri, EnvelopeKind]]
) -> tuple[ResourceUri, ...]:
    """Return the resources that a pod's image policies name, each once; all are wanted as files.

    Args:
        policies: all of the pod's, or those that are known.
        uses: what the pod itself asks for. A key may be among it, if it is a file there, too.

    Raises:
        LimitExceededError: `policy.keys`, more than `MAX_POLICY_KEYS` of them.
        FormatError: `policy.key_kind`, the pod uses one as something else.
    """
    named = dict.fromkeys(uri for policy in policies for uri in policy.resources())
    if len(named) > MAX_POLICY_KEYS:
        detail = f"expected at most {MAX_POLICY_KEYS} keys as resources, found {len(named)}"
        raise LimitExceededError("policy.keys", detail)
    for uri, kind in uses:
        if uri in named and kind is not EnvelopeKind.FILE:
            detail = f"{uri} is to verify signatures, but the pod uses it as {kind}"
            raise FormatError("policy.key_kind", detail)
    return tuple(named)


def scopes_of(reference: DockerReference) -> tuple[str, ...]:
    """Return the scopes that name an image, the most specific first.

    The image itself, its repository, each parent, the host with its port, and `*.` with each
    parent domain, without the port.
    """
    scopes = [] if reference.is_name_only else [reference.text]
    name = reference.name
    while True:
        scopes.append(name)
        name, slash, _last = name.rpartition("/")
        if not slash:
            break
    domain = reference.name.partition("/")[0].partition(":")[0]
    while "." in domain:
        domain = domain.partition(".")[2]
        scopes.append(f"*.{domain}")
    return tuple(scopes)


def parse_named_policy(uri: KbsUri, data: bytes) -> ImagePolicy:
    """Parse one of a pod's policies; as `parse_image_policy`, but an error's detail says which."""
    try:
        return parse_image_policy(data)
    except FormatError as error:
        raise type(error)(error.reason, f"{uri}: {error.detail}") from error


def parse_image_policy(data: bytes) -> ImagePolicy:
    """Parse `policy.json`.

    Raises:
        FormatError: `policy.…`.
    """
    with Fields(parse_json(data, "policy", MAX_POLICY_BYTES), "policy") as fields:
        default = _read_requirements(fields.value("default"), "policy.default")
        transports = fields.value("transports") if fields.has("transports") else {}
    scopes: Mapping[str, Requirements] = {}
    for transport, table in _entries(transports, "policy.transports"):
        # Every transport is read, so that a mistake in any refuses the document.
        read = {
            scope: _read_requirements(value, "policy.requirements")
            for scope, value in _entries(table, "policy.scopes")
        }
        scopes = read if transport == _TRANSPORT else scopes
    return ImagePolicy(default=default, scopes=scopes)


def _entries(value: object, reason: str) -> tuple[tuple[str, object], ...]:
    if not isinstance(value, Mapping):
        raise FormatError(reason, "expected an object")
    if len(value) > _MAX_SCOPES:
        raise LimitExceededError(
            reason, f"expected at most {_MAX_SCOPES} members, found {len(value)}"
        )
    return tuple(value.items())


def _read_requirements(value: object, reason: str) -> Requirements:
    if not isinstance(value, list) or not value:
        raise FormatError(reason, "expected at least one requirement")
    if len(value) > _MAX_REQUIREMENTS:
        raise LimitExceededError(reason, f"more than {_MAX_REQUIREMENTS} requirements")
    return tuple(_read_requirement(item) for item in value)


def _read_requirement(value: object) -> Requirement:
    with Fields(value, "policy.requirement") as fields:
        kind = fields.text("type")
        match kind:
            case "insecureAcceptAnything":
                return AcceptAnything()
            case "reject":
                return Reject()
            case "signedBy":
                return _read_signed_by(fields)
            case "sigstoreSigned":
                return _read_sigstore_signed(fields)
            case _:
                raise FormatError("policy.requirement.type", f"unknown type {kind[:80]!r}")


def _read_signed_by(fields: Fields) -> SignedBy:
    if fields.text("keyType") not in _GPG_KEY_TYPES:
        raise FormatError("policy.requirement.keyType", "unknown type of keys")
    _one_of(fields, ("keyPath", "keyPaths", "keyData"))
    for key in ("keyPath", "keyData"):
        fields.optional_text(key, max_bytes=MAX_POLICY_BYTES)
    fields.texts("keyPaths")
    _read_identity(fields)
    return SignedBy()


def _read_sigstore_signed(fields: Fields) -> SigstoreSigned:
    if fields.has("pki"):
        raise FormatError("policy.pki", "certificates without a transparency log are not supported")
    signer = _one_of(fields, ("keyPath", "keyPaths", "keyData", "keyDatas", "fulcio"))
    fulcio = fields.table("fulcio", _read_fulcio) if signer == "fulcio" else None
    rekor = _one_of(fields, _spellings("rekorPublicKey"), needed=fulcio is not None)
    return SigstoreSigned(
        keys=() if signer == "fulcio" else _read_keys(fields, signer),
        fulcio=fulcio,
        rekor_keys=_read_keys(fields, rekor) if rekor else (),
        identity=_read_identity(fields),
    )


def _read_fulcio(fields: Fields) -> Fulcio:
    source = _one_of(fields, ("caPath", "caData"))
    (roots,) = _read_keys(fields, source)
    issuer, subject = fields.text("oidcIssuer"), fields.text("subjectEmail")
    if not issuer or not subject:
        raise FormatError("policy.fulcio", "oidcIssuer and subjectEmail must say who may sign")
    return Fulcio(roots=roots, oidc_issuer=issuer, subject_email=subject)


def _read_identity(fields: Fields) -> SignedIdentity:
    if fields.has("signedIdentity"):
        return fields.table("signedIdentity", read_signed_identity)
    return MatchRepoDigestOrExact()


def _spellings(stem: str) -> tuple[str, ...]:
    return tuple(f"{stem}{ending}" for ending in ("Path", "Paths", "Data", "Datas"))


def _one_of(fields: Fields, keys: tuple[str, ...], *, needed: bool = True) -> str:
    """Return the one key that is present; an empty text for none, if none is needed."""
    present = [key for key in keys if fields.has(key)]
    if len(present) > 1 or (needed and not present):
        raise FormatError(
            "policy.keys",
            f"expected {'exactly' if needed else 'at most'} one of: {', '.join(keys)}",
        )
    return present[0] if present else ""


def _read_keys(fields: Fields, key: str) -> tuple[KeySource, ...]:
    """Read one of the four spellings; each must give at least one key."""
    read: Callable[[str], KeySource] = _read_key_data if "Data" in key else _read_key_path
    if key.endswith("s"):
        texts = fields.texts(key, max_items=_MAX_KEYS, max_bytes=2 * MAX_KEY_BYTES)
    else:
        texts = (fields.text(key, max_bytes=2 * MAX_KEY_BYTES),)
    if not texts:
        raise FormatError("policy.keys", f"{key} is empty")
    return tuple(read(text) for text in texts)


def _read_key_data(text: str) -> bytes:
    data = decode_base64(text, "policy.key_data")
    if len(data) > MAX_KEY_BYTES:
        raise LimitExceededError("policy.key_data", f"more than {MAX_KEY_BYTES} bytes")
    return data


def _read_key_path(text: str) -> ResourceUri:
    return parse_resource_uri(text, "policy.key_path")


def _resources_of(requirement: SigstoreSigned) -> tuple[ResourceUri, ...]:
    roots = () if requirement.fulcio is None else (requirement.fulcio.roots,)
    sources = (*requirement.keys, *roots, *requirement.rekor_keys)
    return tuple(source for source in sources if isinstance(source, ResourceUri))
