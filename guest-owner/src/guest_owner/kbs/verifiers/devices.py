"""Appraisal of evidence that devices beside the platform gave: RCAR's `additional_evidence`.

This is a JSON text, an object of evidence by device name. The platform's own evidence covers the
exact text, so no part can be exchanged or left out later; each device's covers nonce and key.

The steps, all of them MUST; each failing one becomes a claim with the name in brackets:

    1. The text has the form [`rcar.additional_evidence…`].
    2. Every device in it is one that a rule of the owner's policy names [`device.NAME`]; evidence
       of any other device is not parsed.
    3. `sampledevice`: its evidence has the form and carries the whole device digest
       [`sampledevice.report_data`]. There is no more to check: nothing is signed, and any version
       is as good as any other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64, parse_json
from guest_owner.kbs.appraisal import AppraisedDevice, ClaimList, list_known
from guest_owner.kbs.devices import Device

MAX_ADDITIONAL_BYTES = 8 * 1024
_MAX_DEVICES = 16
_MAX_NAME_BYTES = 64
_MAX_SVN_BYTES = 64
_WHERE = "rcar.additional_evidence"

JudgeDevice = Callable[[JsonValue, bytes, ClaimList], Mapping[str, JsonValue]]
"""Makes a device's own steps for the device digest; returns what Trustee would say about it."""


@dataclass(frozen=True, slots=True)
class JudgedDevices:
    """Every device that a rule names, whether or not its evidence holds, and all claims."""

    devices: tuple[AppraisedDevice, ...]
    claims: ClaimList


def judge_devices(text: str, digest: bytes, named: frozenset[Device]) -> JudgedDevices:
    """Make all steps.

    Args:
        text: untrusted; "" if there is no device.
        digest: the 48 bytes that every device's evidence has to carry.
        named: by rules of the policy.

    Raises:
        FormatError: step 1, or a device's evidence of another form.
    """
    claims, judged = ClaimList(), []
    for name, evidence in _parse(text).items():
        device = next((known for known in named if known.value == name), None)
        expected = list_known(tuple(sorted(named))) if named else "no device: no rule names one"
        claims.compare(f"device.{name}", expected, name, holds=device is not None)
        if device is not None:
            said = _JUDGES[device](evidence, digest, claims)
            judged.append(AppraisedDevice(name=name, token_claims=said))
    return JudgedDevices(tuple(judged), claims)


def _parse(text: str) -> Mapping[str, JsonValue]:
    # Step 1
    if not text:
        return {}
    value = parse_json(text.encode(), _WHERE, MAX_ADDITIONAL_BYTES)
    if not isinstance(value, Mapping) or not 0 < len(value) <= _MAX_DEVICES:
        raise FormatError(_WHERE, f"expected an object of 1 to {_MAX_DEVICES} devices")
    for name in value:
        if not 0 < len(name) <= _MAX_NAME_BYTES or not name.isascii() or not name.isalnum():
            raise FormatError(_WHERE, f"{name[:40]!r} is not a device's name")
    return value


def _judge_sample_device(
    evidence: JsonValue, digest: bytes, claims: ClaimList
) -> Mapping[str, JsonValue]:
    # Step 3
    with Fields(evidence, "sampledevice") as fields:
        svn = fields.text("svn", max_bytes=_MAX_SVN_BYTES)
        text = fields.text("report_data", max_bytes=128)
    got = decode_base64(text, "sampledevice.report_data")
    claims.compare_bytes("sampledevice.report_data", digest, got)
    return {"svn": svn, "report_data": text}


_JUDGES: Mapping[Device, JudgeDevice] = {Device.SAMPLE_DEVICE: _judge_sample_device}
