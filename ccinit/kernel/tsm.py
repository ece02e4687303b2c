"""Reports of a TEE through configfs-tsm (Linux Documentation/ABI/testing/configfs-tsm-report).

A directory below `tsm/report` is one request: what is written to its attributes goes into the
report, which the kernel makes when `outblob` is read. There are two halves, because the process
that may make directories must not parse reports:

* `open_report_entry` makes the entry and writes the request. A binary attribute takes effect when
  its *last* descriptor closes, so `inblob` is written here and never passed on.
* `read_report` reads the report through descriptors, in the process that inherited them.

`generation` counts the writes. If it changed around a report, that may belong to another request,
and the caller starts again with a new entry. The kernel keeps what was read through a descriptor
and returns it again, even after a seek, so `generation` is read through two descriptors.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TypeVar

from ccinit.errors import KernelError, PeerError
from ccinit.kernel.entropy import random_bytes
from ccinit.kernel.libc import kernel_error
from ccinit.values import frozen

T = TypeVar("T")

REPORTS = "/sys/kernel/config/tsm/report"
INBLOB_MAX_BYTES = 64
OUTBLOB_MAX_BYTES = 32 * 1024  # TSM_OUTBLOB_MAX

# What a child gets, read-only. Not every driver has the optional ones.
ATTRIBUTES = ("provider", "generation", "outblob")
GENERATION_AFTER = "generation_after"
OPTIONAL_ATTRIBUTES = ("auxblob", "manifestblob")
SEV_GUEST, TDX_GUEST, CCA_GUEST = "sev_guest", "tdx_guest", "arm_cca_guest"
"""The drivers, as `provider` names them."""

SVSM, VTPM_SERVICE = "svsm", "c476f1eb-0123-45a5-9641-b4e7dde5bfe3"

# All guests of a host share the secure processor, which refuses reports while it is busy.
_TRANSIENT = frozenset((errno.EIO, errno.EAGAIN, errno.EBUSY))
_MAX_ATTEMPTS = 6
_FIRST_DELAY_SECONDS = 0.05
_MAX_TEXT_BYTES = 4096


OpenReport = Callable[[bytes], AbstractContextManager[Mapping[str, int]]]
"""Requests a report over report data; yields open descriptors by the names above."""


@frozen
class TsmReport:
    """One report in the provider's own format, and further blobs, empty if there are none.

    Attributes:
        auxblob: certificates.
        manifestblob: of the service that the report is about.
    """

    outblob: bytes
    auxblob: bytes = b""
    manifestblob: bytes = b""


def read_provider(directory: str = REPORTS) -> str:
    """Return the name of the driver that makes reports (`sev_guest`, `tdx_guest`), or "".

    Only an entry tells it, so one is made and removed.

    Raises:
        KernelError: `kernel.tsm_…`; there may be a driver.
    """
    if not os.path.isdir(directory):
        return ""
    try:
        with _entry(directory) as entry:
            return _read_text(entry, "provider")
    except KernelError as error:
        if error.errno != errno.ENXIO:
            raise
        return ""  # no driver is registered


@contextmanager
def open_report_entry(report_data: bytes, directory: str = REPORTS) -> Iterator[Mapping[str, int]]:
    """Ask for a report over `report_data`, 1 to 64 bytes; yields attributes as descriptors.

    Where the platform has privilege levels, the report is for the most privileged one that the
    guest may request: `privlevel_floor`.

    Raises:
        KernelError: `kernel.tsm_…`.
    """
    with _entry(directory) as entry:
        floor = os.path.join(entry, "privlevel_floor")
        if os.path.exists(floor):
            _write(entry, "privlevel", _read_text(entry, "privlevel_floor").encode())
        _write(entry, "inblob", report_data)
        with _open_attributes(entry) as fds:
            yield fds


@contextmanager
def open_vtpm_entry(report_data: bytes, directory: str = REPORTS) -> Iterator[Mapping[str, int]]:
    """Ask the guest's SVSM for a report of its vTPM, over `report_data`, padded to 64 bytes.

    The report is for VMPL 0, whatever level the guest has; needs Linux 6.10.

    Raises:
        KernelError: `kernel.tsm_…`.
    """
    with _entry(directory) as entry:
        _write(entry, "service_provider", SVSM.encode())
        _write(entry, "service_guid", VTPM_SERVICE.encode())
        _write(entry, "inblob", report_data.ljust(INBLOB_MAX_BYTES, b"\0"))
        with _open_attributes(entry) as fds:
            yield fds


@contextmanager
def _open_attributes(entry: str) -> Iterator[Mapping[str, int]]:
    with ExitStack() as stack:
        fds = {}
        optional = (
            name for name in OPTIONAL_ATTRIBUTES if os.path.exists(os.path.join(entry, name))
        )
        names = {name: name for name in (*ATTRIBUTES, *optional)}
        for name, attribute in (names | {GENERATION_AFTER: "generation"}).items():
            fds[name] = _open(entry, attribute, os.O_RDONLY)
            stack.callback(os.close, fds[name])
        yield fds


def read_report(fds: Mapping[str, int], provider: str) -> TsmReport:
    """Read the report that was requested.

    Args:
        fds: attributes by name.
        provider: the driver whose format the caller reads.

    Raises:
        PeerError: `tee.provider`, another driver; `tee.io`, no report in six attempts;
            `tee.generation`, the request changed meanwhile.
        KernelError: `kernel.tsm_read`.
    """
    found = _read(fds, "provider", _MAX_TEXT_BYTES).decode("ascii", "replace").strip()
    if found != provider:
        raise PeerError("tee.provider", f"expected {provider}, found {found[:64]!r}")
    before = _read(fds, "generation", _MAX_TEXT_BYTES)
    outblob = until_ready(lambda: _read(fds, "outblob"))
    beside = {name: _read(fds, name) for name in OPTIONAL_ATTRIBUTES if name in fds}
    report = TsmReport(outblob=outblob, **beside)
    if _read(fds, GENERATION_AFTER, _MAX_TEXT_BYTES) != before:
        raise PeerError("tee.generation", "the request changed while its report was read")
    return report


def until_ready(ask: Callable[[], T]) -> T:
    """Ask a TEE for a report, at most six times while it says that it is busy.

    Raises:
        PeerError: `tee.io`, it stayed busy.
        KernelError: what `ask` raised, if it says something else.
    """
    attempts, delay = 0, _FIRST_DELAY_SECONDS
    while True:
        attempts += 1
        try:
            return ask()
        except KernelError as error:
            if error.errno not in _TRANSIENT:
                raise
            if attempts == _MAX_ATTEMPTS:
                raise PeerError("tee.io", f"{attempts} attempts; {error.detail}") from error
        time.sleep(delay)
        delay *= 2


def _read(fds: Mapping[str, int], name: str, max_bytes: int = OUTBLOB_MAX_BYTES) -> bytes:
    """Read an attribute to its end, in as many reads as that takes."""
    data = bytearray()
    while True:
        try:
            piece = os.read(fds[name], max_bytes + 1 - len(data))
        except OSError as error:
            raise kernel_error(error, "tsm_read", name) from error
        if not piece:
            return bytes(data)
        data += piece
        if len(data) > max_bytes:
            raise PeerError("tee.io", f"{name} has more than {max_bytes} bytes")


@contextmanager
def _entry(directory: str) -> Iterator[str]:
    path = os.path.join(directory, f"ccinit-{random_bytes(8).hex()}")
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        raise kernel_error(error, "tsm_mkdir", directory) from error
    try:
        yield path
    finally:
        # An entry that stays costs a few bytes, which is no reason to end the guest.
        with suppress(OSError):
            os.rmdir(path)


def _open(entry: str, name: str, flags: int) -> int:
    try:
        return os.open(os.path.join(entry, name), flags | os.O_CLOEXEC)
    except OSError as error:
        raise kernel_error(error, "tsm_open", name) from error


def _write(entry: str, name: str, value: bytes) -> None:
    fd = _open(entry, name, os.O_WRONLY)
    try:
        written = os.write(fd, value)
    except OSError as error:
        raise kernel_error(error, "tsm_write", name) from error
    finally:
        os.close(fd)
    if written != len(value):
        raise KernelError(errno.EIO, "tsm_write", name)


def _read_text(entry: str, name: str) -> str:
    fd = _open(entry, name, os.O_RDONLY)
    try:
        return _read({name: fd}, name, _MAX_TEXT_BYTES).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
