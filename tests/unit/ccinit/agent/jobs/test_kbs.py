"""What the KBS child brings: in envelopes if they are required, and with the KBS's time."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.jobs import kbs
from ccinit.agent.jobs.messages.kbs import CounterStep, KbsReply, Released, Wanted
from ccinit.agent.phases.attestation import plan_resources
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.attest.tee_key import generate_tee_key
from ccinit.errors import CcinitError
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.encoding.wire import encode
from ccinit.formats.initdata.guest_config import EnvelopePolicy
from ccinit.formats.kbs.debug_grant import DebugGrant, encode_debug_grant, parse_debug_grant
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.kbs.release import MAX_RELEASED_BYTES
from ccinit.formats.kbs.resource_uri import PluginUri, ResourceUri, parse_kbs_uri
from ccinit.formats.kbs.rollback_counter import (
    CounterAdvance,
    CounterReply,
    counter_uri,
    encode_counter_reply,
)
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.documents.guest import FULL_POD
from tests.fakes.kbs.sealed_secrets import KEY_URI, jwk, seal
from tests.unit.ccinit.formats.signature.image_policy_cases import naming


class Client:
    """A KBS that releases what it is asked for; notes how it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.attested_at: int | None = None
        self.dates: dict[ResourceUri, int] = {}
        self.grant_data = b""
        self.data: dict[str, bytes] = {}

    def attest(self) -> object:
        return SimpleNamespace(token="token", date=self.attested_at)

    def get_envelope(self, uri: ResourceUri, kind: EnvelopeKind) -> object:
        self.asked.append(f"{kind} {uri.tag}")
        data = self.data.get(str(uri), b"enveloped")
        data = self.grant_data if kind is EnvelopeKind.DEBUG_GRANT else data
        return SimpleNamespace(
            envelope=Envelope(uri=uri, kind=kind, data=data),
            date=self.dates.get(uri),
            tee_pubkey=KEY,
        )

    def get_resource(self, uri: ResourceUri | PluginUri, post: bytes = b"") -> object:
        self.asked.append(f"plain {uri}")
        body = b"plain"
        if isinstance(uri, PluginUri) and uri.plugin == "rollback-counter":
            counter = json.loads(post)["to"] if post else 7
            body = encode_counter_reply(CounterReply(uri=uri, counter=counter))
        return SimpleNamespace(body=Secret(body), date=None)


KEY = generate_tee_key(TeeKeyAlgorithm.P256).public_jwk
FIRST, SECOND, GRANT = (ResourceUri("ccinit", "shop", tag) for tag in ("a", "b", "debug-grant"))
PLUGIN = parse_kbs_uri("kbs+nebula-ca:///credential?name=pod1")


def collect(client: Client, monkeypatch: pytest.MonkeyPatch, **asked: object) -> KbsReply:
    monkeypatch.setattr(kbs, "_make_client", lambda *_: client)
    request: Any = SimpleNamespace(
        **{
            "wanted": (),
            "seconds": 60,
            "counters": (),
            "debug_grant": None,
            "with_token": False,
            "envelope": EnvelopePolicy.REQUIRED,
            **asked,
        }
    )
    unused: Any = None
    return kbs.run(request, unused)


def refusal(client: Client, monkeypatch: pytest.MonkeyPatch, **asked: object) -> str:
    with pytest.raises(CcinitError) as refused:
        collect(client, monkeypatch, **asked)
    return refused.value.reason


WANTED = (
    Wanted(uri=FIRST, kind=EnvelopeKind.FILE),
    Wanted(uri=SECOND, kind=EnvelopeKind.VOLUME_KEY),
)


@pytest.fixture
def client() -> Client:
    made = Client()
    made.attested_at = 1000
    return made


