"""What the host has asked of a guest whose machine waits for its start."""

import threading

import pytest

from host_runtime.oci_runtime.host_requests import HostRequests


@pytest.mark.parametrize(
    ("names", "is_to_boot"), [(("start",), True), (("stop",), False), (("start", "stop"), False)]
)
def test_machine_boots_if_it_is_to_start_and_not_to_stop(
    names: tuple[str, ...], *, is_to_boot: bool
) -> None:
    requests = HostRequests()
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(requests.await_start()), daemon=True)
    for name in names:
        getattr(requests, name).set()
    waiting.start()
    waiting.join(30)
    assert answers == [is_to_boot]


def test_machine_waits_until_something_is_asked() -> None:
    requests = HostRequests()
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(requests.await_start()))
    waiting.start()
    waiting.join(0.2)
    assert answers == []
    requests.start.set()
    waiting.join(30)
    assert answers == [True]
