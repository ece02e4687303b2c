"""`guest-owner verify`: judge evidence as the KBS would, without a KBS and without a network.

There are two forms of input: the body of an RCAR `attest` request, which holds everything that the
evidence has to bind; or evidence alone, with the report data on the command line. The platform's
verifier (`guest_owner.kbs.verifiers`) makes the steps, and the table.
"""

import argparse
from functools import partial
from pathlib import Path

from ccinit.errors import ConfigError, FormatError
from ccinit.formats.encoding.strict_json import JsonValue, parse_json
from ccinit.formats.evidence.tee import Binding, Tee, initdata_binding
from ccinit.formats.kbs.rcar import MAX_ATTESTATION_BYTES, parse_attestation
from guest_owner.arguments import add_state
from guest_owner.files import naming, read_capped
from guest_owner.kbs.appraisal import AppraisedEvidence
from guest_owner.kbs.devices import Device
from guest_owner.kbs.policy import check_device
from guest_owner.kbs.references.values import References
from guest_owner.kbs.state.store import Store
from guest_owner.kbs.verifiers.table import VERIFIERS, verify_attestation
from guest_owner.registration_files import read_named_files
from guest_owner.verdict import print_verdict
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import as_word

_MAX_REPORT_DATA_BYTES = 64


def add_parser(subparsers: Subparsers) -> None:
    """Add `verify`."""
    summary = "Judge evidence offline and print every claim: expected, got, verdict."
    parser = add_command(subparsers, "verify", summary)
    parser.epilog = (
        "Trusted is what the options name or, without any of them, what --state has. "
        "Whether a nonce is fresh cannot be seen offline."
    )
    parser.add_argument(
        "evidence", type=Path, metavar="EVIDENCE", help="RCAR attest body, or evidence alone, JSON"
    )
    for option, meaning in (
        ("--reference", "reference values"),
        ("--ak", "attestation key of a TPM, PEM or DER"),
        ("--root", "certificates of the platform's vendor, PEM"),
        ("--requirements", "what is demanded of the platform, TOML"),
        ("--initdata", "initdata document"),
    ):
        parser.add_argument(
            option,
            action="append",
            type=Path,
            default=[],
            metavar="FILE",
            help=f"judge by this: {meaning}; may be repeated",
        )
    add_state(parser)
    parser.add_argument(
        "--platform",
        choices=[tee.value for tee in VERIFIERS],
        default=Tee.TPM.value,
        help="platform of the evidence (default: %(default)s)",
    )
    parser.add_argument(
        "--report-data",
        type=as_word(_parse_report_data),
        metavar="HEX",
        help="with evidence alone: the report data that it must carry",
    )
    parser.add_argument(
        "--device",
        action="append",
        type=as_word(check_device),
        default=[],
        metavar="NAME",
        help="attesting device to accept besides the platform (default: those that the policy "
        "names, if the state directory is trusted); may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    tee = Tee(arguments.platform)
    references = _trusted(arguments, tee)
    data = read_capped(arguments.evidence, MAX_ATTESTATION_BYTES)
    judge = partial(_appraise, tee, data, arguments, references)
    return print_verdict(tee, judge, as_json=arguments.json)


def _named(arguments: argparse.Namespace) -> dict[str, list[Path]]:
    return {
        "references": arguments.reference,
        "attestation_keys": arguments.ak,
        "roots": arguments.root,
        "requirements": arguments.requirements,
        "documents": arguments.initdata,
    }


def _devices(arguments: argparse.Namespace) -> frozenset[Device]:
    given = frozenset(arguments.device)
    if given or any(_named(arguments).values()):
        return given
    return Store(arguments.state).read_policy().devices


def _trusted(arguments: argparse.Namespace, tee: Tee) -> References:
    named = _named(arguments)
    if any(named.values()):
        return read_named_files(tee, **named)
    return Store(arguments.state).read_references()


def _appraise(
    tee: Tee, data: bytes, arguments: argparse.Namespace, references: References
) -> AppraisedEvidence:
    report_data: bytes | None = arguments.report_data
    with naming(arguments.evidence):
        value = parse_json(data, "verify", MAX_ATTESTATION_BYTES)
    if not isinstance(value, dict) or "tee-evidence" not in value:
        if report_data is None:
            raise ConfigError("verify.report_data", "evidence alone needs --report-data")
        with naming(arguments.evidence):
            return appraise_alone(tee, value, report_data, references)
    if report_data is not None:
        raise ConfigError("verify.report_data", "an attest body says itself what it binds")
    with naming(arguments.evidence):
        attestation = parse_attestation(data, tee)
    devices = _devices(arguments) if attestation.additional_evidence else frozenset()
    with naming(arguments.evidence):
        return verify_attestation(tee, attestation, references, devices)


def appraise_alone(
    tee: Tee, evidence: JsonValue, report_data: bytes, references: References
) -> AppraisedEvidence:
    """Judge evidence that came without the document it binds.

    Raises:
        EvidenceRefusedError, FormatError: as `guest_owner.kbs.appraisal.Verifier`.
    """
    # A single document is compared by its digest; among several, the verifier finds the bound one.
    # Where a platform binds no document, the owner's list says nothing about what the guest has.
    digest, place = None, initdata_binding(tee)
    if len(references.initdata) == 1 and place.binding is not Binding.NOTHING:
        digest = references.initdata[0].digest_by(place.algorithm)
    return VERIFIERS[tee](
        evidence, report_data=report_data, initdata_digest=digest, references=references
    )


def _parse_report_data(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError as error:
        raise FormatError("verify.report_data", "expected hex digits") from error
    if not 0 < len(data) <= _MAX_REPORT_DATA_BYTES:
        detail = f"expected 1 to {_MAX_REPORT_DATA_BYTES} bytes, found {len(data)}"
        raise FormatError("verify.report_data", detail)
    return data
