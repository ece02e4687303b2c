"""Steps 11 and 12 of the verifier: registers judged by values and by the event log, which names
what differs first.
"""

import hashlib
from dataclasses import replace

import pytest

from ccinit.agent.platform.measurement import debug_opens
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.evidence.tdx_report import ZERO_MEASUREMENT
from ccinit.formats.kbs.debug_grant import DebugGrant
from tests.fakes.platforms.tdx_boot import (
    APPLICATION,
    EVENT_TAG,
    SEPARATOR,
    FakeBoot,
    Measured,
    configuration,
    image,
    own_event,
)
from tests.fakes.platforms.tdx_quote import measurement
from tests.unit.guest_owner.kbs.values import failed
from tests.unit.guest_owner.kbs.verifiers.tdx_values import (
    LOG,
    booted_domain,
    evidence,
    got,
    refusal,
    tdx_reference,
    tdx_references,
    verify,
)

OPENS = debug_opens(
    DebugGrant(
        evidence_key=b"\1" * 32,
        expires_s=1_800_000_000,
        tools_root=RootHash(b"\2" * 32),
        keep_pod=True,
    )
)


def test_step_11_values_of_two_images_mixed_are_refused() -> None:
    boot = FakeBoot([*configuration("m"), *image("image-1")[:2], *image("image-2")[2:]])
    both = tdx_references(tdx_reference("image-2"), tdx_reference("image-1"))
    error = refusal(evidence(booted_domain(boot), boot.log), both)
    assert failed(error) == ["rtmr.1"]


@pytest.mark.parametrize(
    ("position", "rtmr", "said"),
    [(4, 1, "event 1: "), (5, 1, "event 2: "), (6, 2, "event 1: "), (7, 2, "event 2: ")],
)
def test_step_11_log_names_the_first_event_that_differs(
    position: int, rtmr: int, said: str
) -> None:
    boot = FakeBoot()
    boot.events[position] = replace(boot.events[position], digest=measurement("changed"))
    error = refusal(evidence(booted_domain(boot), boot.log))
    assert failed(error) == [f"rtmr.{rtmr}"]
    assert f"; {said}expected " in got(error)
    assert f" (RTMR {rtmr} of image-1), found {measurement('changed').hex()}" in got(error)


def test_step_11_log_names_an_event_too_few_or_too_many() -> None:
    boot = FakeBoot()
    del boot.events[7]
    error = refusal(evidence(booted_domain(boot), boot.log))
    assert failed(error) == ["rtmr.2"]
    assert "; event 2: expected RTMR 2 of image-1, found nothing more" in got(error)
    boot = FakeBoot()
    boot.events.append(Measured(3, EVENT_TAG, measurement("an addon")))
    error = refusal(evidence(booted_domain(boot), boot.log))
    assert "; event 3: one more than expected" in got(error)


def test_step_11_register_without_an_explanation_is_refused_all_the_same() -> None:
    domain = booted_domain()
    domain.rtmrs[1] = measurement("unexplained")
    error = refusal(evidence(domain, LOG))
    assert failed(error) == ["rtmr.1"]
    assert got(error).endswith("; no event log explains it")


def test_step_12_any_machine_is_appraised_by_its_log() -> None:
    boot = FakeBoot([*configuration("another machine"), *image("image-1")])
    assert verify(evidence(booted_domain(boot), boot.log)).reference.name == "image-1"


def test_step_12_both_good_separators_are_good() -> None:
    boot = FakeBoot()
    boot.events[2] = replace(boot.events[2], digest=hashlib.sha384(b"\xff" * 4).digest())
    assert verify(evidence(booted_domain(boot), boot.log)).reference.name == "image-1"


def test_step_12_without_a_log_rtmr_0_cannot_be_judged() -> None:
    error = refusal(evidence(booted_domain(), None))
    assert failed(error) == ["rtmr.0"]


def test_step_12_without_a_log_only_rtmr_3_may_be_empty_and_only_so_long() -> None:
    domain = booted_domain()
    domain.rtmrs[0] = ZERO_MEASUREMENT
    assert failed(refusal(evidence(domain, None))) == ["rtmr.0"]
    domain.rtmrs[3] = measurement("debug was opened")
    assert failed(refusal(evidence(domain, None))) == ["rtmr.0", "rtmr.3"]


def test_step_12_log_that_is_none_is_named() -> None:
    error = refusal(evidence(booted_domain(), b"no log"))
    assert failed(error) == ["event_log.truncated", "rtmr.0"]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Measured(1, APPLICATION, measurement("a driver")), f"type {APPLICATION:#x}"),
        (Measured(1, EVENT_TAG, measurement("a tag")), "type 0x6"),
        (
            Measured(1, SEPARATOR, hashlib.sha384(b"\1\0\0\0").digest()),
            "firmware reports an error",
        ),
    ],
)
def test_step_12_event_that_is_no_configuration_is_refused_in_rtmr_0(
    event: Measured, said: str
) -> None:
    boot = FakeBoot()
    boot.events.insert(1, event)
    error = refusal(evidence(booted_domain(boot), boot.log))
    assert failed(error) == ["rtmr.0"]
    assert got(error) == f"event 2: {said}"


@pytest.mark.parametrize("rtmr", [0, 3])
def test_step_12_register_that_the_log_does_not_make_is_refused(rtmr: int) -> None:
    domain = booted_domain()
    domain.rtmrs[rtmr] = measurement("an event that the log does not have")
    assert failed(refusal(evidence(domain, LOG))) == [f"rtmr.{rtmr}"]


def test_step_12_the_guests_own_events_are_appraised() -> None:
    boot = FakeBoot()
    boot.events.append(own_event('github.com/confidential-containers PullImage {"digest":"x"}'))
    boot.events.append(own_event("ccinit StartContainer {}"))
    domain = booted_domain(boot)
    assert domain.rtmrs[3] != bytes(48)
    assert verify(evidence(domain, boot.log)).measured["rtmr"]["3"] == domain.rtmrs[3].hex()


def test_step_12_domain_whose_debug_was_opened_is_refused() -> None:
    boot = FakeBoot()
    boot.events.append(own_event("ccinit StartContainer {}"))
    boot.events.append(own_event("workload/web/ccinit OpenDebug {}"))  # a container's: anybody's
    assert verify(evidence(booted_domain(boot), boot.log))
    boot.events.append(own_event(str(OPENS)))
    boot.events.append(own_event("ccinit StartContainer {}"))
    error = refusal(evidence(booted_domain(boot), boot.log))
    assert failed(error) == ["rtmr.3"]
    assert got(error) == "event 3: debug was opened"


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Measured(4, EVENT_TAG, measurement("x"), b"LEAA\x05\0\0\0a b c"), "aael.digest"),
        (Measured(4, APPLICATION, measurement("x")), "aael.kind"),
    ],
)
def test_step_12_event_that_is_not_the_guests_is_refused_in_rtmr_3(
    event: Measured, said: str
) -> None:
    boot = FakeBoot()
    boot.events.append(event)
    error = refusal(evidence(booted_domain(boot), boot.log))
    assert failed(error) == ["rtmr.3"]
    assert said in got(error)
