"""Reports through configfs-tsm, over a stand-in that behaves like the kernel's."""

import errno
from typing import Never

import pytest

from ccinit.errors import CcinitError, KernelError
from ccinit.kernel import tsm
from ccinit.kernel.tsm import (
    TsmReport,
    open_report_entry,
    open_vtpm_entry,
    read_provider,
    read_report,
)
from tests.fakes.platforms.configfs_tsm import DIRECTORY, FakeConfigfs, Request

REPORT_DATA = bytes(range(64))


def make_report(inblob: bytes, privlevel: int) -> tuple[bytes, bytes]:
    return b"report %d " % privlevel + inblob + bytes(1000), b"certificates"


@pytest.fixture
def configfs(monkeypatch: pytest.MonkeyPatch) -> FakeConfigfs:
    fake = FakeConfigfs(make_report=make_report)
    monkeypatch.setattr(tsm, "os", fake)
    monkeypatch.setattr("ccinit.kernel.tsm.time.sleep", lambda _seconds: None)
    return fake


def ask(provider: str = "sev_guest") -> TsmReport:
    with open_report_entry(REPORT_DATA, DIRECTORY) as fds:
        return read_report(fds, provider)


def reason_of(provider: str = "sev_guest") -> str:
    with pytest.raises(CcinitError) as caught:
        ask(provider)
    return caught.value.reason


def test_report_is_over_what_was_asked_for(configfs: FakeConfigfs) -> None:
    assert ask() == TsmReport(outblob=make_report(REPORT_DATA, 0)[0], auxblob=b"certificates")
    assert (configfs.requests, configfs.open_files) == ({}, 0)


def test_report_is_of_the_highest_level_that_the_guest_may_name(configfs: FakeConfigfs) -> None:
    configfs.floor = 2
    assert ask().outblob.startswith(b"report 2 ")


def test_driver_without_levels_is_not_asked_for_one(configfs: FakeConfigfs) -> None:
    configfs.floor, configfs.provider = None, "tdx_guest"
    assert ask("tdx_guest").outblob.startswith(b"report 0 ")


def test_report_that_comes_in_pieces_is_whole(configfs: FakeConfigfs) -> None:
    whole = ask()
    configfs.piece_bytes = 7
    assert ask() == whole


def test_report_without_certificates_is_a_report(configfs: FakeConfigfs) -> None:
    configfs.make_report = lambda inblob, _level: (inblob, b"")
    assert ask() == TsmReport(outblob=REPORT_DATA, auxblob=b"")


def test_driver_without_anything_beside_its_report_is_not_asked_for_it(
    configfs: FakeConfigfs,
) -> None:
    configfs.has_auxblob = False
    assert ask() == TsmReport(outblob=make_report(REPORT_DATA, 0)[0], auxblob=b"")
    assert configfs.open_files == 0


@pytest.mark.parametrize("number", [errno.EIO, errno.EAGAIN, errno.EBUSY])
def test_r17_device_that_recovers_in_time_is_waited_for(
    configfs: FakeConfigfs, number: int
) -> None:
    configfs.errors = [number] * 5
    assert ask().outblob == make_report(REPORT_DATA, 0)[0]


def test_r17_device_that_does_not_recover_is_given_up(configfs: FakeConfigfs) -> None:
    configfs.errors = [errno.EIO] * 100
    assert reason_of() == "tee.io"
    assert len(configfs.errors) == 94
    assert (configfs.requests, configfs.open_files) == ({}, 0)


def test_r17_error_that_will_not_pass_is_not_repeated(configfs: FakeConfigfs) -> None:
    configfs.errors = [errno.EINVAL, errno.EINVAL]
    assert reason_of() == "kernel.tsm_read"
    assert len(configfs.errors) == 1


