"""Evidence of devices beside the platform's own: RCAR's `additional_evidence`.

A device attests first, over a digest of nonce and key; what all of them said becomes one text, and
the platform's evidence covers that text. So a device's evidence cannot be moved to another guest,
and none can be left out afterwards. A production image has no device Attester: then the text is
empty, which the platform's evidence covers as well.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from ccinit.errors import ConfigError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.kbs.rcar import encode_additional_evidence


class DeviceAttester(Protocol):
    """A device that can vouch for itself."""

    @property
    def name(self) -> str:
        """The name of its verifier, as in `nvidia`."""

    def collect_evidence(self, digest: bytes) -> JsonValue:
        """Return evidence that carries the 48-byte device digest as its verifier expects it."""


def _known_devices() -> Mapping[str, Callable[[], DeviceAttester]]:
    """Return makers of Attesters; only images of the `test` profile hold the one that there is."""
    try:
        from ccinit.attest.sample_device import SampleDevice  # noqa: PLC0415  # not always there
    except ModuleNotFoundError:
        return {}
    return {SampleDevice.name: SampleDevice}


# Made with the module, while a child can still read files.
_KNOWN: Final = _known_devices()


def make_device_attesters(names: Sequence[str]) -> tuple[DeviceAttester, ...]:
    """Return the Attesters of devices that were found.

    Raises:
        ConfigError: `attest.device`, there is none for one of them.
    """
    for name in names:
        if name not in _KNOWN:
            raise ConfigError("attest.device", f"no attester for {name!r}")
    return tuple(_KNOWN[name]() for name in names)


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
