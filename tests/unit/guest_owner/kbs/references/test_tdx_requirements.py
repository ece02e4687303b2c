"""Requirements of TDX: read whole, and refused by the member that is wrong."""

from dataclasses import replace

import pytest

from ccinit.errors import FormatError
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.references.requirements import ParavisorRequirements, parse_requirements
from tests.unit.guest_owner.kbs.verifiers.azure_values import AZURE_REQUIREMENTS
from tests.unit.guest_owner.kbs.verifiers.tdx_values import DEMANDED, REQUIREMENTS_TOML

BELOW_PARAVISOR = AZURE_REQUIREMENTS[Tee.AZ_TDX_VTPM]


def test_requirements_are_read_whole() -> None:
    assert parse_requirements(REQUIREMENTS_TOML.encode(), Tee.TDX) == DEMANDED


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("version = 1", "version = 2", "requirements.version"),
        ('"00000000000602e7"', '"e7"', "requirements.xfam"),
        ('"0000000010000000"', '"0000000010000001"', "requirements.td_attributes"),
        ('"0000000010000000"', '"0000000010000080"', "requirements.td_attributes"),
        ('"0000000010000000"', '"0000000000000000"', "requirements.td_attributes"),
        ('"0000000010000000"', '"0000000030000000"', "requirements.td_attributes"),
        ("mrseam = [", "mrseam = []\nother = [", "requirements.mrseam"),
        ("mrseam = [", 'mrseam = ["00", ', "requirements.mrseam"),
        ("[tcb]", "[other]", "requirements.tcb"),
        ("fmspc = [", 'fmspc = ["00", ', "requirements.tcb.fmspc"),
        ("fmspc = [", "fmspc = []\nother = [", "requirements.tcb.fmspc"),
        ("tee_tcb_svn", "tee_svn", "requirements.tcb.tee_tcb_svn"),
        ('cpu_svn = "', 'cpu_svn = "00', "requirements.tcb.cpu_svn"),
        ("pce_svn = 13", 'pce_svn = 13\nrevoked_ppids = ["00"]', "requirements.tcb.revoked_ppids"),
        ("pce_svn = 13", "pce_svn = -1", "requirements.tcb.pce_svn"),
        ("pce_svn = 13", "pce_svn = 65536", "requirements.tcb.pce_svn"),
        ('qe_mrsigner = "', 'qe_mrsigner = "zz', "requirements.tcb.qe_mrsigner"),
        ("qe_isv_svn = 4", "qe_isv_svn = true", "requirements.tcb.qe_isv_svn"),
        ("qe_isv_svn = 4", "qe_isv_svn = 4\nstatus = 1", "requirements.tcb.unknown"),
        ("version = 1", "version = 1\nstatus = 1", "requirements.unknown"),
    ],
)
def test_requirements_with_one_wrong_member_are_refused(old: str, new: str, reason: str) -> None:
    assert old in REQUIREMENTS_TOML
    with pytest.raises(FormatError) as caught:
        parse_requirements(REQUIREMENTS_TOML.replace(old, new, 1).encode(), Tee.TDX)
    assert caught.value.reason == reason


def test_paravisor_may_take_exceptions_of_its_domain() -> None:
    text = BELOW_PARAVISOR.replace('"0000000010000000"', '"0000000000000000"')
    demanded = parse_requirements(text.encode(), Tee.AZ_TDX_VTPM)
    assert isinstance(demanded, ParavisorRequirements)
    assert demanded.hardware == replace(DEMANDED, td_attributes=0, below_paravisor=True)


@pytest.mark.parametrize("attributes", ["0000000000000001", "0000000020000000"])
def test_domain_of_a_paravisor_is_looked_into_by_nobody(attributes: str) -> None:
    text = BELOW_PARAVISOR.replace("0000000010000000", attributes)
    with pytest.raises(FormatError) as caught:
        parse_requirements(text.encode(), Tee.AZ_TDX_VTPM)
    assert caught.value.reason == "requirements.td_attributes"
