"""The exit status of a container whose guest has ended."""

import pytest

from ccinit.formats.planes.host_rpc import Code, Phase
from host_runtime.launch.guest import EndReason
from host_runtime.oci_runtime.exit_status import HOST_FAILURE, exit_status
from host_runtime.plane.rpc_client import GuestState


def state(code: Code, phase: Phase = Phase.STOP) -> GuestState:
    return GuestState(phase=phase, code=code, sequence=1, is_debug=False)


@pytest.mark.parametrize("code", [Code.OK, Code.WORKLOAD_EXIT])
@pytest.mark.parametrize("phase", [Phase.STOP, Phase.OFF])
def test_orderly_end_is_zero(code: Code, phase: Phase) -> None:
    assert exit_status(EndReason.RESET, state(code, phase)) == 0


@pytest.mark.parametrize("pod_exit_code", [0, 7, 137])
def test_exit_code_of_a_pod_that_the_host_may_know(pod_exit_code: int) -> None:
    last = state(Code.WORKLOAD_EXIT)
    assert exit_status(EndReason.RESET, last, pod_exit_code) == pod_exit_code
    assert exit_status(EndReason.RESET, state(Code.IMAGE), pod_exit_code) == Code.IMAGE.value
    assert exit_status(EndReason.RESET, None, pod_exit_code) == HOST_FAILURE


@pytest.mark.parametrize("code", sorted(set(Code) - {Code.OK, Code.WORKLOAD_EXIT}))
def test_every_other_code_is_its_number_and_none_is_a_hosts(code: Code) -> None:
    status = exit_status(EndReason.RESET, state(code))
    assert status == code.value
    assert status not in {0, HOST_FAILURE}
    assert status < 256


@pytest.mark.parametrize("end", sorted(set(EndReason) - {EndReason.RESET}))
def test_machine_that_does_not_end_by_its_guest_is_a_failure(end: EndReason) -> None:
    assert exit_status(end, state(Code.OK)) == HOST_FAILURE


@pytest.mark.parametrize("last", [None, state(Code.OK, Phase.RUN)])
def test_guest_that_goes_without_a_word_is_a_failure(last: GuestState | None) -> None:
    assert exit_status(EndReason.RESET, last) == HOST_FAILURE
