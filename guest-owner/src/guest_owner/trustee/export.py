"""Turn registrations and policy into what Trustee loads: Rego policies and RVPS reference values.

Trustee's Attestation Service runs `default_cpu.rego` on the verifier's claims and reference values;
its KBS runs the resource policy on the token. The formats are those of Trustee's RVPS `sample`
extractor (a JSON object from name to values) and of its policy engine. Pure; writing the files is
`guest_owner.commands.policy_export`.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from importlib.resources import files

from ccinit.errors import ConfigError
from ccinit.formats.encoding.strict_json import encode_base64
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.policy import Policy, Rule
from guest_owner.kbs.references.measurements.image import (
    BOOT_PCRS,
    SnpMeasurements,
    TpmMeasurements,
)
from guest_owner.kbs.references.measurements.sample import SampleMeasurements
from guest_owner.kbs.references.measurements.se import SeMeasurements
from guest_owner.kbs.references.measurements.tdx import TdxMeasurements
from guest_owner.kbs.references.requirements import (
    ParavisorRequirements,
    Requirements,
    SnpRequirements,
)
from guest_owner.kbs.references.tdx_requirements import TdxRequirements
from guest_owner.kbs.references.values import Profile, References, ReferenceSet, RegisteredInitdata

_RULES_MARK = "@RULES@"


def appraisal_policy() -> str:
    """Return the policy for the Attestation Service; it depends on no registration."""
    return _template("default_cpu.rego")


def resource_policy(policy: Policy, references: References) -> str:
    """Return the policy for the KBS, with the owner's rules in it.

    Rules for test images are left out: Trustee has one store of resources, and no second line of
    defence.
    """
    rules = [_resolve(rule, references) for rule in policy.rules if rule.profile is Profile.PROD]
    # JSON is Rego; tabs are how Rego is indented.
    return _template("resource_policy.rego").replace(
        _RULES_MARK, json.dumps(rules, indent="\t", sort_keys=True)
    )


def reference_values(references: References) -> Mapping[str, list[str]]:
    """Return the values that `default_cpu.rego` asks for; test images are left out."""
    boots = [
        boot
        for known in references.sets
        if known.profile is Profile.PROD
        for boot in boot_values(known)
    ]
    bound = [value for known in references.initdata for value in bound_values(known)]
    return {
        "ccinit_tpm_boot": _of(Tee.TPM, boots),
        "ccinit_tpm_initdata": _of(Tee.TPM, bound),
        "ccinit_tpm_attestation_keys": [
            encode_base64(known.public_der) for known in references.attestation_keys
        ],
        "ccinit_snp_measurement": _of(Tee.SNP, boots),
        "ccinit_tdx_boot": _of(Tee.TDX, boots),
        "ccinit_initdata_sha256": _of(Tee.SNP, bound),
        "ccinit_initdata_sha384": _of(Tee.TDX, bound),
        **_demanded_values(references.requirements),
    }


def rvps_message(values: Mapping[str, list[str]]) -> bytes:
    """Return the message for `POST /kbs/v0/reference-value` and `rvps-tool`."""
    payload = encode_base64(json.dumps(values, sort_keys=True).encode())
    message = {"version": "0.1.0", "type": "sample", "payload": payload}
    return json.dumps(message).encode() + b"\n"


def boot_values(reference: ReferenceSet) -> tuple[str, ...]:
    """Return what an image may have booted as: texts that begin with their platform.

    All measurements of one boot are in one text, so that those of two images never mix.
    """
    match reference.measured:
        case TpmMeasurements(boot=boot, pcr=pcr):
            return (":".join((Tee.TPM, boot, *(pcr[index].hex() for index in BOOT_PCRS))),)
        case SnpMeasurements(values=values):
            return tuple(text for value in values for text in _snp_texts(value))
        case TdxMeasurements(mrtd=mrtd, rtmr1=rtmr1, rtmr2=rtmr2):
            return (f"{Tee.TDX}:{mrtd.hex()}:{rtmr1.hex()}:{rtmr2.hex()}",)
        case SeMeasurements():
            return ()  # Trustee's verifier has no claim that binds the document
        case SampleMeasurements():
            return ()  # the exported policy is for platforms that prove something


def bound_values(known: RegisteredInitdata) -> tuple[str, ...]:
    """Return what binds a document on each platform: PCR 8, HOSTDATA, MRCONFIGID."""
    return (
        f"{Tee.TPM}:{known.register.hex()}",
        *_snp_texts(known.digest.raw),
        f"{Tee.TDX}:{known.sha384.hex()}",
    )


def _snp_texts(value: bytes) -> tuple[str, str]:
    # Releases of Trustee differ in how their `snp` verifier writes bytes.
    return f"{Tee.SNP}:{value.hex()}", f"{Tee.SNP}:{encode_base64(value)}"


def _demanded_values(demanded: Collection[Requirements]) -> dict[str, list[str]]:
    """Return what the owner demands of platforms, as far as claims of Trustee's show it."""
    snp, tdx = _of_paravisor(Tee.AZ_SNP_VTPM, demanded), _of_paravisor(Tee.AZ_TDX_VTPM, demanded)
    return {
        "ccinit_snp_tcb": _floors(demanded),
        "ccinit_tdx_domain": _domains(demanded),
        "ccinit_tdx_module": _modules(demanded),
        "ccinit_az_snp_paravisor": [
            text.removeprefix(f"{Tee.SNP}:")
            for known in snp
            for paravisor in known.paravisors
            for text in _snp_texts(paravisor)
        ],
        "ccinit_az_snp_tcb": _floors([known.hardware for known in snp]),
        "ccinit_az_tdx_paravisor": [
            paravisor.hex() for known in tdx for paravisor in known.paravisors
        ],
        "ccinit_az_tdx_domain": _domains([known.hardware for known in tdx]),
        "ccinit_az_tdx_module": _modules([known.hardware for known in tdx]),
    }


