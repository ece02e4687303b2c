"""Evidence of devices in addition to the platform's own: RCAR's `additional_evidence`.

Devices attest first, over a digest of nonce and key. Their evidence becomes one text, which the
platform's evidence covers. So a device's evidence cannot be moved to another guest, and none can be
left out afterwards. A production image has no device Attester: the text is then empty, and the
platform's evidence covers that as well.
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
    """Return constructors of device Attesters; the only one is in images of the `test` profile."""
    try:
        from ccinit.attest.sample_device import SampleDevice  # noqa: PLC0415  # not always there
    except ModuleNotFoundError:
        return {}
    return {SampleDevice.name: SampleDevice}


# Evaluated at import, while a child can still read files.
_KNOWN: Final = _known_devices()


def make_device_attesters(names: Sequence[str]) -> tuple[DeviceAttester, ...]:
    """Return the Attesters of the named devices.

    Raises:
        ConfigError: `attest.device`, a device without an Attester.
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
        CcinitError: what a device's Attester raises.
    """
    evidence: dict[str, JsonValue] = {}
    for device in devices:
        if device.name in evidence:
            raise ConfigError("attest.device", f"two devices are named {device.name!r}")
        evidence[device.name] = device.collect_evidence(digest)
    return encode_additional_evidence(evidence)