def test_each_resource_is_asked_for_by_its_kind_in_an_envelope(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = collect(client, monkeypatch, wanted=WANTED)
    assert client.asked == ["file a", "volume-key b"]
    assert reply.released == tuple(
        Released(uri=uri, data=b"enveloped", create=False) for uri in (FIRST, SECOND)
    )
    assert (reply.token, reply.date, reply.debug_grant) == ("", 1000, None)


def test_without_envelopes_a_body_is_the_resource(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = (*WANTED, Wanted(uri=PLUGIN, kind=EnvelopeKind.FILE))
    reply = collect(client, monkeypatch, wanted=wanted, envelope=EnvelopePolicy.NONE)
    assert client.asked == [f"plain {uri}" for uri in (FIRST, SECOND, PLUGIN)]
    assert {one.data for one in reply.released} == {b"plain"}
    assert not any(one.create for one in reply.released)


def test_plugins_reply_cannot_stand_for_an_envelope(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = (Wanted(uri=PLUGIN, kind=EnvelopeKind.FILE),)
    assert refusal(client, monkeypatch, wanted=wanted) == "kbs.envelope"
    assert client.asked == []


def test_sealed_secret_that_a_stranger_has_named_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.data = {KEY_URI: jwk()}

    def named_by(signer: str) -> tuple[Wanted, ...]:
        text = FULL_POD.replace("kbs:///ccinit/demo/file-token", seal(signed_by=signer))
        wanted = plan_resources(parse_pod_manifest(text))
        return tuple(replace(one, is_policy=False) for one in wanted)

    wanted = named_by("owner")
    assert len(collect(client, monkeypatch, wanted=wanted).released) == len(wanted)
    assert refusal(client, monkeypatch, wanted=named_by("stranger")) == "sealed_secret.signature"


@pytest.mark.parametrize(
    ("named", "reason"), [("file-token", ""), ("volume-key-data", "policy.key_kind")]
)
def test_policys_key_that_the_pod_has_is_not_fetched_again(
    client: Client, monkeypatch: pytest.MonkeyPatch, named: str, reason: str
) -> None:
    client.data = {"kbs:///ccinit/demo/file-policy": naming(f"kbs:///ccinit/demo/{named}")}
    wanted = plan_resources(parse_pod_manifest(FULL_POD))
    found = ""
    try:
        keys = collect(client, monkeypatch, wanted=wanted).policy_keys
        assert [(str(one.uri), one.data) for one in keys] == [
            (f"kbs:///ccinit/demo/{named}", b"enveloped")
        ]
    except CcinitError as error:
        found = error.reason
    assert found == reason
    assert len(client.asked) == len(wanted)


@pytest.mark.parametrize("more", [0, 1])
def test_resources_that_are_too_much_together_are_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    """A policy's key counts beside the same resource of the pod."""
    manifest = parse_pod_manifest(FULL_POD)
    policy, key = "kbs:///ccinit/demo/file-policy", "kbs:///ccinit/demo/file-token"
    wanted = plan_resources(manifest)
    client.data = {policy: naming(key), key: bytes(1 << 20)}
    reply = collect(client, monkeypatch, wanted=wanted)
    size = sum(len(one.data) for one in (*reply.released, *reply.policy_keys))
    auth = "kbs:///ccinit/demo/file-auth"
    client.data[auth] = bytes(len(b"enveloped") + MAX_RELEASED_BYTES - size + more)
    if more:
        assert refusal(client, monkeypatch, wanted=wanted) == "kbs.resources"
    else:
        largest = encode(collect(client, monkeypatch, wanted=wanted))
        assert MAX_RELEASED_BYTES < len(largest) < RIGHTS[Role.KBS].reply_bytes


def test_token_is_brought_if_somebody_wants_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert collect(client, monkeypatch, with_token=True).token == "token"


@pytest.mark.parametrize(
    ("attested_at", "dates", "date"),
    [
        pytest.param(1000, {FIRST: 2000}, 1000, id="of-the-token"),
        pytest.param(None, {FIRST: 2000, SECOND: 3000}, 2000, id="of-the-first-resource"),
        pytest.param(None, {SECOND: 3000}, 3000, id="of-the-second"),
    ],
)
def test_time_is_that_of_the_first_reply_that_tells_one(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    attested_at: int | None,
    dates: dict[ResourceUri, int],
    date: int,
) -> None:
    client.attested_at, client.dates = attested_at, dates
    assert collect(client, monkeypatch, wanted=WANTED).date == date


def test_kbs_that_tells_no_time_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.attested_at = None
    assert refusal(client, monkeypatch, wanted=WANTED) == "kbs.date"


def test_counters_are_read_or_moved_in_their_order(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = CounterAdvance(to=9, holder=bytes(16))
    steps = (
        CounterStep(uri=counter_uri("shop", "data")),
        CounterStep(uri=counter_uri("shop", "more"), advance=advance),
    )
    assert collect(client, monkeypatch, counters=steps).counters == (7, 9)


def grant(**changes: object) -> bytes:
    made = DebugGrant(
        evidence_key=KEY.thumbprint(),
        expires_s=5060,
        tools_root=RootHash(bytes(32)),
        keep_pod=False,
    )
    return encode_debug_grant(replace(made, **changes))


def test_debug_grant_comes_in_an_envelope_and_its_own_time_counts(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.dates, client.grant_data = {GRANT: 5000}, grant()
    reply = collect(client, monkeypatch, debug_grant=GRANT, envelope=EnvelopePolicy.NONE)
    assert client.asked == ["debug-grant debug-grant"]
    assert (reply.date, reply.debug_grant) == (5000, parse_debug_grant(grant()))


@pytest.mark.parametrize(
    ("data", "dates", "reason"),
    [
        pytest.param(grant(), {}, "kbs.date", id="no-time"),
        pytest.param(grant(), {GRANT: 5060}, "debug.expired", id="ended"),
        pytest.param(grant(evidence_key=bytes(32)), {GRANT: 5000}, "debug.evidence_key", id="key"),
    ],
)
def test_debug_grant_that_is_not_for_this_session_now_is_refused(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    data: bytes,
    dates: dict[ResourceUri, int],
    reason: str,
) -> None:
    client.dates, client.grant_data = dates, data
    assert refusal(client, monkeypatch, debug_grant=GRANT) == reason
