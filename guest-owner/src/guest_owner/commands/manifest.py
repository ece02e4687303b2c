"""`guest-owner manifest`: begin a pod.toml, see what a guest would refuse in it, and its digests.

The manifest is read with the guest's own parser. `check` also finds what the guest would refuse
only later, when it pulls or starts: nobody should have to boot a guest to find out.
"""

import argparse
import json
from pathlib import Path

from ccinit.errors import FormatError
from ccinit.formats.initdata.document import document_digest
from ccinit.formats.initdata.guest_config import parse_guest_config
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.formats.pod.manifest import parse_pod_manifest
from guest_owner.arguments import add_group, as_name
from guest_owner.commands.initdata import (
    add_coco_files,
    make_document_of,
    read_coco_files,
    read_text,
)
from guest_owner.files import PUBLIC_MODE, naming, write_atomically
from guest_owner.kubernetes.pod import convert_pod
from guest_owner.manifest.notes import list_notes
from guest_owner.manifest.refusals import find_refusals
from guest_owner.table import format_table
from measured_boot.command_line.argument_types import whole_number
from measured_boot.command_line.files import require_apart
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import UsageError, judging_words

ALGORITHMS = ("sha256", "sha384")
_MIB = 1 << 20
_MAX_SCRATCH_MIB = 1 << 20


def add_parser(subparsers: Subparsers) -> None:
    """Add `manifest init`, `manifest check` and `manifest digest`."""
    commands = add_group(subparsers, "manifest", "Begin, check and identify a pod.toml.")
    summary = "Begin a pod.toml with a container of an image, or from a Kubernetes Pod."
    init = add_command(commands, "init", summary)
    source = init.add_mutually_exclusive_group(required=True)
    source.add_argument("--image", metavar="IMAGE", help="HOST/REPOSITORY@sha256:…")
    source.add_argument("--kubernetes", type=Path, metavar="FILE", help="a Pod in YAML")
    init.add_argument(
        "--name",
        type=as_name("pod.name"),
        help="with --image: name of the pod and its container (default: pod)",
    )
    init.add_argument(
        "--ca", type=Path, required=True, metavar="FILE", help="roots of the registry, PEM"
    )
    init.add_argument(
        "--scratch-mib",
        type=whole_number(0, _MAX_SCRATCH_MIB),
        default=1024,
        metavar="N",
        help="size of the scratch disk (default: 1024); 0: no disk, the pod runs from memory",
    )
    init.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="pod.toml to write; an existing one is replaced",
    )
    init.set_defaults(func=_init)

    summary = "Say what in a pod.toml a guest would refuse, at its start or later."
    check = add_command(commands, "check", summary)
    _add_files(check, config_required=False)
    check.set_defaults(func=_check)

    summary = "Print the digests of the initdata document that would be made."
    digest = add_command(commands, "digest", summary)
    _add_files(digest, config_required=True)
    digest.set_defaults(func=_digest)


def _add_files(parser: argparse.ArgumentParser, *, config_required: bool) -> None:
    parser.add_argument("pod", type=Path, metavar="POD", help="pod.toml")
    parser.add_argument(
        "--config", type=Path, required=config_required, metavar="FILE", help="its ccinit.toml"
    )
    add_coco_files(parser)


def make_manifest(name: str, image: str, ca_pem: str, scratch_bytes: int) -> str:
    """Return the text of a pod.toml that the guest accepts.

    Raises:
        FormatError: below `pod`, or of the reference.
    """
    scratch = (
        "[[volume]]",
        'name = "scratch"',
        'kind = "scratch"',
        f"size_bytes = {scratch_bytes}",
    )
    text = "\n".join(
        (
            "version = 1",
            f"name = {json.dumps(name)}",
            "",
            "[[image]]",
            f"name = {json.dumps(name)}",
            f"reference = {json.dumps(image)}",
            f"ca = '''\n{ca_pem.rstrip()}\n'''",
            "",
            "[[container]]",
            f"name = {json.dumps(name)}",
            f"image = {json.dumps(name)}",
            'restart = "on-failure"',
            "",
            *((*scratch, "") if scratch_bytes else ()),
        )
    )
    parse_pod_manifest(text)
    return text


def _init(arguments: argparse.Namespace) -> int:
    if arguments.kubernetes is not None and arguments.name is not None:
        raise UsageError("manifest.name", "--name goes with --image: a Pod has a name of its own")
    if arguments.image is not None:
        with judging_words():
            parse_image_reference(arguments.image)
    require_apart([arguments.output], (arguments.kubernetes, arguments.ca))
    ca_pem, scratch_bytes = read_text(arguments.ca), arguments.scratch_mib * _MIB
    if arguments.kubernetes is None:
        text = make_manifest(arguments.name or "pod", arguments.image, ca_pem, scratch_bytes)
    else:
        pod = read_text(arguments.kubernetes)
        with naming(arguments.kubernetes):
            text = convert_pod(pod, ca_pem, scratch_bytes)
    for reason, detail in find_refusals(parse_pod_manifest(text), None):
        raise FormatError(reason, detail)
    write_atomically(arguments.output, text.encode(), mode=PUBLIC_MODE)
    print(f"wrote {arguments.output}")
    print(f"next: guest-owner manifest check {arguments.output}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    _, coco = read_coco_files(arguments)
    text, config = read_text(arguments.pod), None
    with naming(arguments.pod):
        pod = parse_pod_manifest(text, coco.images)
    if arguments.config is not None:
        text = read_text(arguments.config)
        with naming(arguments.config):
            config = parse_guest_config(text, coco.kbs)
    findings = list(find_refusals(pod, config))
    if findings:
        print(format_table(("refused", "because"), findings))
        return 1
    print(f"{arguments.pod}: the guest would accept it")
    for note in list_notes(pod, config):
        print(note)
    return 0


def _digest(arguments: argparse.Namespace) -> int:
    documents = ((name, make_document_of(arguments, name)) for name in ALGORITHMS)
    rows = [(name, document_digest(document, name).hex()) for name, document in documents]
    print(format_table(("algorithm", "digest"), rows))
    return 0
