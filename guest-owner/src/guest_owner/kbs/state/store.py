"""The owner's state directory: resources, registrations, the policy.

    resources/REPOSITORY/TYPE/TAG      body of a resource, as it is sent
    minted/REPOSITORY/TYPE/TAG         order for a resource that is made for each guest that asks
    references/NAME.json               predicted measurements of an image
    attestation-keys/NAME.der          SubjectPublicKeyInfo of a TPM's attestation key
    roots/PLATFORM/NAME.pem            certificates of a TEE's vendor
    requirements/PLATFORM.toml         what is demanded of a TEE's firmware and host
    request.key                        seals what guests carry for us; private
    issuers/NAME.toml                  another Verifier whose tokens count, and what they must say
    issuer-keys/NAME.json              the keys by which it signs, a JWK Set
    initdata/NAME.toml                 a document that may run; trusted by the digest of its bytes
    rollback-counters/POD/VOLUME.json  how often a volume was opened and closed
    policy.toml                        who may get what
    admin-keys/NAME.pem                public key of a network administrator
    changes.lock                       empty; held by whoever changes one of these files

Everything is read afresh for every request, so a new registration counts at once, and so does a
removal; only files that the kernel reports as unchanged are not parsed again. Keys and certificates
of the KBS itself are `guest_owner.kbs.authority`. Administrators are
`guest_owner.kbs.administration`, the audit log `guest_owner.kbs.audit`, counters `counters` beside
this, and the locks `guest_owner.kbs.exclusion`. Resources are stored in the clear: the directory
(mode 0700) belongs on the owner's machine, never on the host of the guests.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

from ccinit.errors import ConfigError, VerificationError
from ccinit.formats.encoding.digest import Digest, sha256_digest
from ccinit.formats.evidence.tee import Tee, evidence_needs_request
from ccinit.formats.initdata.document import MAX_DOCUMENT_BYTES, parse_initdata
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.release import MAX_BODY_BYTES
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from guest_owner.files import (
    PUBLIC_MODE,
    is_file,
    list_below,
    read_capped,
    read_parsed,
    remove_file,
    write_atomically,
)
from guest_owner.kbs.attestation_requests.key import ensure_request_key
from guest_owner.kbs.attestation_requests.se import check_host_keys
from guest_owner.kbs.exclusion import changing, require_state
from guest_owner.kbs.minting import MAX_ORDER_BYTES, Order, encode_order, parse_order
from guest_owner.kbs.passports.issuer import MAX_ISSUER_BYTES, Issuer, parse_issuer
from guest_owner.kbs.passports.key_set import MAX_KEY_SET_BYTES, encode_key_set, parse_key_set
from guest_owner.kbs.policy import MAX_POLICY_BYTES, Policy, parse_policy
from guest_owner.kbs.references.requirements import Requirements, parse_requirements
from guest_owner.kbs.references.roots import parse_certificates, parse_platform
from guest_owner.kbs.references.values import (
    References,
    ReferenceSet,
    RegisteredRoot,
    check_name,
    encode_reference_set,
)
from guest_owner.kbs.state.reference_files import (
    ReferenceFiles,
    check_size,
    document_file,
    key_file,
    reference_file,
)
from guest_owner.kbs.state.registrations import Folder, is_another, write_registrations
from guest_owner.kbs.verifiers.tpm_quote import parse_attestation_key
from guest_owner.pod_names import read_pod_name
from guest_owner.resources.contents import check_body_size, keep_volume_key

RESOURCES: Final = "resources"
MINTED: Final = "minted"
_POLICY: Final = "policy.toml"
_REMOVABLE: Final = frozenset(
    (
        *(RESOURCES, MINTED, "references", "attestation-keys", "roots", "requirements"),
        *("issuers", "issuer-keys", "initdata", "rollback-counters", "admin-keys"),
    )
)

Recorder: TypeAlias = Callable[[Mapping[str, bytes | None]], AbstractContextManager[None]]
"""Called with each change: new contents by path below the directory, None for a file that is
removed. The change is made within the context that it returns."""

# Read for every request, but parsed once: checking 1024 rules against each other takes 100 ms.
_parse_policy_once = lru_cache(maxsize=1)(parse_policy)


def attestation_key_name(public_der: bytes) -> str:
    """Return the default name of a key."""
    return f"ak-{hashlib.sha256(public_der).hexdigest()[:16]}"


def check_removable(file: str) -> str:
    """Return the path below the directory of what may be removed, in its only form.

    Raises:
        ConfigError: `unregister.path`.
    """
    parts = PurePosixPath(file).parts
    if len(parts) < 2 or parts[0] not in _REMOVABLE or ".." in parts:
        detail = f"{file!r} is not a file of {', '.join(sorted(_REMOVABLE))}"
        raise ConfigError("unregister.path", detail)
    return "/".join(parts)


class Store:
    """One state directory."""

    def __init__(self, root: Path, recorder: Recorder = lambda _files: nullcontext()) -> None:
        """Args: root: passes `require_state`; recorder: records what this store changes."""
        require_state(root)
        self.root = root
        self._recorder = recorder
        self._references = ReferenceFiles(root)
        self._issuer_keys = Folder(
            root / "issuer-keys",
            ".json",
            MAX_KEY_SET_BYTES,
            lambda name, data: (name, parse_key_set(data)),
        )
        self._issuers = Folder(
            root / "issuers",
            ".toml",
            MAX_ISSUER_BYTES,
            lambda name, data: (name, parse_issuer(data)),
        )

    @property
    def policy_path(self) -> Path:
        """Where the policy is."""
        return self.root / _POLICY

    def read_policy(self) -> Policy:
        """Read the policy; a missing file is an error, not an empty policy."""
        return read_parsed(self.policy_path, MAX_POLICY_BYTES, _parse_policy_once)

    def write_policy(self, text: bytes) -> None:
        """Replace the policy, if the new one parses."""
        parse_policy(text)
        with changing(self.root), self._recorder({_POLICY: text}):
            write_atomically(self.policy_path, text, mode=PUBLIC_MODE)

    def edit_policy(self, edit: Callable[[str], str]) -> None:
        """Replace the policy's text by what `edit` makes of it."""
        with changing(self.root):
            self.read_policy()  # an invalid policy is not edited
            text = read_capped(self.policy_path, MAX_POLICY_BYTES).decode()
            self.write_policy(edit(text).encode())

    def read_references(self) -> References:
        """Read every registration; one that does not parse makes the whole read fail."""
        return self._references.read()

    def register(
        self,
        references: Sequence[ReferenceSet] = (),
        attestation_keys: Mapping[str, bytes] | None = None,
        documents: Mapping[str, bytes] | None = None,
    ) -> bool:
        """Register everything or nothing; return whether different content of a name is replaced.

        Args:
            references: with different names.
            attestation_keys: of TPMs, by name.
            documents: initdata documents that a guest on some platform would accept, by name.

        Raises:
            FormatError: an invalid name, key or document; `reference.profile`; `register.size`.
            ConfigError: as `write_registrations`.
        """
        files = {reference_file(one.name): encode_reference_set(one) for one in references}
        for name, public_der in (attestation_keys or {}).items():
            parse_attestation_key(public_der)
            files[key_file(check_name(name, "ak.name"))] = public_der
        for name, document in (documents or {}).items():
            parse_initdata(document)
            files[document_file(check_name(name, "initdata.name"))] = document
        for file, data in files.items():
            check_size(file, data)
        with changing(self.root):
            if references:
                replaced = {reference.name for reference in references}
                kept = (one for one in self.read_references().sets if one.name not in replaced)
                # Constructing the value checks that no measurement gets two profiles.
                References(sets=(*kept, *references))
            replaces = any(is_another(self.root / file, data) for file, data in files.items())
            self._register(files)
        return replaces

    def add_reference(self, reference: ReferenceSet) -> bool:
        """Register reference values; return whether they replace another set of their name."""
        return self.register(references=(reference,))

    def add_attestation_key(self, name: str, public_der: bytes) -> bool:
        """Register a TPM's attestation key; return whether it replaces another one."""
        return self.register(attestation_keys={name: public_der})

    def add_initdata(self, name: str, document: bytes) -> bool:
        """Register a document; return whether it replaces another one."""
        return self.register(documents={name: document})

    def add_root(self, name: str, platform: Tee, pem: bytes) -> RegisteredRoot:
        """Register certificates of a platform's vendor."""
        check_name(name, "root.name")
        parse_platform(platform)
        certificates = parse_certificates(pem)
        with changing(self.root):
            if platform is Tee.SE:
                others = (
                    root for root in self._references.read_roots(platform) if root.name != name
                )
                known = (der for root in others for der in root.certificates)
                check_host_keys((*certificates, *known))
            if evidence_needs_request(platform):
                ensure_request_key(self.root)
            self._register({f"roots/{platform}/{name}.pem": pem})
        return RegisteredRoot(name=name, platform=platform, certificates=certificates)

    def set_requirements(self, platform: Tee, text: bytes) -> Requirements:
        """Replace what is demanded of a platform."""
        requirements = parse_requirements(text, platform)
        self._register({f"requirements/{platform}.toml": text})
        return requirements

    def read_issuers(self) -> tuple[Issuer, ...]:
        """Read the issuers whose tokens count; one that does not parse makes the whole read fail.

        Raises:
            FormatError: below `issuer`.
            ConfigError: `state.issuers`, an issuer has no keys (keys without terms are ignored).
        """
        keys = dict(self._issuer_keys.read())
        terms = self._issuers.read()
        for name, _said in terms:
            if name not in keys:
                raise ConfigError("state.issuers", f"issuer {name} has no keys; register it anew")
        return tuple(Issuer(name=name, terms=said, keys=keys[name]) for name, said in terms)

    def add_issuer(self, name: str, terms: bytes, key_set: bytes) -> Issuer:
        """Register an issuer of tokens with its keys, replacing one of the same name.

        Raises:
            FormatError: below `issuer`.
            ConfigError: `issuer.exists`, the same issuer is registered under another name.
        """
        check_name(name, "issuer.name")
        issuer = Issuer(name=name, terms=parse_issuer(terms), keys=parse_key_set(key_set))
        with changing(self.root):
            for known, said in self._issuers.read():
                if known != name and said.issuer == issuer.terms.issuer:
                    raise ConfigError("issuer.exists", f"{known} is registered as that issuer")
            # The keys first: an issuer counts once its terms are there.
            keys = {f"issuer-keys/{name}.json": encode_key_set(issuer.keys)}
            self._register({**keys, f"issuers/{name}.toml": terms})
        return issuer

    def read_resource(self, uri: ResourceUri) -> bytes:
        """Return a stored resource's body.

        Raises:
            VerificationError: `resource.absent`.
        """
        path = self._path(RESOURCES, uri)
        if not is_file(path):
            raise VerificationError("resource.absent", f"{uri} is not registered")
        return read_capped(path, MAX_BODY_BYTES)

    def has_resource(self, uri: ResourceUri) -> bool:
        """Whether a resource is stored, or ordered."""
        return is_file(self._path(RESOURCES, uri)) or self.read_order(uri) is not None

    def write_resource(
        self, uri: ResourceUri, body: bytes, kind: EnvelopeKind | None = None
    ) -> bytes:
        """Store a resource's body; return the one that it replaces, b"" for none.

        Args:
            uri: the resource.
            body: as it will be sent.
            kind: what a body without an envelope is for, if that is known.

        Raises:
            FormatError: `resource.size`.
            ConfigError: `resource.minted`, there is an order for it; `resource.volume_key`, it
                would replace a volume's key by something else.
        """
        check_body_size(body)
        with changing(self.root):
            if self.read_order(uri) is not None:
                detail = f"{uri} is minted; `guest-owner unregister minted/{uri.path}` first"
                raise ConfigError("resource.minted", detail)
            path = self._path(RESOURCES, uri)
            replaced = read_capped(path, MAX_BODY_BYTES) if is_file(path) else b""
            keep_volume_key(uri, replaced, body, kind)
            with self._recorder({_file(RESOURCES, uri): body}):
                write_atomically(path, body)
        return replaced

    def read_order(self, uri: ResourceUri) -> Order | None:
        """Return the order for a resource that is minted; None for any other."""
        path = self._path(MINTED, uri)
        if not is_file(path):
            return None
        return read_parsed(path, MAX_ORDER_BYTES, parse_order)

    def read_orders(self) -> tuple[Order, ...]:
        """Return every order.

        Raises:
            ConfigError: a file is damaged, or of a newer version, and is named.
        """
        paths = list_below(self.root / MINTED, 2)
        return tuple(read_parsed(path, MAX_ORDER_BYTES, parse_order) for path in paths)

    def write_order(self, uri: ResourceUri, order: Order) -> None:
        """Order a resource, replacing an older order.

        Raises:
            ConfigError: `resource.stored`, there is a body under this name.
        """
        with changing(self.root):
            if is_file(self._path(RESOURCES, uri)):
                detail = f"{uri} is stored; `guest-owner unregister resources/{uri.path}` first"
                raise ConfigError("resource.stored", detail)
            data = encode_order(order)
            with self._recorder({_file(MINTED, uri): data}):
                write_atomically(self._path(MINTED, uri), data, mode=PUBLIC_MODE)

    def delete_resource(self, uri: ResourceUri) -> None:
        """Remove a resource's body or the order for it.

        Raises:
            VerificationError: `resource.absent`.
            ConfigError: `state.remove`.
        """
        with changing(self.root):
            if not self.has_resource(uri):
                raise VerificationError("resource.absent", f"{uri} is not registered")
            for folder in (RESOURCES, MINTED):
                if is_file(self._path(folder, uri)):
                    self.unregister(_file(folder, uri))

    def unregister(self, file: str) -> None:
        """Remove a registration, an order, a resource or a counter.

        Args:
            file: path below the directory; an issuer's two files are removed one at a time.

        Raises:
            ConfigError: as `check_removable`; `unregister.absent`; `state.remove`.
        """
        name = check_removable(file)
        path = self.root / name
        with changing(self.root):
            if not is_file(path):
                raise ConfigError("unregister.absent", f"there is no {path}")
            with self._recorder({name: None}):
                remove_file(path)

    def read_pod_name(self, initdata_name: str, digest: Digest) -> str:
        """Return the name of the pod that a registered document describes.

        Raises:
            VerificationError: `initdata.replaced`, another document has that name by now.
        """
        document = self.read_initdata(initdata_name)
        if sha256_digest(document) != digest:  # since the guest was found to be registered
            raise VerificationError(
                "initdata.replaced", f"{initdata_name} names another document now"
            )
        return read_pod_name(document)

    def read_initdata(self, name: str) -> bytes:
        """Return a registered document."""
        name = check_name(name, "initdata.name")
        return read_capped(self.root / document_file(name), MAX_DOCUMENT_BYTES)

    def _path(self, folder: str, uri: ResourceUri) -> Path:
        return self.root / _file(folder, uri)

    def _register(self, files: Mapping[str, bytes]) -> None:
        with changing(self.root), self._recorder(files):
            write_registrations(self.root, files)


def _file(folder: str, uri: ResourceUri) -> str:
    # A ResourceUri can be built without its parser, so check again before making a path of it.
    return f"{folder}/{parse_resource_uri(str(uri), 'resource.uri').path}"
