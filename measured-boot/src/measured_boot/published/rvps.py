"""Write predictions as the message that registers reference values with Trustee.

The names are those that Trustee's own appraisal policy asks for. That policy checks less than a
guest of this project needs (`docs/trustee-policy`), so these values are for owners who combine them
with a policy of their own. Values of `test` images are refused, and a register that stays zero is
never written: zero is what every boot without a UKI has.

Specification: Confidential Containers Trustee, `rvps` (message 0.1.0, extractor "sample") and
`attestation-service/src/ear_token/ear_default_policy_cpu.rego` (names).
"""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Final

from ccinit.errors import ConfigError
from measured_boot.platforms import Boot, Technology
from measured_boot.prediction import BootEvents, Prediction
from measured_boot.published.reference_values import Profile, profile_of
from measured_boot.tpm.boot_events import KERNEL_INPUTS
from measured_boot.tpm.pcr import EventKind

_NAMES: Final = {
    "pcr11": "tpm_pcr11",
    "mrtd": "mr_td",
    "rtmr1": "rtmr_1",
    "rtmr2": "rtmr_2",
    "launch_digest": "snp_launch_measurement",
}


def name_values(
    predictions: Iterable[Prediction],
) -> Mapping[str, list[str] | str]:
    """Return the reference values by Trustee's names.

    Raises:
        ConfigError: `rvps.profile`: a prediction is one of a `test` image; `rvps.svsm`: its
            registers are of an SVSM's vTPM, for which there is no name; `rvps.sev`: it is of SEV or
            SEV-ES, which give no evidence: the owner holds the digest against a launch's own.
    """
    values: dict[str, list[str]] = {}
    events: dict[str, str] = {}
    for prediction in predictions:
        technology = prediction.platform.technology
        if technology is Technology.SNP_SVSM:
            raise ConfigError("rvps.svsm", "no verifier knows a vTPM by its SVSM")
        if technology in {Technology.SEV, Technology.SEV_ES}:
            detail = f"Trustee has no verifier for {technology}: its owner judges the launch"
            raise ConfigError("rvps.sev", detail)
        if profile_of(prediction.command_line) is not Profile.PROD:
            raise ConfigError("rvps.profile", "a test image can be made to say anything")
        for register, value in prediction.named_registers.items():
            if register in _NAMES:
                known = values.setdefault(_NAMES[register], [])
                if value.hex() not in known:
                    known.append(value.hex())
        if technology is Technology.TDX and prediction.platform.boot is Boot.DIRECT:
            events |= _name_events(prediction)
    return {**values, **events}


def encode_message(values: Mapping[str, list[str] | str]) -> bytes:
    """Return the message for `rvps-tool register` and `POST /kbs/v0/reference-value`."""
    payload = base64.b64encode(json.dumps(values, sort_keys=True).encode()).decode()
    message = {"version": "0.1.0", "type": "sample", "payload": payload}
    return json.dumps(message).encode() + b"\n"


def _name_events(prediction: BootEvents) -> dict[str, str]:
    """Return the two events of a direct boot that the policy looks for in a log of TDX."""
    kernel = next(
        event for event in prediction.events if event.kind is EventKind.BOOT_SERVICES_APPLICATION
    )
    line = next(event for event in prediction.events if event.register == KERNEL_INPUTS)
    return {
        "tdvfkernel": kernel.wide_digest.hex(),
        "tdvfkernelparams": line.wide_digest.hex(),
    }
