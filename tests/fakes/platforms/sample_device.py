"""Trustee's `sampledevice`: an additional device whose evidence proves nothing."""

import base64
from dataclasses import dataclass

from ccinit.formats.encoding.strict_json import JsonValue


@dataclass(frozen=True, kw_only=True)
class SampleDevice:
    """Says what it is asked to say; `padding` makes its evidence longer."""

    name: str = "sampledevice"
    padding: str = ""

    def collect_evidence(self, digest: bytes) -> JsonValue:
        value = {"svn": "2", "report_data": base64.b64encode(digest).decode()}
        return {**value, "padding": self.padding} if self.padding else value
