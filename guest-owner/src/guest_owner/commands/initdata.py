"""`guest-owner initdata`: the measured document that says what a guest is to do.

Document and device image are Confidential Containers' initdata
(`ccinit.formats.initdata.document`). What is made here is checked with the guest's own parsers, and
as `manifest check` does, so that a mistake shows now instead of stopping a guest later.
"""

import argparse
import hashlib
from pathlib import Path

from ccinit.errors import FormatError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.encoding.strict_toml import parse_toml
from ccinit.formats.evidence.tee import Tee, initdata_binding
from ccinit.formats.initdata.coco_config import CocoSettings, parse_coco_settings
from ccinit.formats.initdata.document import (
    DISK_ALIGNMENT_BYTES,
    HEADER_BYTES,
    MAGIC,
    MAX_COMPRESSED_BYTES,
    MAX_DOCUMENT_BYTES,
    Initdata,
    decompress_document,
    document_digest,
    encode_device_image,
    parse_header,
    parse_initdata,
)
from ccinit.formats.initdata.guest_config import GuestConfig, parse_guest_config
from ccinit.formats.initdata.guest_files import parse_guest_files
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from ccinit.formats.pod.resources import name_counters, name_resources
from guest_owner.arguments import add_group
from guest_owner.files import PUBLIC_MODE, naming, read_capped, write_all_atomically
from guest_owner.kbs.references.measurements.image import ZERO_PCR
from guest_owner.kbs.verifiers.table import VERIFIERS
from guest_owner.manifest.refusals import find_refusals
from guest_owner.table import format_table
from guest_owner.toml_text import quote
from measured_boot.command_line.files import require_apart
from measured_boot.command_line.subcommands import Subparsers, add_command

_MAX_IMAGE_BYTES = HEADER_BYTES + MAX_COMPRESSED_BYTES + DISK_ALIGNMENT_BYTES
CocoTexts = tuple[str | None, str | None]
"""Texts of `aa.toml` and `cdh.toml`; None if there is no such file."""


def add_parser(subparsers: Subparsers) -> None:
    """Add `initdata make` and `initdata show`."""
    commands = add_group(subparsers, "initdata", "Make and inspect the measured initdata document.")
    make = add_command(commands, "make", "Join ccinit.toml and pod.toml into an initdata document.")
    make.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="FILE",
        help="ccinit.toml: KBS, log key, limits",
    )
    make.add_argument(
        "--pod",
        type=Path,
        required=True,
        metavar="FILE",
        help="pod.toml: images, containers, volumes",
    )
    add_coco_files(make)
    make.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="document to write and register; an existing file is replaced",
    )
    make.add_argument(
        "--disk-image",
        type=Path,
        metavar="FILE",
        help="also write its block device image; an existing file is replaced",
    )
    make.add_argument(
        "--platform",
        default=Tee.TPM.value,
        choices=[tee.value for tee in VERIFIERS],
        help="what the pod will run on; it decides the document's algorithm (default: tpm)",
    )
    make.set_defaults(func=_make)

    summary = "Check a document or device image and print what it binds."
    show = add_command(commands, "show", summary)
    show.add_argument("file", type=Path, metavar="FILE", help="document or device image")
    show.set_defaults(func=_show)


def add_coco_files(parser: argparse.ArgumentParser) -> None:
    """Add the options for the files that a document may have beside the guest's own two."""
    for name, what in (("aa", "KBS"), ("cdh", "KBS, settings of images")):
        parser.add_argument(
            f"--{name}", type=Path, metavar="FILE", help=f"{name}.toml of CoCo's: {what}"
        )


def read_coco_files(arguments: argparse.Namespace) -> tuple[CocoTexts, CocoSettings]:
    """Return the texts of `aa.toml` and `cdh.toml`, and what they say.

    Raises:
        ConfigError: as `parse_coco_settings`, with the name of the file; as `read_text`.
    """
    aa = None if arguments.aa is None else read_text(arguments.aa)
    cdh = None if arguments.cdh is None else read_text(arguments.cdh)
    with naming(arguments.aa):
        parse_coco_settings(aa, None)
    with naming(arguments.cdh):  # `aa.toml` was read without an error
        return (aa, cdh), parse_coco_settings(aa, cdh)


def make_document(
    config_toml: str,
    pod_toml: str,
    algorithm: str = "sha256",
    coco: CocoTexts = (None, None),
) -> bytes:
    """Return the document for texts that the guest accepts.

    Args:
        config_toml: text of `ccinit.toml`.
        pod_toml: text of `pod.toml`.
        algorithm: by which the platform will hold the document: `sha256`; `sha384` on TDX.
        coco: texts of `aa.toml` and `cdh.toml`; None is a file that the document is to lack.

    Raises:
        FormatError: below `initdata`, or as `parse_guest_files`.
    """
    aa_toml, cdh_toml = coco
    told = Initdata(
        algorithm=algorithm,
        config_toml=config_toml,
        pod_toml=pod_toml,
        aa_toml=aa_toml,
        cdh_toml=cdh_toml,
    )
    parse_guest_files(told)
    files = {
        "ccinit.toml": config_toml,
        "pod.toml": pod_toml,
        "aa.toml": aa_toml,
        "cdh.toml": cdh_toml,
    }
    parts = [
        'version = "0.1.0"',
        f'algorithm = "{algorithm}"',
        "",
        "[data]",
        *(f'"{name}" = {_toml_string(text)}' for name, text in files.items() if text is not None),
        "",
    ]
    document = "\n".join(parts).encode()
    if parse_initdata(document) != told:
        raise FormatError("initdata.encoding", "a text does not survive TOML; use LF line ends")
    if len(document) > MAX_DOCUMENT_BYTES:
        raise FormatError("initdata.size", f"the document exceeds {MAX_DOCUMENT_BYTES} bytes")
    return document


