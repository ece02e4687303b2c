"""Evidence of devices beside the platform's own: RCAR's `additional_evidence`.

A device attests first, over a digest of nonce and key; what all of them said becomes one text, and
the platform's evidence covers that text. So a device's evidence cannot be moved to another guest,
and none can be left out afterwards. A production image has no device Attester: then the text is
empty, which the platform's evidence covers as well.
"""

from collections.abc import Sequence
from typing import Protocol

from ccinit.errors import ConfigError
from ccinit.formats.rcar import encode_additional_evidence
from ccinit.formats.strict_json import JsonValue


class DeviceAttester(Protocol):
    """A device that can vouch for itself."""

    @property
    def name(self) -> str:
        """The name of its verifier, as in `nvidia`."""

    def collect_evidence(self, digest: bytes) -> JsonValue:
        """Return evidence that carries the 48-byte device digest as its verifier expects it."""


def collect_additional_evidence(devices: Sequence[DeviceAttester], digest: bytes) -> str:
    """Return the JSON text of all devices' evidence, by name; empty if there is no device.

    Raises:
        ConfigError: `attest.device`, two devices under one name.
        LimitExceededError: `rcar.additional_evidence`.
        CcinitError: a device's own.
    """
    evidence: dict[str, JsonValue] = {}
    for device in devices:
        if device.name in evidence:
            raise ConfigError("attest.device", f"two devices are named {device.name!r}")
        evidence[device.name] = device.collect_evidence(digest)
    return encode_additional_evidence(evidence)
