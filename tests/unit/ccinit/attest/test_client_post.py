"""What is sent to a plugin of the KBS: as a POST, in the session, and again when that has ended."""

from ccinit.formats.kbs.resource_uri import parse_kbs_uri
from tests.fakes.kbs.http import FakeKbs, fail
from tests.unit.ccinit.attest.guest_client import HANDSHAKE, Guest

URI = parse_kbs_uri("kbs+rollback-counter:///shop/data")
PATH = "rollback-counter/shop/data"
BODY = b'{"to": 1}'


def sent(kbs: FakeKbs) -> list[tuple[str, bytes]]:
    return [(call.method, call.body) for call in kbs.calls if call.path == PATH]


def test_body_is_posted_and_none_is_a_get() -> None:
    kbs = FakeKbs(resources={PATH: b"counter"})
    guest = Guest(kbs)
    assert guest.client.get_resource(URI, post=BODY).body.reveal() == b"counter"
    assert guest.client.get_resource(URI).body.reveal() == b"counter"
    assert kbs.paths == [*HANDSHAKE, PATH, PATH]
    assert sent(kbs) == [("POST", BODY), ("GET", b"")]
    assert ("content-type", "application/json") in kbs.calls[2].headers


def test_body_is_posted_again_in_a_new_session_and_after_a_lost_reply() -> None:
    kbs = FakeKbs(resources={PATH: b"counter"})
    guest = Guest(kbs)
    guest.client.get_resource(URI, post=BODY)
    kbs.end_sessions()
    guest.client.get_resource(URI, post=BODY)
    assert kbs.paths == [*HANDSHAKE, PATH, PATH, *HANDSHAKE, PATH]
    kbs.faults = [fail("net.closed")]
    guest.client.get_resource(URI, post=BODY)
    assert sent(kbs) == [("POST", BODY)] * 5
