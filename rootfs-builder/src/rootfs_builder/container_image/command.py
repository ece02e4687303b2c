"""`rootfs-builder container-image …`: build, encrypt, sign and push images for pods.

An image is at `oci:DIRECTORY` or `docker://HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`. Each command
prints the reference, or for a layout the digest, of what it made.
"""

import argparse
import os
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.oci.docker_reference import parse_name_prefix
from measured_boot.command_line.subcommands import Subparsers, add_command, add_commands
from measured_boot.command_line.usage import UsageError, judging_words
from rootfs_builder.container_image.build import (
    COMPRESSIONS,
    build_from_directory,
    build_from_packages,
)
from rootfs_builder.container_image.demo_image import build_demo_image
from rootfs_builder.container_image.encryption import encrypt_image
from rootfs_builder.container_image.kbs_admin import KbsAdmin, open_admin, require_origin
from rootfs_builder.container_image.layer_encryption import KbsRecipient, Recipient, load_recipient
from rootfs_builder.container_image.location import (
    Registries,
    is_registry,
    read_digest,
    read_image,
    repository_of,
    require_target,
    write_image_to,
)
from rootfs_builder.container_image.owner_files import (
    open_key,
    register_keys,
    write_policy,
    write_snippet,
)
from rootfs_builder.container_image.signature import (
    load_signing_key,
    sign_image,
    signature_policy,
    signature_tag,
)
from rootfs_builder.made_folder import made_folder
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import ToolsTree

_JWE = "jwe:"
_LOCATION = "oci:DIRECTORY or docker://HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]"


def add_parser(subparsers: Subparsers) -> None:
    """Add the `container-image` commands."""
    parser = add_command(
        subparsers, "container-image", "Build, encrypt, sign and push images of containers."
    )
    commands = add_commands(parser)
    _add_demo(commands)
    _add_build(commands)
    _add_encrypt(commands)
    _add_sign(commands)
    _add_push(commands)


def _add_demo(commands: Subparsers) -> None:
    parser = add_command(commands, "demo", "Make the demo's image from Debian packages.")
    _add_layout(parser)
    parser.set_defaults(func=run_demo)


def _add_build(commands: Subparsers) -> None:
    parser = add_command(
        commands, "build", "Make an image of Debian packages, of a directory, or of both."
    )
    _add_layout(parser)
    add = parser.add_argument
    add(
        "--directory",
        type=Path,
        metavar="FOLDER",
        help="what the root holds, owned by root; with --package a layer above them",
    )
    add(
        "--package",
        action="append",
        metavar="NAME",
        help="Debian package, with all it depends on; may be repeated",
    )
    add("--entrypoint", action="append", metavar="WORD", help="one word; may be repeated")
    add("--env", action="append", metavar="NAME=VALUE", help="variable; may be repeated")
    add("--user", default="", help="uid[:gid] or a name of the image")
    add("--cwd", default="", metavar="PATH", help="working directory")
    add("--compression", choices=COMPRESSIONS, default="zstd", help="of layers (default: zstd)")
    parser.set_defaults(func=run_build)


def _add_layout(parser: argparse.ArgumentParser) -> None:
    """Add where an image that is built goes, and what builds it."""
    parser.add_argument(
        "layout", type=Path, metavar="LAYOUT", help="OCI layout directory to write; must not exist"
    )
    _add_tools(parser)
    parser.add_argument(
        "--packages",
        type=Path,
        default=Path("build/cache/container"),
        metavar="FOLDER",
        help="package cache (default: %(default)s)",
    )


def _add_encrypt(commands: Subparsers) -> None:
    parser = add_command(
        commands, "encrypt", "Encrypt every layer of an image, and write the keys."
    )
    _add_locations(parser)
    parser.add_argument(
        "--recipient",
        action="append",
        required=True,
        metavar="RECIPIENT",
        help="who can open it: jwe:PUBLIC.pem, the private key; or kbs:///REPOSITORY/TYPE/TAG, "
        "guests that get this resource; may be repeated",
    )
    parser.add_argument(
        "--private-key",
        action="append",
        default=[],
        metavar="URI",
        help="resource that will hold a private key of a jwe recipient, for pod.toml; "
        "may be repeated",
    )
    parser.add_argument("--name", default="image", help="the image's name in pod.toml")
    _add_output(parser)
    kbs = parser.add_argument_group("put the keys into a KBS, too")
    kbs.add_argument("--kbs", metavar="URL", help="https://host[:port]")
    kbs.add_argument("--kbs-ca", type=Path, metavar="FILE", help="PEM file of its authority")
    kbs.add_argument("--kbs-admin-key", type=Path, metavar="FILE", help="Ed25519 private key, PEM")
    kbs.add_argument(
        "--no-envelope",
        action="store_true",
        help='send the bare key, for kbs.envelope = "none" in ccinit.toml',
    )
    parser.set_defaults(func=run_encrypt)


