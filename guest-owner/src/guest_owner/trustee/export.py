"""Turn registrations and policy into what Trustee loads: Rego policies and RVPS reference values.

Trustee's Attestation Service runs `default_cpu.rego` on the verifier's claims and reference values;
its KBS runs the resource policy on the token. The formats are those of Trustee's RVPS `sample`
extractor (a JSON object from name to values) and of its policy engine. Pure; writing the files is
`guest_owner.policy_export_command`.
"""

import base64
import json
from collections.abc import Collection, Iterator, Mapping
from importlib.resources import files

from ccinit.errors import ConfigError
from guest_owner.kbs.measurements import BOOT_PCRS, TpmMeasurements
from guest_owner.kbs.policy import Policy, Rule
from guest_owner.kbs.references import Profile, References, ReferenceSet, RegisteredInitdata

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
        "ccinit_initdata_sha384": [known.sha384.hex() for known in references.initdata],
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


def narrow(
    references: References, images: Collection[str], documents: Collection[str]
) -> References:
    """Return the registrations of the named images and documents; naming none keeps all.

    Raises:
        ConfigError: `export.reference` or `export.initdata`, nothing of that name is registered.
    """
    _check_known("export.reference", images, {known.name for known in references.sets})
    _check_known("export.initdata", documents, {known.name for known in references.initdata})
    return References(
        sets=tuple(known for known in references.sets if not images or known.name in images),
        attestation_keys=references.attestation_keys,
        roots=references.roots,
        initdata=tuple(
            known for known in references.initdata if not documents or known.name in documents
        ),
    )


def _check_known(reason: str, asked: Collection[str], known: Collection[str]) -> None:
    for name in asked:
        if name not in known:
            raise ConfigError(reason, f"nothing is registered under the name {name!r}")


def _resolve(rule: Rule, references: References) -> dict[str, list[str]]:
    return {
        "resources": list(rule.resources.segments),
        "boots": [
            f"tpm:{boot_value(measured)}"
            for known, measured in _tpm_sets(references)
            if known.profile is rule.profile
            and (not rule.references or known.name in rule.references)
        ],
        "initdata": [
            bound
            for known in references.initdata
            if not rule.initdata.isdisjoint((known.name, str(known.digest)))
            for bound in _bound_values(known)
        ],
    }


def _bound_values(known: RegisteredInitdata) -> tuple[str, str, str]:
    """Return what binds a document on each platform: PCR 8, HOSTDATA, MRCONFIGID."""
    return (f"tpm:{known.register.hex()}", f"snp:{known.digest.hex}", f"tdx:{known.sha384.hex()}")


def _template(name: str) -> str:
    return files("guest_owner.trustee").joinpath(name).read_text(encoding="utf-8")
