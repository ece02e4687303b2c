"""Whose word PID 1 takes for what the guest runs on."""

import pytest

from ccinit.agent.phases.configuration import _name_platform
from ccinit.attest.detect import Platform
from ccinit.errors import ChildError
from ccinit.formats.evidence.tee import Tee

TPM = Platform(tee=Tee.TPM, asked=(Tee.AZ_SNP_VTPM, Tee.AZ_TDX_VTPM))


@pytest.mark.parametrize("tee", [Tee.TPM, Tee.AZ_SNP_VTPM, Tee.AZ_TDX_VTPM])
def test_child_names_one_of_those_that_look_the_same(tee: Tee) -> None:
    named = _name_platform(TPM, tee)
    assert (named.tee, named.nodes) == (tee, TPM.nodes)


@pytest.mark.parametrize(
    ("platform", "tee"),
    [
        (TPM, Tee.SNP),
        (TPM, Tee.CCA),
        (Platform(tee=Tee.SNP), Tee.TPM),
        (Platform(tee=Tee.TDX), Tee.AZ_TDX_VTPM),
    ],
)
def test_child_that_names_another_is_not_believed(platform: Platform, tee: Tee) -> None:
    with pytest.raises(ChildError) as refused:
        _name_platform(platform, tee)
    assert refused.value.reason == "child.protocol"