def _toml_string(text: str) -> str:
    """Quote a text, unescaped if a TOML literal can hold it, so that people can read it."""
    literal = f"'''\n{text}'''"
    try:
        if parse_toml(f"x = {literal}".encode(), "initdata.encoding")["x"] == text:
            return literal
    except FormatError:
        pass  # quotes in the text end the literal early
    return quote(text)


def make_document_of(arguments: argparse.Namespace, algorithm: str) -> bytes:
    """Return the document for the files that `arguments` names; see `make_document`.

    Raises:
        ConfigError: with the same reasons and the name of the file; as `read_capped`.
    """
    config, pod = read_text(arguments.config), read_text(arguments.pod)
    files, coco = read_coco_files(arguments)
    with naming(arguments.config):
        parse_guest_config(config, coco.kbs)
    with naming(arguments.pod):
        parse_pod_manifest(pod, coco.images)
    return make_document(config, pod, algorithm, files)


def _make(arguments: argparse.Namespace) -> int:
    read = (arguments.config, arguments.pod, arguments.aa, arguments.cdh)
    require_apart((arguments.output, arguments.disk_image), read)
    algorithm = initdata_binding(Tee(arguments.platform)).algorithm
    document = make_document_of(arguments, algorithm)
    config, pod = parse_guest_files(parse_initdata(document))
    for reason, detail in find_refusals(pod, config):
        raise FormatError(reason, detail)
    files = {arguments.output: document}
    if arguments.disk_image is not None:
        files[arguments.disk_image] = encode_device_image(document)
    write_all_atomically(files, mode=PUBLIC_MODE)
    print(f"wrote {arguments.output}: {sha256_digest(document)}")
    if arguments.disk_image is not None:
        print(f"wrote {arguments.disk_image}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    data = read_capped(arguments.file, _MAX_IMAGE_BYTES)
    with naming(arguments.file):
        if data.startswith(MAGIC):
            length = parse_header(data[:HEADER_BYTES])
            data = decompress_document(data[HEADER_BYTES : HEADER_BYTES + length])
        parsed = parse_initdata(data)
        config, pod = parse_guest_files(parsed)
    passport = config.kbs.passport
    digest = sha256_digest(data)
    rows = [
        ("digest", str(digest)),
        ("algorithm", parsed.algorithm),
        _register(parsed.algorithm, data),
        ("kbs", config.kbs.url),
        ("envelope", config.kbs.envelope.value),
        ("tee key", config.kbs.tee_key_algorithm.value),
        ("appraised by", "the KBS" if passport is None else f"{passport.service} {passport.url}"),
        ("debug allowed", "yes" if config.debug.allowed else "no"),
        ("debug tools", _tools_root(config)),
        ("pod", pod.name),
        *(("image", f"{image.name} {image.reference}") for image in pod.images),
        *(("container", f"{one.name} ({one.kind})") for one in pod.containers),
        *(("volume", f"{one.name} ({one.kind}) {one.size_bytes} bytes") for one in pod.volumes),
        *(("resource", uri) for uri in _resources(config, pod)),
    ]
    print(format_table(("part", "value"), rows))
    return 0


def _register(algorithm: str, document: bytes) -> tuple[str, str]:
    """Return the register that binds a document of this algorithm, and its value.

    A guest accepts only its platform's algorithm, so a value by any other would mean nothing.
    """
    bound = document_digest(document, algorithm)
    if algorithm == "sha384":
        return "mrconfigid", bound.hex()
    return "pcr 8", hashlib.sha256(ZERO_PCR + bound).hexdigest()


def _tools_root(config: GuestConfig) -> str:
    return "none" if config.debug.tools is None else config.debug.tools.root_hash.hex()


def _resources(config: GuestConfig, pod: PodManifest) -> list[str]:
    """Return the URIs that this pod asks its KBS for."""
    resources = name_resources(pod, with_identity=config.owner is not None)
    return sorted(map(str, (*resources, *name_counters(pod))))


def read_text(path: Path) -> str:
    """Read a part of a document.

    Raises:
        FormatError: `initdata.encoding`.
        ConfigError, LimitExceededError: as `read_capped`.
    """
    try:
        return read_capped(path, MAX_DOCUMENT_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(
            "initdata.encoding", f"{path}: not UTF-8 at byte {error.start + 1}"
        ) from error
