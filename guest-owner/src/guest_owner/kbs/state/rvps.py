"""Registrations in the form of Trustee's Reference Value Provider Service.

The message is that of its `sample` extractor, `{"version": "0.1.0", "type": "sample", "payload":
base64 of a JSON object}`, in which each name has one value or an array of them. Three names mean
something here; the value of each is what a command of `guest-owner register` takes:

    ccinit_reference         reference value file: an object, or its text
    ccinit_attestation_key   SubjectPublicKeyInfo in standard base64
    ccinit_initdata          an initdata document's text

Any other name is refused: a value that nothing is compared with would look like protection.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import (
    JsonValue,
    decode_base64,
    members,
    parse_json,
    text_member,
)
from ccinit.formats.initdata.document import MAX_DOCUMENT_BYTES
from guest_owner.kbs.references.initdata import RegistrableInitdata, parse_registrable_initdata
from guest_owner.kbs.references.values import (
    ReferenceSet,
    encode_reference_set,
    parse_reference_set,
)
from guest_owner.kbs.verifiers.tpm_quote import parse_attestation_key

MAX_MESSAGE_BYTES = 2 * MAX_DOCUMENT_BYTES
REFERENCE, ATTESTATION_KEY, INITDATA = (
    "ccinit_reference",
    "ccinit_attestation_key",
    "ccinit_initdata",
)
_VERSION, _TYPE = "0.1.0", "sample"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrations:
    """What a message registers; each part is valid by itself."""

    references: tuple[ReferenceSet, ...]
    attestation_keys: tuple[bytes, ...]
    documents: tuple[RegistrableInitdata, ...]


def parse_rvps_message(data: bytes) -> Registrations:
    """Read a message.

    Raises:
        FormatError: below `rvps`, or that of the registration that is malformed.
    """
    message = members(
        parse_json(data, "rvps", MAX_MESSAGE_BYTES),
        frozenset(("version", "type", "payload")),
        "rvps",
    )
    if (message["version"], message["type"]) != (_VERSION, _TYPE):
        raise FormatError("rvps.type", f"expected version {_VERSION} and type {_TYPE!r}")
    payload = decode_base64(
        text_member(message, "payload", "rvps", max_bytes=MAX_MESSAGE_BYTES), "rvps.payload"
    )
    values = parse_json(payload, "rvps.payload", MAX_MESSAGE_BYTES)
    if not isinstance(values, Mapping):
        raise FormatError("rvps.payload", "expected an object")
    for name in values:
        if name not in {REFERENCE, ATTESTATION_KEY, INITDATA}:
            raise FormatError("rvps.name", f"nothing here is compared with {name[:64]!r}")
    registrations = Registrations(
        references=tuple(map(_parse_reference, _listed(values, REFERENCE))),
        attestation_keys=tuple(map(_parse_key, _listed(values, ATTESTATION_KEY))),
        documents=tuple(map(_parse_document, _listed(values, INITDATA))),
    )
    _check_once("rvps.reference", [reference.name for reference in registrations.references])
    _check_once("rvps.initdata", [document.pod_name for document in registrations.documents])
    return registrations


def encode_references(references: tuple[ReferenceSet, ...]) -> bytes:
    """Return the registered reference values as the payload that would register them."""
    sets = [json.loads(encode_reference_set(reference)) for reference in references]
    return json.dumps({REFERENCE: sets}).encode()


def _check_once(reason: str, names: Sequence[str]) -> None:
    """Refuse a name that occurs twice, rather than guess which value is meant."""
    for name, times in Counter(names).items():
        if times > 1:
            raise FormatError(reason, f"{name} stands there {times} times")


def _listed(values: Mapping[str, JsonValue], name: str) -> tuple[JsonValue, ...]:
    value = values.get(name, [])
    return tuple(value) if isinstance(value, list) else (value,)


def _parse_reference(value: JsonValue) -> ReferenceSet:
    text = value if isinstance(value, str) else json.dumps(value)
    return parse_reference_set(text.encode())


def _parse_key(value: JsonValue) -> bytes:
    public_der = decode_base64(value, "rvps.attestation_key")
    parse_attestation_key(public_der)
    return public_der


def _parse_document(value: JsonValue) -> RegistrableInitdata:
    if not isinstance(value, str):
        raise FormatError("rvps.initdata", "expected the document's text")
    return parse_registrable_initdata(value.encode())
