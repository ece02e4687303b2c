"""Sessions of the KBS: what a cookie is good for, how long, and how many there are."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.rcar import Nonce
from guest_owner.kbs.jwe import public_jwk
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.refusal import KbsRefusedError
from guest_owner.kbs.sessions import Attested, Session, Sessions
from guest_owner.kbs.verifiers.tpm import verify_evidence
from tests.unit.guest_owner.kbs.values import (
    REPORT_DATA,
    booted_tpm,
    reference_set,
    references,
)

OTHER = parse_digest(f"sha256:{'7' * 64}", "test")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sessions(clock: Clock, limits: Limits | None = None) -> Sessions:
    return Sessions(limits or Limits(session_seconds=300), clock)


def attested() -> Attested:
    tpm = booted_tpm(reference_set())
    evidence = verify_evidence(
        tpm.quote(REPORT_DATA).to_json_value(),
        report_data=REPORT_DATA,
        initdata_digest=None,
        references=references(reference_set(), tpm=tpm),
    )
    key = public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())
    return Attested(label="label", tee=Tee.TPM, subject=evidence.subject, tee_pubkey=key)


def test_open_gives_every_session_its_own_nonce_cookie_and_label(clock: Clock) -> None:
    store = sessions(clock)
    first, second = store.open(Tee.TPM), store.open(Tee.TPM)
    assert len({first.nonce, second.nonce}) == 2
    assert len({first.cookie, second.cookie, first.label, second.label}) == 4
    assert len(first.cookie) == 32
    assert store.open(Tee.SE, Nonce("a request")).nonce == "a request"


def test_take_for_attest_works_once(clock: Clock) -> None:
    store = sessions(clock)
    session = store.open(Tee.TPM)
    assert store.take_for_attest(session.cookie) is session
    with pytest.raises(KbsRefusedError, match="was used"):
        store.take_for_attest(session.cookie)


def test_take_for_attest_refuses_unknown_and_missing_cookies(clock: Clock) -> None:
    store = sessions(clock)
    store.open(Tee.TPM)
    for cookie in (None, "", "0" * 32):
        with pytest.raises(KbsRefusedError, match="no such session") as refused:
            store.take_for_attest(cookie)
        assert refused.value.status == 408  # a guest takes 401 for a judgement


def test_session_ends_on_time_whatever_its_state(clock: Clock) -> None:
    store = sessions(clock)
    session, other = store.open(Tee.TPM), store.open(Tee.TPM)
    value = attested()
    store.complete(store.take_for_attest(session.cookie), value)
    clock.now = 299.9
    assert store.attested(session.cookie) is value
    clock.now = 300
    assert store.attested(session.cookie) is None
    with pytest.raises(KbsRefusedError, match="expired"):
        store.take_for_attest(other.cookie)


def test_cookie_expires_with_its_session(clock: Clock) -> None:
    life_seconds = (sessions(clock).open(Tee.TPM).expires - datetime.now(UTC)).total_seconds()
    assert 290 < life_seconds <= 300


def test_sessions_that_have_ended_make_room_before_any_that_lives(clock: Clock) -> None:
    store = sessions(clock, Limits(sessions=4, session_seconds=300))
    for _ in range(3):
        store.open(Tee.TPM)
    clock.now = 200
    guest = store.open(Tee.TPM)
    clock.now = 300
    others = [store.open(Tee.TPM) for _ in range(3)]
    for session in (guest, *others):
        assert store.take_for_attest(session.cookie) is session


def test_oldest_of_guests_makes_room_where_all_have_sent_evidence(clock: Clock) -> None:
    store = sessions(clock, Limits(sessions=4))
    guests = [store.take_for_attest(store.open(Tee.TPM).cookie) for _ in range(4)]
    for guest in guests:
        store.complete(guest, attested())
    store.open(Tee.TPM)
    alive = [store.attested(guest.cookie) is not None for guest in guests]
    assert alive == [False, True, True, True]


@pytest.mark.parametrize("flood", ["openings", "attestations"])
def test_guest_that_attests_without_end_pushes_out_sessions_of_its_own_pod(
    clock: Clock, flood: str
) -> None:
    store = sessions(clock, Limits(sessions=32))
    of_shop = attested()
    of_bank = replace(of_shop, subject=replace(of_shop.subject, initdata_digest=OTHER))

    def attest(session: Session, as_what: Attested) -> None:
        store.complete(store.take_for_attest(session.cookie), as_what)

    for _ in range(64):
        attest(store.open(Tee.TPM), of_shop)
    guest = store.open(Tee.TPM)
    for _ in range(8):  # a guest of the other pod makes its evidence meanwhile
        session = store.open(Tee.TPM)
        if flood == "attestations":
            attest(session, of_shop)
    attest(guest, of_bank)
    for _ in range(64):
        attest(store.open(Tee.TPM), of_shop)
    assert store.attested(guest.cookie) is of_bank


def test_session_that_did_not_attest_acts_as_nobody(clock: Clock) -> None:
    store = sessions(clock)
    session = store.open(Tee.TPM)
    assert store.attested(session.cookie) is None
    store.take_for_attest(session.cookie)
    assert store.attested(session.cookie) is None


def test_dropped_session_is_gone(clock: Clock) -> None:
    store = sessions(clock)
    session = store.take_for_attest(store.open(Tee.TPM).cookie)
    store.drop(session)
    with pytest.raises(KbsRefusedError, match="no such session"):
        store.take_for_attest(session.cookie)


def test_flood_while_guests_make_their_evidence_does_not_push_out_each_of_them(
    clock: Clock,
) -> None:
    """As many openings as there is room: one in three guests can go on, where none could."""
    alive = 0
    for _ in range(100):
        store = sessions(clock, Limits(sessions=32))
        guest = store.open(Tee.TPM)
        for _ in range(64):
            store.open(Tee.TPM)
        with suppress(KbsRefusedError):
            alive += store.take_for_attest(guest.cookie) is guest
    assert 0 < alive < 100


def test_there_are_as_many_sessions_as_the_limit_says(clock: Clock) -> None:
    store = sessions(clock, Limits(sessions=4))
    alive = 0
    for session in [store.open(Tee.TPM) for _ in range(9)]:
        with suppress(KbsRefusedError):
            alive += store.take_for_attest(session.cookie) is session
    assert alive == 4


def test_flood_of_openings_pushes_out_openings_before_guests(clock: Clock) -> None:
    store = sessions(clock, Limits(sessions=4))
    guest = store.open(Tee.TPM)
    store.complete(store.take_for_attest(guest.cookie), attested())
    flood = [store.open(Tee.TPM) for _ in range(100)]
    assert store.attested(guest.cookie) is not None
    assert store.take_for_attest(flood[-1].cookie)
    with pytest.raises(KbsRefusedError):
        store.take_for_attest(flood[0].cookie)


def test_openings_keep_half_of_the_places_and_no_more(clock: Clock) -> None:
    """The newcomer is one of them; without any guest they push out each other."""
    store = sessions(clock, Limits(sessions=8))
    guests = [store.take_for_attest(store.open(Tee.TPM).cookie) for _ in range(8)]
    for guest in guests:
        store.complete(guest, attested())
    for opened in range(1, 100):
        store.open(Tee.TPM)
        alive = sum(store.attested(guest.cookie) is not None for guest in guests)
        assert alive == 8 - min(opened, 5)
    smallest = sessions(clock, Limits(sessions=1))
    for _ in range(2):
        last = smallest.open(Tee.TPM)
    assert smallest.take_for_attest(last.cookie) is last
