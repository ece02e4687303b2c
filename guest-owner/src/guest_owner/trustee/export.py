"""Turn registrations and policy into what Trustee loads: Rego policies and RVPS reference values.

Trustee's Attestation Service runs `default_cpu.rego` on the verifier's claims and reference values;
its KBS runs the resource policy on the token. The formats are those of Trustee's RVPS `sample`
extractor (a JSON object from name to values) and of its policy engine. Pure; writing the files is
`guest_owner.export_command`.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files

from guest_owner.kbs.measurements import BOOT_PCRS, TpmMeasurements
from guest_owner.kbs.policy import Policy, Rule
from guest_owner.kbs.references import Profile, References, ReferenceSet

_RULES_MARK = "@RULES@"


def appraisal_policy() -> str:
    """Return the policy for the Attestation Service; it depends on no registration."""
    return _template("default_cpu.rego")


def resource_policy(policy: Policy, references: References) -> str:
    """Return the policy for the KBS, with the owner's rules in it.

    Rules for test images are left out: Trustee has one store of resources and no second line.
    """
    rules = [_resolve(rule, references) for rule in policy.rules if rule.profile is Profile.PROD]
    # JSON is Rego; tabs are how Rego is indented.
    return _template("resource_policy.rego").replace(
        _RULES_MARK, json.dumps(rules, indent="\t", sort_keys=True)
    )


def reference_values(references: References) -> Mapping[str, list[str]]:
    """Return the values that `default_cpu.rego` asks for; test images are left out."""
    return {
        "ccinit_tpm_boot": [
            boot_value(measured)
            for known, measured in _tpm_sets(references)
            if known.profile is Profile.PROD
        ],
        "ccinit_tpm_initdata": [known.register.hex() for known in references.initdata],
        "ccinit_tpm_attestation_keys": [
            base64.b64encode(known.public_der).decode() for known in references.attestation_keys
        ],
        "ccinit_snp_measurement": [],
        "ccinit_snp_tcb": [],
        "ccinit_tdx_boot": [],
        "ccinit_initdata_sha256": [known.digest.hex for known in references.initdata],
        "ccinit_initdata_sha384": [],
    }


def rvps_message(values: Mapping[str, list[str]]) -> bytes:
    """Return the message for `POST /kbs/v0/reference-value` and `rvps-tool`."""
    payload = base64.b64encode(json.dumps(values, sort_keys=True).encode()).decode()
    message = {"version": "0.1.0", "type": "sample", "payload": payload}
    return json.dumps(message).encode() + b"\n"


def boot_value(measured: TpmMeasurements) -> str:
    """Return predicted registers as one string, so that those of two images never mix."""
    return ":".join((measured.boot.value, *(measured.pcr[index].hex() for index in BOOT_PCRS)))


def _tpm_sets(references: References) -> Iterator[tuple[ReferenceSet, TpmMeasurements]]:
    for known in references.sets:
        if isinstance(known.measured, TpmMeasurements):
            yield known, known.measured


def _resolve(rule: Rule, references: References) -> dict[str, list[str]]:
    return {
        "resources": list(rule.resources.segments),
        "boots": [
            boot_value(measured)
            for known, measured in _tpm_sets(references)
            if known.profile is rule.profile
            and (not rule.references or known.name in rule.references)
        ],
        "initdata": [
            known.register.hex()
            for known in references.initdata
            if not rule.initdata.isdisjoint((known.name, str(known.digest)))
        ],
    }


def _template(name: str) -> str:
    return files("guest_owner.trustee").joinpath(name).read_text(encoding="utf-8")
