"""The sample platform of Confidential Containers: evidence that anybody can forge.

Nothing is measured or signed, and nothing binds the initdata digest: the document in a request is
only the sender's claim, as the owner's verifier says, too. It exists so that everything around a
platform can be tried without one.
"""

from collections.abc import Mapping

from ccinit.formats.encoding.strict_json import JsonValue, encode_base64
from ccinit.formats.evidence.tee import ReportData

SVN = "1"


class SampleAttester:
    """Makes `sample` evidence."""

    def collect_evidence(self, report_data: ReportData) -> JsonValue:
        """Return what Trustee's `sample` verifier reads."""
        return {"svn": SVN, "report_data": encode_base64(report_data)}


def leave_unbound(_fds: Mapping[str, int], _digest: bytes) -> None:
    """Bind nothing: this platform has no field to compare the digest with."""


def make_files(_launch_field: bytes, _report_data: bytes) -> Mapping[str, bytes]:
    """Return no file: there is no driver."""
    return {}