def _of_paravisor(tee: Tee, demanded: Collection[Requirements]) -> list[ParavisorRequirements]:
    return [
        known for known in demanded if isinstance(known, ParavisorRequirements) and known.tee is tee
    ]


def _floors(demanded: Collection[Requirements]) -> list[str]:
    # Leave out a product if no claim shows some part of its firmware version.
    return [
        f"{floor.bootloader}:{floor.tee}:{floor.snp}:{floor.microcode}"
        for known in demanded
        if isinstance(known, SnpRequirements)
        for floor in known.floors.values()
        if floor.fmc is None
    ]


def _domains(demanded: Collection[Requirements]) -> list[str]:
    return [
        ":".join(value.to_bytes(8, "little").hex() for value in (known.td_attributes, known.xfam))
        for known in demanded
        if isinstance(known, TdxRequirements)
    ]


def _modules(demanded: Collection[Requirements]) -> list[str]:
    return [
        module.hex()
        for known in demanded
        if isinstance(known, TdxRequirements)
        for module in known.mrseam
    ]


def _of(tee: Tee, values: Collection[str]) -> list[str]:
    """Return the values of one platform, without its name."""
    return [value.removeprefix(f"{tee}:") for value in values if value.startswith(f"{tee}:")]


def narrow(
    references: References, images: Collection[str], documents: Collection[str]
) -> References:
    """Return the registrations of the named images and documents; naming none keeps all.

    Raises:
        ConfigError: `export.reference` or `export.initdata`, nothing of that name is registered.
    """
    _check_known("export.reference", images, {known.name for known in references.sets})
    _check_known("export.initdata", documents, {known.name for known in references.initdata})
    return replace(
        references,
        sets=tuple(known for known in references.sets if not images or known.name in images),
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
            boot
            for known in references.sets
            if known.profile is rule.profile
            and (not rule.references or known.name in rule.references)
            for boot in boot_values(known)
        ],
        "initdata": [
            bound
            for known in references.initdata
            if not rule.initdata.isdisjoint((known.name, str(known.digest)))
            for bound in bound_values(known)
        ],
    }


def _template(name: str) -> str:
    return files("guest_owner.trustee").joinpath(name).read_text(encoding="utf-8")
