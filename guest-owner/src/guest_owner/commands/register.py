"""`guest-owner register`: put what may run, and what it may get, into the state directory."""

import argparse
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from ccinit.errors import FormatError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.document import MAGIC, MAX_DOCUMENT_BYTES
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.release import MAX_BODY_BYTES
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.signature.image_policy import (
    MAX_POLICY_BYTES,
    name_policy_keys,
    parse_image_policy,
)
from guest_owner.arguments import add_group, add_state, as_uri
from guest_owner.commands import rollback_counter as rollback_counter_command
from guest_owner.commands import tls_identity as tls_identity_command
from guest_owner.files import naming, read_capped, read_parsed
from guest_owner.kbs.passports import issuer as issuer_module
from guest_owner.kbs.passports.issuer import MAX_ISSUER_BYTES, parse_issuer
from guest_owner.kbs.passports.key_set import MAX_KEY_SET_BYTES, parse_key_set
from guest_owner.kbs.references import requirements as requirements_module
from guest_owner.kbs.references import tdx_requirements as tdx_requirements_module
from guest_owner.kbs.references.initdata import parse_registrable_initdata
from guest_owner.kbs.references.requirements import MAX_REQUIREMENTS_BYTES, parse_requirements
from guest_owner.kbs.references.requirements import READERS as DEMANDING
from guest_owner.kbs.references.roots import MAX_ROOT_BYTES, VENDOR_PLATFORMS, parse_certificates
from guest_owner.kbs.references.values import (
    MAX_REFERENCE_BYTES,
    Profile,
    ReferenceSet,
    check_name,
    parse_reference_set,
    register_initdata,
)
from guest_owner.kbs.state.local_changes import recording_store
from guest_owner.kbs.state.reference_files import MAX_KEY_BYTES
from guest_owner.kbs.state.store import Store, attestation_key_name
from guest_owner.kbs.state.uses import check_uses
from guest_owner.kbs.verifiers.tpm_quote import parse_attestation_key
from guest_owner.kbs.verifiers.vendor_certificates import check_vendor_certificates
from guest_owner.manifest.refusals import find_refusals
from guest_owner.registration_files import parse_public_key
from guest_owner.resources.contents import check_body, check_content, is_envelope
from guest_owner.resources.policy_keys import check_keys
from measured_boot.command_line.subcommands import Subparsers, add_command, explain_form
from measured_boot.command_line.usage import UsageError, as_word


def add_parser(subparsers: Subparsers) -> None:
    """Add what can be registered, a command each."""
    commands = add_group(
        subparsers, "register", "Register what is trusted, and the resources for it."
    )
    summary = "Trust an image: the measurements that its build predicted."
    reference = add_command(commands, "reference", summary)
    _add_file(reference, "JSON file that `measured-boot predict --output` wrote")
    _add_name(reference, "the file's")
    reference.set_defaults(func=_reference)

    key = add_command(commands, "ak", "Trust a TPM: its attestation key.")
    _add_file(key, "public key (SubjectPublicKeyInfo), PEM or DER")
    _add_name(key, "made of the key's digest")
    key.set_defaults(func=_attestation_key)

    summary = "Trust the vendor of a TEE: the certificates that its evidence chains to."
    root = add_command(commands, "root", summary)
    _add_file(root, "certificates in PEM, root and intermediate ones")
    root.add_argument(
        "--platform", required=True, choices=[tee.value for tee in VENDOR_PLATFORMS], help="the TEE"
    )
    _add_name(root, "from the certificates' digest")
    root.set_defaults(func=_root)

    summary = "Set requirements for a TEE: its firmware, and what its host may do with a guest."
    requirements = add_command(commands, "requirements", summary)
    _add_file(requirements, "TOML file, as below")
    explain_form(requirements, requirements_module, tdx_requirements_module)
    requirements.add_argument(
        "--platform", required=True, choices=[tee.value for tee in DEMANDING], help="the TEE"
    )
    requirements.set_defaults(func=_requirements)

    _add_issuer(commands)

    summary = "Trust a pod: the initdata document that describes it, byte for byte."
    initdata = add_command(commands, "initdata", summary)
    _add_file(initdata, "document that `guest-owner initdata make` wrote")
    _add_name(initdata, "the pod's")
    initdata.set_defaults(func=_initdata)

    _add_resource(commands)
    _add_image_policy(commands)
    for module in (tls_identity_command, rollback_counter_command):
        module.add_parser(commands)


