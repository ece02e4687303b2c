"""`guest-owner launch-secret`: what the owner injects into a launch under SEV or SEV-ES.

Makes the entries (`ccinit.formats.kbs.launch_secret`): a statement that names the document, and the
registered resources that its pod asks for. Judging the launch's measurement, and encrypting the
entries for that one launch, is left to the tools that hold the launch's keys.
"""

import argparse
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from ccinit.errors import ConfigError, FormatError, LimitExceededError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.initdata.document import MAX_DOCUMENT_BYTES, parse_initdata
from ccinit.formats.initdata.guest_config import EnvelopePolicy, GuestConfig
from ccinit.formats.initdata.guest_files import parse_guest_files
from ccinit.formats.kbs.envelope import EnvelopeKind, parse_envelope, verify_envelope
from ccinit.formats.kbs.launch_secret import (
    MAX_ENTRIES,
    MAX_ENTRY_BYTES,
    STATEMENT,
    LaunchStatement,
    encode_launch_statement,
)
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri
from ccinit.formats.pod.manifest import PodManifest
from ccinit.formats.pod.resources import name_counters, name_policies, name_resources
from ccinit.formats.signature.image_policy import name_policy_keys, parse_named_policy
from guest_owner.arguments import add_state
from guest_owner.files import naming, new_directory, read_capped, write_atomically
from guest_owner.kbs.references.initdata import parse_registrable_initdata
from guest_owner.kbs.state.store import Store
from guest_owner.resources.contents import check_content
from guest_owner.resources.pod_contents import find_unfit_contents
from guest_owner.resources.policy_keys import check_keys
from measured_boot.command_line.subcommands import Subparsers, add_command

OVMF_AREA_BYTES = 0xC00  # PcdSevLaunchSecretSize of OVMF's AmdSev
_TABLE_HEAD_BYTES, _ENTRY_HEAD_BYTES = 20, 20


def add_parser(subparsers: Subparsers) -> None:
    """Add `launch-secret`."""
    summary = "Make the secrets of a launch under SEV or SEV-ES, one file for each GUID."
    parser = add_command(subparsers, "launch-secret", summary)
    parser.epilog = (
        "Inject them only into a launch whose measurement you have judged: "
        "virt-qemu-sev-validate … --inject-secret GUID:DIRECTORY/GUID"
    )
    add_state(parser)
    parser.add_argument(
        "document", type=Path, metavar="DOCUMENT", help="initdata that the launch is for"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="must not exist")
    parser.set_defaults(func=_make)


def plan_resources(config: GuestConfig, pod: PodManifest) -> Mapping[ResourceUri, EnvelopeKind]:
    """Return what a pod asks for, except for what its image policies name.

    Raises:
        ConfigError: `launch_secret.plugin`, only a KBS can make it; `attest.launch_only`, as a
            guest: only a KBS can keep a rollback counter.
    """
    for counter in name_counters(pod):
        raise ConfigError("attest.launch_only", f"{counter}: a launch has no rollback counter")
    wanted = name_resources(pod, with_identity=config.owner is not None)
    planned = {}
    for uri, kind in wanted.items():
        if not isinstance(uri, ResourceUri):
            raise ConfigError("launch_secret.plugin", f"{uri}: only a KBS's plugin can make it")
        planned[uri] = kind
    return planned


def make_entries(document: bytes, store: Store, date: int) -> Mapping[str, bytes]:
    """Return the entries of a launch for a document, by GUID.

    Raises:
        ConfigError: `launch_secret.envelope`, the document requires no envelopes; as
            `plan_resources`.
        VerificationError: `resource.absent`; `envelope.…`, registered without `--envelope`, or as
            another kind.
        FormatError: `initdata.…`, `launch_secret.…`, `policy.…`; as `check_content`.
        LimitExceededError: `launch_secret.size`, a guest reads no such entry; as `check_content`.
    """
    parsed = parse_initdata(document)
    if parsed.algorithm != "sha256":
        raise FormatError("initdata.algorithm", f"{parsed.algorithm}; a launch names a sha256")
    config, pod = parse_guest_files(parsed)
    if config.kbs.envelope is not EnvelopePolicy.REQUIRED:
        raise ConfigError("launch_secret.envelope", 'the document says kbs.envelope = "none"')
    wanted = plan_resources(config, pod)
    bodies = {uri: _read_entry(store, uri, kind) for uri, kind in wanted.items()}
    policies = [
        parse_named_policy(uri, parse_envelope(bodies[uri]).data) for uri in name_policies(pod)
    ]
    for uri in name_policy_keys(policies, wanted.items()):
        if uri not in bodies:
            bodies[uri] = _read_entry(store, uri, EnvelopeKind.FILE)
    contents: dict[KbsUri, bytes] = {uri: parse_envelope(body).data for uri, body in bodies.items()}
    for policy in policies:
        check_keys(policy, contents)
    for unfit, why in find_unfit_contents(pod, contents):
        raise FormatError("launch_secret.unfit", f"{unfit}: {why}")
    if len(bodies) >= MAX_ENTRIES:
        detail = f"expected at most {MAX_ENTRIES - 1} resources, found {len(bodies)}"
        raise FormatError("launch_secret.entries", detail)
    statement = LaunchStatement(initdata=sha256_digest(document), date=date)
    named_by = {str(uuid.uuid5(uuid.UUID(STATEMENT), str(uri))): uri for uri in bodies}
    return {
        STATEMENT: encode_launch_statement(statement),
        **{guid: bodies[uri] for guid, uri in named_by.items()},
    }


def _read_entry(store: Store, uri: ResourceUri, kind: EnvelopeKind) -> bytes:
    """Return the body of a resource that is fit for its use."""
    body = store.read_resource(uri)
    data = verify_envelope(body, uri, kind).data
    try:
        check_content(uri, kind, data)
    except FormatError as error:
        raise type(error)(error.reason, f"{uri}: {error.detail}") from error
    if len(body) > MAX_ENTRY_BYTES:
        size = f"expected at most {MAX_ENTRY_BYTES} bytes in its envelope, found {len(body)}"
        raise LimitExceededError("launch_secret.size", f"{uri}: {size}")
    return body


def _make(arguments: argparse.Namespace) -> int:
    document = read_capped(arguments.document, MAX_DOCUMENT_BYTES)
    with naming(arguments.document):
        parse_registrable_initdata(document)
    entries = make_entries(document, Store(arguments.state), int(time.time()))
    with new_directory(arguments.output) as folder:
        for guid, data in entries.items():
            write_atomically(folder / guid, data)
    for guid, data in entries.items():
        print(f"{guid}  {len(data)} bytes")
    size = _TABLE_HEAD_BYTES + sum(_ENTRY_HEAD_BYTES + len(data) for data in entries.values())
    print(f"{size} bytes as a table")
    if size > OVMF_AREA_BYTES:
        print(f"note: OVMF's own area has {OVMF_AREA_BYTES} bytes; this needs another firmware")
    return 0