def _add_sign(commands: Subparsers) -> None:
    parser = add_command(commands, "sign", "Sign an image as cosign does, and write the policy.")
    parser.add_argument("source", metavar="SOURCE", help=_LOCATION)
    parser.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="private key on P-256, PEM"
    )
    parser.add_argument(
        "--identity",
        metavar="HOST[:PORT]/REPOSITORY",
        help="what the image is called (default: where it is)",
    )
    parser.add_argument(
        "--signature",
        metavar="TARGET",
        help="where to put the signature (default: beside the image, as cosign)",
    )
    _add_registry(parser)
    _add_output(parser)
    parser.set_defaults(func=run_sign)


def _add_push(commands: Subparsers) -> None:
    parser = add_command(commands, "push", "Copy an image byte for byte.")
    _add_locations(parser)
    parser.set_defaults(func=run_push)


def _add_locations(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=_LOCATION)
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="in the same forms as the source; a directory must not exist yet",
    )
    _add_registry(parser)


def _add_registry(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--ca", type=Path, metavar="FILE", help="the registry's authority, PEM")
    add("--auth-file", type=Path, metavar="FILE",
        help="what `podman login --authfile` writes (containers-auth.json)")  # fmt: skip
    add(
        "--credential",
        default="",
        metavar="USER:PASSWORD",
        help="to log in; shown by every list of processes: better --auth-file",
    )
    _add_tools(parser)


def _add_tools(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tools",
        type=Path,
        default=Path(os.environ.get("CCINIT_TOOLS") or "build/tools"),
        metavar="FOLDER",
        help="the tools tree (default: CCINIT_TOOLS, or build/tools)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder for keys, policy and image.toml; an existing key is used, other files are"
        " replaced",
    )


def run_demo(arguments: argparse.Namespace) -> int:
    """Make the demo's image; prints its digest."""
    image = build_demo_image(
        ToolsTree(arguments.tools),
        arguments.packages.resolve(),
        arguments.layout.resolve(),
        Progress(name="container-image"),
    )
    print(image.digest)
    return 0


def run_build(arguments: argparse.Namespace) -> int:
    """Make an image; prints its digest."""
    for variable in arguments.env or ():
        if variable.find("=") < 1:
            raise UsageError("build.env", f"{variable!r} is not NAME=VALUE")
    lists = (arguments.entrypoint or (), arguments.env or ())
    for word in (*chain.from_iterable(lists), arguments.user, arguments.cwd):
        _require_unicode(word)
    tools, layout = ToolsTree(arguments.tools), arguments.layout.resolve()
    settings = {
        "Entrypoint": arguments.entrypoint,
        "Env": arguments.env,
        "User": arguments.user,
        "WorkingDir": arguments.cwd,
    }
    config = {name: value for name, value in settings.items() if value}
    directory = None if arguments.directory is None else arguments.directory.resolve()
    if arguments.package:
        cache = arguments.packages.resolve()
        image = build_from_packages(
            tools,
            arguments.package,
            cache,
            config,
            layout,
            arguments.compression,
            above=directory,
        )
    elif directory is not None:
        image = build_from_directory(tools, directory, config, layout, arguments.compression)
    else:
        raise UsageError("build.content", "an image is of --package, of --directory, or of both")
    print(image.digest)
    return 0


def _require_unicode(word: str) -> None:
    """Refuse text that the image's config, as JSON, cannot hold: guests would refuse the image."""
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise UsageError("build.text", f"{word!r} is not UTF-8") from error


def run_encrypt(arguments: argparse.Namespace) -> int:
    """Encrypt an image, keep its keys, register them if asked to; prints the new reference.

    The KBS comes before the target, so that no image is pushed whose key was refused.
    """
    with judging_words():
        private = [parse_resource_uri(uri, "encrypt.private_key") for uri in arguments.private_key]
        for text in arguments.recipient:
            if not text.startswith(_JWE):
                parse_resource_uri(text, "encrypt.recipient")
    _require_locations(arguments, arguments.source, arguments.target)
    if private and not is_registry(arguments.target):
        detail = "--private-key is for image.toml, which tells of an image in a registry"
        raise UsageError("encrypt.private_key", detail)
    _require_kbs_options(arguments)
    require_target(arguments.target)
    admin = _open_kbs(arguments)
    with TemporaryDirectory() as folder, made_folder(arguments.output):
        work, registries = Path(folder), _registries(arguments)
        # Before a key is made for an image that does not exist.
        source = read_image(arguments.source, registries, work)
        recipients = [_recipient(text, arguments.output) for text in arguments.recipient]
        keys = [one for one in recipients if isinstance(one, KbsRecipient)]
        if admin is not None:
            register_keys(admin, keys, envelope=not arguments.no_envelope)
        image = encrypt_image(source, recipients, work / "encrypted")
        made = write_image_to(image, arguments.target, registries)
    if is_registry(arguments.target):
        write_snippet(arguments.output, arguments.name, made, private, ca=arguments.ca)
    print(made)
    return 0


def run_sign(arguments: argparse.Namespace) -> int:
    """Sign an image and write the policy that demands it; prints where the signature is."""
    locations = (arguments.source, arguments.signature)
    _require_locations(arguments, *(place for place in locations if place is not None))
    if not is_registry(arguments.source) and None in (arguments.identity, arguments.signature):
        raise UsageError("sign.identity", "a layout needs --identity and --signature")
    with judging_words():
        repository = _repository(arguments)
    key = load_signing_key(arguments.key)
    if arguments.signature is not None:
        require_target(arguments.signature)
    with TemporaryDirectory() as folder, made_folder(arguments.output):
        work, registries = Path(folder), _registries(arguments)
        digest = read_digest(arguments.source, registries)
        signature = sign_image(digest, repository, key, work / "signature")
        beside = f"docker://{repository_of(arguments.source)}:{signature_tag(digest)}"
        made = write_image_to(signature, arguments.signature or beside, registries)
    write_policy(arguments.output, signature_policy(repository, key.public_key()))
    print(made)
    return 0


def run_push(arguments: argparse.Namespace) -> int:
    """Copy an image; prints its reference."""
    _require_locations(arguments, arguments.source, arguments.target)
    require_target(arguments.target)
    with TemporaryDirectory() as folder:
        registries = _registries(arguments)
        image = read_image(arguments.source, registries, Path(folder), "--preserve-digests")
        print(write_image_to(image, arguments.target, registries))
    return 0


def _repository(arguments: argparse.Namespace) -> str:
    """Return the name that the signature gives the image, and that a policy will ask for."""
    given: str | None = arguments.identity
    if given is None:
        return repository_of(arguments.source)
    if "/" not in given:
        raise UsageError("sign.identity", f"expected host[:port]/repository, found {given!r}")
    return parse_name_prefix(given, "sign.identity")


def _open_kbs(arguments: argparse.Namespace) -> KbsAdmin | None:
    """Return the KBS administrator that registers the keys, if asked to."""
    if arguments.kbs is None:
        return None
    return open_admin(arguments.kbs, arguments.kbs_ca, arguments.kbs_admin_key)


def _require_kbs_options(arguments: argparse.Namespace) -> None:
    files = (arguments.kbs_ca, arguments.kbs_admin_key)
    if arguments.kbs is None:
        if arguments.no_envelope or files != (None, None):
            detail = "--kbs-ca, --kbs-admin-key and --no-envelope go with --kbs"
            raise UsageError("kbs.options", detail)
        return
    if None in files:
        raise UsageError("kbs.options", "--kbs needs --kbs-ca and --kbs-admin-key")
    with judging_words():
        require_origin(arguments.kbs)


def _require_locations(arguments: argparse.Namespace, *locations: str) -> None:
    """Refuse a place that is none, and two ways to log in; before anything is read or made."""
    with judging_words():
        is_remote = True in [is_registry(location) for location in locations]
    if arguments.credential and arguments.auth_file is not None:
        raise UsageError("image.credential", "--credential and --auth-file: give one of them")
    of_registries = (arguments.ca, arguments.credential or None, arguments.auth_file)
    if not is_remote and of_registries != (None, None, None):
        detail = "--ca, --credential and --auth-file go with an image in a registry"
        raise UsageError("image.registry", detail)


def _recipient(text: str, output: Path) -> Recipient:
    if text.startswith(_JWE):
        return load_recipient(Path(text.removeprefix(_JWE)))
    return open_key(output, parse_resource_uri(text, "encrypt.recipient"))


def _registries(arguments: argparse.Namespace) -> Registries:
    return Registries(
        tools=ToolsTree(arguments.tools),
        ca=arguments.ca,
        credential=arguments.credential,
        auth_file=arguments.auth_file,
    )