def test_r17_report_above_the_kernels_own_cap_is_refused(configfs: FakeConfigfs) -> None:
    configfs.make_report = lambda _inblob, _level: (bytes(32 * 1024 + 1), b"")
    assert reason_of() == "tee.io"
    configfs.make_report = lambda _inblob, _level: (bytes(32 * 1024), b"")
    assert len(ask().outblob) == 32 * 1024


def test_r18_request_that_changes_around_its_report_is_refused(configfs: FakeConfigfs) -> None:
    def write_meanwhile(request: Request) -> None:
        request.written += 1

    configfs.before_read = write_meanwhile
    assert reason_of() == "tee.generation"
    configfs.before_read = None
    assert ask()


def test_report_of_another_driver_is_refused(configfs: FakeConfigfs) -> None:
    configfs.provider = "tdx_guest"
    assert reason_of() == "tee.provider"


def test_kernel_without_a_driver_makes_no_request(configfs: FakeConfigfs) -> None:
    configfs.provider = ""
    assert reason_of() == "kernel.tsm_mkdir"


def test_report_data_that_does_not_fit_is_refused(configfs: FakeConfigfs) -> None:
    with (
        pytest.raises(CcinitError, match="inblob") as caught,
        open_report_entry(bytes(65), DIRECTORY),
    ):
        pass
    assert caught.value.reason == "kernel.tsm_write"
    assert (configfs.requests, configfs.open_files) == ({}, 0)


@pytest.mark.parametrize("provider", ["sev_guest", "tdx_guest", ""])
def test_provider_is_asked_of_an_entry_that_does_not_stay(
    configfs: FakeConfigfs, provider: str
) -> None:
    configfs.provider = provider
    assert read_provider(DIRECTORY) == provider
    assert (configfs.requests, configfs.open_files) == ({}, 0)


def test_driver_that_cannot_be_asked_is_not_taken_for_none(
    configfs: FakeConfigfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: str, _mode: int) -> Never:
        raise OSError(errno.ENOMEM, "no memory")

    assert read_provider(DIRECTORY) == "sev_guest"
    monkeypatch.setattr(configfs, "mkdir", refuse)
    with pytest.raises(KernelError) as caught:
        read_provider(DIRECTORY)
    assert (caught.value.reason, caught.value.errno) == ("kernel.tsm_mkdir", errno.ENOMEM)


def test_kernel_without_configfs_tsm_has_no_provider() -> None:
    assert read_provider("/nonexistent/tsm/report") == ""


def test_entries_do_not_collide(configfs: FakeConfigfs) -> None:
    with open_report_entry(REPORT_DATA, DIRECTORY), open_report_entry(REPORT_DATA, DIRECTORY):
        assert len(configfs.requests) == 2


VTPM = "c476f1eb-0123-45a5-9641-b4e7dde5bfe3"


def ask_service(data: bytes = REPORT_DATA) -> TsmReport:
    with open_vtpm_entry(data, DIRECTORY) as fds:
        return read_report(fds, "sev_guest")


def test_services_report_comes_with_its_manifest(configfs: FakeConfigfs) -> None:
    configfs.floor = 2
    configfs.make_service = lambda guid, nonce: (b"report " + nonce, guid.encode())
    made = ask_service()
    assert made == TsmReport(outblob=b"report " + REPORT_DATA, manifestblob=VTPM.encode())
    assert ask_service(b"n" * 48).outblob == b"report " + b"n" * 48 + bytes(16)
    assert (configfs.requests, configfs.open_files) == ({}, 0)


def test_guest_without_an_svsm_has_no_services(configfs: FakeConfigfs) -> None:
    with pytest.raises(CcinitError) as caught:
        ask_service()
    assert caught.value.reason == "kernel.tsm_open"
    assert configfs.requests == {}


def test_plain_report_below_an_svsm_has_an_empty_manifest(configfs: FakeConfigfs) -> None:
    configfs.make_service = lambda _guid, _nonce: (b"", b"")
    assert ask().manifestblob == b""
