"""The guest's client where a verifier asks first: a request in the nonce, an answer to it."""

from collections.abc import Mapping

from ccinit.attest.client import KbsClient
from ccinit.attest.ports import EvidenceFor
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.net.http import HttpClient
from ccinit.net.tls import pinned_context
from tests.integration.kbs.harness import URI, Kbs


def fetch_on_request(
    kbs: Kbs,
    tee: Tee,
    answer: EvidenceFor,
    *,
    init_data: str,
    parameters: Mapping[str, JsonValue] | None = None,
) -> bytes:
    """Fetch the harness' resource; `answer` makes evidence of report data and the request."""
    roots = (kbs.state / "ca.pem").read_text()
    with HttpClient(pinned_context(roots, check_time=False)) as transport:
        client = KbsClient(
            url=kbs.url,
            transport=transport,
            tee=tee,
            evidence_for=answer,
            parameters=parameters,
            init_data=init_data,
        )
        return client.get_resource(parse_resource_uri("kbs:///" + URI)).body.reveal()
