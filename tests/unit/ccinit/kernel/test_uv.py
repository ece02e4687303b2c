"""The call to /dev/uv as the driver reads it, and what comes back."""

import errno
import os

import pytest

from ccinit.errors import CcinitError
from ccinit.kernel.uv import UvMeasurement, retrieve_measurement
from guest_owner.kbs.attestation_requests.se import open_secrets
from tests.fakes.platforms.ultravisor import BAD_KEY, FD, Ultravisor
from tests.unit.guest_owner.kbs.se_values import SEALING_KEY, se_request

REQUEST = se_request()
USER_DATA = os.urandom(112)


@pytest.fixture
def ultravisor(monkeypatch: pytest.MonkeyPatch) -> Ultravisor:
    machine = Ultravisor()
    monkeypatch.setattr("ccinit.kernel.uv.fcntl.ioctl", machine.ioctl)
    return machine


def retrieve(
    request: bytes = REQUEST.blob,
    user_data: bytes = USER_DATA,
    measurement_bytes: int = 64,
    additional_bytes: int = 64,
) -> UvMeasurement:
    return retrieve_measurement(
        FD,
        request,
        user_data,
        measurement_bytes=measurement_bytes,
        additional_bytes=additional_bytes,
    )


def reason_of(**arguments: object) -> str:
    with pytest.raises(CcinitError) as caught:
        retrieve(**arguments)  # type: ignore[arg-type]
    return caught.value.reason


def test_measurement_and_additional_data_come_back(ultravisor: Ultravisor) -> None:
    answer = retrieve()
    secrets = open_secrets(SEALING_KEY, REQUEST.sealed_key, REQUEST.sealed_nonce)
    assert answer.config_uid == ultravisor.config_uid
    assert answer.additional == 2 * ultravisor.key_hash(0)
    assert answer.measurement == ultravisor.measure(
        secrets.measurement_key, secrets.nonce, USER_DATA, answer.additional
    )
    assert ultravisor.asked == [USER_DATA]


@pytest.mark.parametrize("length", [0, 1, 256])
def test_user_data_of_each_length_are_measured(ultravisor: Ultravisor, length: int) -> None:
    retrieve(user_data=b"u" * length)
    assert ultravisor.asked == [b"u" * length]


def test_too_much_user_data_is_not_asked_for(ultravisor: Ultravisor) -> None:
    assert reason_of(user_data=bytes(257)) == "uv.user_data"
    assert not ultravisor.asked


@pytest.mark.parametrize(
    "arguments",
    [
        {"request": b""},
        {"request": bytes(0x100001)},
        {"measurement_bytes": 0},
        {"measurement_bytes": 0x8001},
        {"additional_bytes": 0x8001},
    ],
)
def test_r17_length_that_the_driver_does_not_take_ends_the_job(
    ultravisor: Ultravisor, arguments: dict[str, object]
) -> None:
    assert reason_of(**arguments) == "kernel.uv"
    assert retrieve()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EFAULT, errno.ENOMEM, errno.ENOTTY])
def test_r17_drivers_refusal_is_not_repeated(ultravisor: Ultravisor, number: int) -> None:
    ultravisor.errors = [number]
    with pytest.raises(CcinitError) as caught:
        retrieve()
    assert (caught.value.reason, getattr(caught.value, "errno", 0)) == ("kernel.uv", number)
    assert retrieve()


def test_r17_ultravisors_refusal_names_its_codes(ultravisor: Ultravisor) -> None:
    ultravisor.refusal = (BAD_KEY, 0x20)
    with pytest.raises(CcinitError, match="0x0108, 0x0020") as caught:
        retrieve()
    assert caught.value.reason == "tee.io"


def test_request_to_another_machine_is_refused_by_the_ultravisor(ultravisor: Ultravisor) -> None:
    ultravisor.machine = 1
    assert reason_of() == "tee.io"
    ultravisor.machine = 0
    assert retrieve()


def test_answer_of_another_size_is_refused_by_the_ultravisor(ultravisor: Ultravisor) -> None:
    assert reason_of(additional_bytes=32) == "tee.io"
    assert reason_of(measurement_bytes=32) == "tee.io"
