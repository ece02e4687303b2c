"""What Azure's metadata service says of itself: when to ask again, and when there is no use."""

import base64
import json
from collections.abc import Sequence
from functools import partial

import pytest

from ccinit.attest.azure_metadata import fetch_endorsement
from ccinit.errors import CcinitError, PeerError
from ccinit.formats.encoding.strict_json import encode_base64
from ccinit.formats.evidence.tee import Tee
from ccinit.net.http import Headers, HttpLimits, HttpReply

PEM = f"-----BEGIN CERTIFICATE-----\r\n{encode_base64(b'vcek')}\r\n-----END CERTIFICATE-----\r\n"
BODIES = {
    Tee.AZ_SNP_VTPM: {"vcekCert": PEM, "tcbm": "DB18000000000004"},
    Tee.AZ_TDX_VTPM: {"quote": "cXVvdGU"},
}
HARDWARE = bytes(range(256)) * 4
ENDORSEMENTS = {Tee.AZ_SNP_VTPM: b"vcek", Tee.AZ_TDX_VTPM: b"quote"}


class Service:
    """Answers with statuses in turn, the last of them from then on."""

    def __init__(self, tee: Tee, statuses: Sequence[int], body: object = None) -> None:
        self.asked: list[str] = []
        self.naps: list[float] = []
        self.sent: tuple[Headers, bytes] = ((), b"")
        self.fetch = partial(
            fetch_endorsement, self, tee, HARDWARE, "metadata.example", sleep=self.naps.append
        )
        self._body = json.dumps(BODIES[tee] if body is None else body).encode()
        self._statuses = list(statuses)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        limits: HttpLimits,
    ) -> HttpReply:
        assert ("metadata", "true") in headers
        assert len(body) < limits.max_body_bytes
        self.sent = (headers, body)
        self.asked.append(f"{method} {url}")
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        return HttpReply(status=status, headers=(), body=self._body, date=None)


@pytest.mark.parametrize("tee", BODIES)
@pytest.mark.parametrize("status", [410, 429, 500, 503])
def test_service_that_is_busy_is_asked_again(tee: Tee, status: int) -> None:
    service = Service(tee, [status, status, 200])
    assert service.fetch() == ENDORSEMENTS[tee]
    assert (len(service.asked), service.naps) == (3, [1.0, 2.0])
    assert len(set(service.asked)) == 1


@pytest.mark.parametrize("statuses", [[200], [503] * 4 + [200]], ids=["first", "last"])
def test_report_of_a_trust_domain_is_sent_to_be_quoted(statuses: list[int]) -> None:
    service = Service(Tee.AZ_TDX_VTPM, statuses)
    assert service.fetch() == b"quote"
    headers, body = service.sent
    assert ("content-type", "application/json") in headers
    report = json.loads(body)["report"]
    assert base64.urlsafe_b64decode(report + "=" * (-len(report) % 4)) == HARDWARE
    assert service.asked[-1] == "POST http://metadata.example/acc/tdquote"


def test_certificate_is_asked_for_without_a_body() -> None:
    service = Service(Tee.AZ_SNP_VTPM, [200])
    service.fetch()
    assert service.sent == ((("metadata", "true"),), b"")
    assert service.asked == ["GET http://metadata.example/metadata/THIM/amd/certification"]


@pytest.mark.parametrize(("status", "asked"), [(503, 5), (404, 1), (400, 1), (302, 1)])
def test_service_that_does_not_answer_is_given_up(status: int, asked: int) -> None:
    service = Service(Tee.AZ_SNP_VTPM, [status])
    with pytest.raises(PeerError) as error:
        service.fetch()
    assert error.value.reason == "azure.metadata"
    assert (len(service.asked), len(service.naps)) == (asked, asked - 1)
    assert sum(service.naps) < 20  # of the child's 60


@pytest.mark.parametrize(
    ("tee", "body", "reason"),
    [
        (Tee.AZ_SNP_VTPM, [PEM], "azure.metadata"),
        (Tee.AZ_SNP_VTPM, "vcekCert", "azure.metadata"),
        (Tee.AZ_SNP_VTPM, {"certificateChain": PEM}, "azure.metadata"),
        (Tee.AZ_SNP_VTPM, {"vcekCert": 1}, "azure.vcek"),
        (Tee.AZ_SNP_VTPM, {"vcekCert": PEM.replace("END", "AND")}, "azure.vcek"),
        (Tee.AZ_SNP_VTPM, {"vcekCert": PEM.replace("BEGIN", "BEGUN")}, "azure.vcek"),
        (Tee.AZ_SNP_VTPM, {"vcekCert": PEM.replace("=", "?")}, "azure.vcek"),
        (Tee.AZ_SNP_VTPM, {"vcekCert": "-----END CERTIFICATE-----" + PEM}, "azure.vcek"),
        (Tee.AZ_SNP_VTPM, {"vcekCert": PEM.removeprefix("-----BEGIN CERTIFICATE-----")},
         "azure.vcek"),
        (Tee.AZ_TDX_VTPM, {"quote": 1}, "azure.td_quote"),
        (Tee.AZ_TDX_VTPM, {"quote": "?"}, "azure.td_quote"),
    ],
)  # fmt: skip
def test_answer_of_another_form_is_refused(tee: Tee, body: object, reason: str) -> None:
    assert Service(tee, [200]).fetch() == ENDORSEMENTS[tee]
    with pytest.raises(CcinitError) as error:
        Service(tee, [200], body).fetch()
    assert error.value.reason == reason
