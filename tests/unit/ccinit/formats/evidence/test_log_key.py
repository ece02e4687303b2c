"""The evidence behind a log's signing key."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.evidence.log_key import LogEvidence, encode_log_evidence, parse_log_evidence

VALUE = LogEvidence(tee="tpm", evidence={"quote": "AA==", "pcrs": ["00"]})


def test_log_evidence_encoded_and_parsed_is_the_same() -> None:
    data = encode_log_evidence("tpm", b'{"pcrs":["00"],"quote":"AA=="}')
    assert data == b'{"evidence":{"pcrs":["00"],"quote":"AA=="},"tee":"tpm"}'
    assert parse_log_evidence(data) == VALUE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "log_evidence.json"),
        (b"[]", "log_evidence.type"),
        (b'{"tee":"tpm"}', "log_evidence.members"),
        (b'{"tee":"tpm","evidence":1,"more":1}', "log_evidence.members"),
        (b'{"tee":1,"evidence":1}', "log_evidence.tee"),
        (b'{"tee":"' + b"t" * 33 + b'","evidence":1}', "log_evidence.tee"),
        (b" " * ((256 << 10) + 1), "log_evidence.length"),
    ],
)
def test_log_evidence_malformed_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_log_evidence(data)
    assert error.value.reason == reason
