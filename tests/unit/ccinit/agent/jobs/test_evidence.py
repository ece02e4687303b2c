"""Every platform that can be detected has an Attester and a way to bind initdata."""

from ccinit.agent.jobs import evidence, measure
from ccinit.attest.detect import _TABLE
from ccinit.formats.tee import Tee

DETECTED = {row.tee for row in _TABLE if row.tee is not None}


def test_detected_platforms_have_an_attester_and_no_others() -> None:
    assert set(evidence.ATTESTERS) == DETECTED >= {Tee.TPM}


def test_detected_platforms_bind_initdata_and_no_others() -> None:
    assert set(measure.BINDERS) == DETECTED