def _add_resource(commands: Subparsers) -> None:
    summary = "Store a resource for the guests to which the policy allows it."
    resource = add_command(commands, "resource", summary)
    resource.add_argument("uri", type=as_uri, metavar="URI", help="kbs:///repository/type/tag")
    _add_file(resource, "content; '-' reads standard input")
    resource.add_argument(
        "--kind", choices=[kind.value for kind in EnvelopeKind], help="what the guest uses it for"
    )
    resource.add_argument(
        "--envelope",
        action="store_true",
        help='wrap the content with its URI and kind, as kbs.envelope = "required" asks for',
    )
    resource.add_argument(
        "--create",
        action="store_true",
        help="with a volume key: the guest may format a blank disk with it",
    )
    resource.set_defaults(func=_resource)


def _add_issuer(commands: Subparsers) -> None:
    summary = "Trust another Verifier: its tokens, and what these must say of a TEE."
    issuer = add_command(commands, "issuer", summary)
    _add_file(issuer, "TOML file, as below")
    explain_form(issuer, issuer_module)
    issuer.add_argument(
        "--keys",
        required=True,
        type=Path,
        metavar="JWKS",
        help="its public signing keys, as it publishes them (JSON)",
    )
    _add_name(issuer, "the file's name without its ending")
    issuer.set_defaults(func=_issuer)


def _add_image_policy(commands: Subparsers) -> None:
    summary = "Keep a policy.json: which signatures a pod's images need."
    policy = add_command(commands, "image-policy", summary)
    policy.add_argument(
        "uri", type=as_uri, metavar="URI", help="what `policy` of an [[image]] names"
    )
    _add_file(policy, "policy.json, as podman and skopeo read it")
    policy.add_argument("--envelope", action="store_true", help="store it in an envelope")
    policy.set_defaults(func=_image_policy)


def _add_file(parser: argparse.ArgumentParser, summary: str) -> None:
    add_state(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help=summary)


def _add_name(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--name",
        type=as_word(lambda name: check_name(name, "register.name")),
        help=f"name to register it under (default: {default})",
    )


def _store(arguments: argparse.Namespace, kind: str) -> Store:
    return recording_store(arguments.state, f"register {kind}")


def _reference(arguments: argparse.Namespace) -> int:
    name: str | None = arguments.name
    reference = read_parsed(
        arguments.file, MAX_REFERENCE_BYTES, lambda data: _reference_set_of(data, name)
    )
    replaces = _store(arguments, "reference").add_reference(reference)
    print(
        f"registered reference values {reference.name} "
        f"({reference.measured.tee}, profile {reference.profile})"
    )
    _print_replaced_note(reference.name, replaces=replaces)
    if reference.profile is Profile.TEST:
        print("note: a test image gets only what test rules of the policy release")
    return 0


def _reference_set_of(data: bytes, name: str | None) -> ReferenceSet:
    try:
        return parse_reference_set(data, name=name)
    except FormatError as error:
        if (error.reason, error.detail) == ("reference.version", "missing"):
            detail = "no reference values: give what `measured-boot predict --output` wrote"
            raise FormatError(error.reason, detail) from error
        raise


def _attestation_key(arguments: argparse.Namespace) -> int:
    public_der = read_parsed(arguments.file, MAX_KEY_BYTES, _attestation_key_of)
    name = arguments.name or attestation_key_name(public_der)
    replaces = _store(arguments, "ak").add_attestation_key(name, public_der)
    print(f"registered attestation key {name}")
    _print_replaced_note(name, replaces=replaces)
    return 0


def _attestation_key_of(data: bytes) -> bytes:
    public_der = parse_public_key(data)
    parse_attestation_key(public_der)
    return public_der


def _root(arguments: argparse.Namespace) -> int:
    pem, platform = read_capped(arguments.file, MAX_ROOT_BYTES), Tee(arguments.platform)
    with naming(arguments.file):
        check_vendor_certificates(platform, parse_certificates(pem))
    name = arguments.name or f"root-{hashlib.sha256(pem).hexdigest()[:16]}"
    root = _store(arguments, "root").add_root(name, platform, pem)
    print(f"registered {len(root.certificates)} certificates for {root.platform} as {root.name}")
    return 0


def _requirements(arguments: argparse.Namespace) -> int:
    text, platform = read_capped(arguments.file, MAX_REQUIREMENTS_BYTES), Tee(arguments.platform)
    with naming(arguments.file):
        parse_requirements(text, platform)
    requirements = _store(arguments, "requirements").set_requirements(platform, text)
    print(f"registered requirements for {requirements.tee}")
    return 0


def _issuer(arguments: argparse.Namespace) -> int:
    terms = read_capped(arguments.file, MAX_ISSUER_BYTES)
    keys = read_capped(arguments.keys, MAX_KEY_SET_BYTES)
    with naming(arguments.file):
        parse_issuer(terms)
    with naming(arguments.keys):
        parse_key_set(keys)
    name = arguments.name or arguments.file.stem
    issuer = _store(arguments, "issuer").add_issuer(name, terms, keys)
    platforms = " and ".join(issuer.terms.platforms)
    print(f"registered issuer {issuer.name} for {platforms}: {len(issuer.keys)} keys")
    print("its keys are not fetched again: when it has new ones, register it anew")
    return 0


