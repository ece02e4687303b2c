"""Trustee's `sampledevice`, in images of the `test` profile and nowhere else.

An additional device whose evidence just echoes its challenge, so that composite evidence can be
tried without hardware. Like `ccinit.attest.simulated`, it is listed in
rootfs-builder/mkosi/test-only.list, and the host asks for it in the machine's SMBIOS.
"""

from collections.abc import Callable

from ccinit.formats.encoding.strict_json import JsonValue, encode_base64

ASSET_TAG = "/sys/class/dmi/id/chassis_asset_tag"
WANTED = "ccinit-sampledevice"


class SampleDevice:
    """Makes `sampledevice` evidence: `{"svn": "2", "report_data": base64}`."""

    name = "sampledevice"

    def collect_evidence(self, digest: bytes) -> JsonValue:
        """Return evidence that carries the digest."""
        return {"svn": "2", "report_data": encode_base64(digest)}


def find_sample_device(read: Callable[[str], str]) -> tuple[str, ...]:
    """Return the device's name if the host asks for one.

    Args:
        read: the text of a file, "" if there is none.
    """
    return (SampleDevice.name,) if read(ASSET_TAG).strip() == WANTED else ()