def _initdata(arguments: argparse.Namespace) -> int:
    document = read_capped(arguments.file, MAX_DOCUMENT_BYTES)
    with naming(arguments.file):
        if document.startswith(MAGIC):
            detail = "a disk image: register the document, --output of `initdata make`"
            raise FormatError("initdata.image", detail)
        parsed = parse_registrable_initdata(document)
    name = arguments.name or parsed.pod_name
    replaces = _store(arguments, "initdata").add_initdata(name, document)
    print(f"registered initdata {name}: {register_initdata(name, document).digest}")
    for reason, detail in find_refusals(parsed.pod, parsed.config):
        print(f"note: its guests would refuse it: {detail} [{reason}]")
    _print_replaced_note(name, replaces=replaces)
    return 0


def _print_replaced_note(name: str, *, replaces: bool) -> None:
    if replaces:
        print(f"note: {name} stood for another one, whose guests get nothing more by that name,")
        print("those that run included; while both have to count, each has a --name of its own")


def _resource(arguments: argparse.Namespace) -> int:
    uri: ResourceUri = arguments.uri
    kind = EnvelopeKind(arguments.kind) if arguments.kind else None
    if arguments.envelope and kind is None:
        detail = "--envelope needs --kind: it is part of the envelope"
        raise UsageError("resource.kind", detail)
    if arguments.create and not arguments.envelope:
        raise UsageError("resource.create", "--create is part of an envelope: add --envelope")
    if arguments.create and kind is not EnvelopeKind.VOLUME_KEY:
        raise UsageError("resource.create", "--create goes with --kind volume-key")
    body = data = _read_content(arguments.file)
    if arguments.envelope and kind is not None:
        body = encode_envelope(Envelope(uri=uri, kind=kind, data=data, create=arguments.create))
    with naming(arguments.file):
        check_content(uri, kind, data)
        check_body(uri, body)  # without --envelope it may have been put into one before
    replaced, told = _write_resource(arguments, "resource", uri, body, kind)
    print(f"registered {uri} ({len(data)} bytes{', in an envelope' if arguments.envelope else ''})")
    _print_notes(replaced, body, told)
    if arguments.create:
        print("note: once the volume is made, register its key again without --create: as long as")
        print("that stands, a host's blank disk is formatted and taken for the volume")
    return 0


def _read_content(file: Path) -> bytes:
    """Read a resource's content.

    Raises:
        FormatError: `resource.size`, there is nothing on standard input: whatever should have
            written it has failed, as a rule, and a good resource would be replaced by nothing.
        ConfigError: as `read_capped`.
    """
    if file != Path("-"):
        return read_capped(file, MAX_BODY_BYTES)
    data = sys.stdin.buffer.read(MAX_BODY_BYTES + 1)
    if not data:
        raise FormatError("resource.size", "standard input is empty; if that is meant, name a file")
    return data


def _write_resource(
    arguments: argparse.Namespace,
    command: str,
    uri: ResourceUri,
    body: bytes,
    kind: EnvelopeKind | None,
) -> tuple[bytes, tuple[str, ...]]:
    """Store a body, with a record of the command.

    Returns:
        The body that it replaces, b"" for none, and which guests would not take it.
    """
    store = _store(arguments, command)
    with naming(arguments.file):
        told = check_uses(store, uri, body, kind)
        return store.write_resource(uri, body, kind), told


def _print_notes(replaced: bytes, body: bytes, told: Iterable[str]) -> None:
    for why in told:
        print(f"note: not every guest would take it: {why}")
    if is_envelope(replaced) and not is_envelope(body):
        print("note: what it replaces was in an envelope: if the pod's kbs.envelope is")
        print('"required", its guests refuse this; register it again with --envelope')


def _image_policy(arguments: argparse.Namespace) -> int:
    uri: ResourceUri = arguments.uri
    data = read_capped(arguments.file, MAX_POLICY_BYTES)
    with naming(arguments.file):
        policy = parse_image_policy(data)
        check_keys(policy, {})
        keys = name_policy_keys((policy,), ())
    body = data
    if arguments.envelope:
        body = encode_envelope(Envelope(uri=uri, kind=EnvelopeKind.FILE, data=data))
    replaced, told = _write_resource(arguments, "image-policy", uri, body, EnvelopeKind.FILE)
    print(f"registered {uri}: {len(policy.scopes)} scopes")
    _print_notes(replaced, body, told)
    for resource in keys:
        print(f"it names {resource}: register the key there, too")
    return 0
