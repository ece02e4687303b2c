"""configfs-tsm without a kernel: stands in for `os` in `ccinit.kernel.tsm`.

Behaves as Linux 6.12 (drivers/virt/coco/tsm.c, fs/configfs/file.c) where it matters:

* a directory below `tsm/report` is a request with a generation that each write advances;
* a binary attribute is committed when its last descriptor closes, its errors going nowhere;
* what is read first is kept in the open file, and a text is given again from there after a seek;
  a failed reading is not kept; `outblob` is made when it is first read;
* without `inblob` reading is EINVAL, without a driver making a request is ENXIO;
* attributes that the driver does not have do not exist; those of services only below an SVSM;
* a service's report is made by the service provider, whatever the privilege level.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field

MakeReport = Callable[[bytes, int], tuple[bytes, bytes]]
DIRECTORY = "/fake/tsm/report"
SERVICES = ("service_provider", "service_guid", "service_manifest_version", "manifestblob")
WRITTEN = frozenset(("inblob", "privlevel", *SERVICES[:3]))
TEXTS = ("provider", "generation", "privlevel_floor")


@dataclass(kw_only=True)
class Request:
    """One entry."""

    inblob: bytes = b""
    privlevel: int = 0
    written: int = 0
    read: int = 0
    outblob: bytes = b""
    auxblob: bytes = b""
    manifestblob: bytes = b""
    service_provider: str = ""
    service_guid: str = "00000000-0000-0000-0000-000000000000"


@dataclass(kw_only=True)
class OpenFile:
    """One open attribute: what was written so far, or what is left to read."""

    request: Request
    name: str
    content: bytes | None = None
    position: int = 0


@dataclass(kw_only=True)
class FakeConfigfs:
    """The file system, and the driver behind it.

    Attributes:
        make_report: gives report and certificates for report data and privilege level.
        provider: the driver's name; "" is a kernel without a driver.
        floor: least privilege level; None is a driver without such levels.
        has_auxblob: whether the driver says something beside its reports.
        errors: errno numbers, one for each report that will not be made.
        piece_bytes: how much one read gives at most.
        make_service: gives report and manifest of a service for its GUID and report data; None is
            a guest without an SVSM.
        before_read: called when `outblob` is opened for a report; a second writer may come there.
    """

    make_report: MakeReport
    provider: str = "sev_guest"
    floor: int | None = 0
    has_auxblob: bool = True
    errors: list[int] = field(default_factory=list)
    piece_bytes: int = 1 << 20
    make_service: Callable[[str, bytes], tuple[bytes, bytes]] | None = None
    before_read: Callable[[Request], None] | None = None
    requests: dict[str, Request] = field(default_factory=dict)
    made: int = 0
    _files: dict[int, OpenFile] = field(default_factory=dict)
    _next: int = 1000

    O_RDONLY = os.O_RDONLY
    O_WRONLY = os.O_WRONLY
    O_CLOEXEC = os.O_CLOEXEC
    SEEK_SET = os.SEEK_SET

    @property
    def path(self) -> "FakeConfigfs":
        return self

    @property
    def open_files(self) -> int:
        return len(self._files)

    def join(self, *parts: str) -> str:
        return "/".join(parts)

    def isdir(self, path: str) -> bool:
        return path == DIRECTORY

    def exists(self, path: str) -> bool:
        entry, _, name = path.rpartition("/")
        return entry in self.requests and name in self._attributes()

    def mkdir(self, path: str, _mode: int) -> None:
        if not self.provider:
            raise OSError(errno.ENXIO, "no driver")
        assert path.startswith(DIRECTORY + "/")
        assert path not in self.requests
        self.requests[path] = Request()
        self.made += 1

    def rmdir(self, path: str) -> None:
        del self.requests[path]

    def open(self, path: str, flags: int) -> int:
        if not self.exists(path):
            raise OSError(errno.ENOENT, path)
        entry, _, name = path.rpartition("/")
        writing = bool(flags & os.O_WRONLY)
        if writing is not (name in WRITTEN):
            raise OSError(errno.EACCES, path)
        self._next += 1
        request = self.requests[entry]
        self._files[self._next] = OpenFile(request=request, name=name)
        return self._next

    def write(self, fd: int, data: bytes) -> int:
        file = self._files[fd]
        if file.name == "privlevel":
            level = int(data)
            if self.floor is None or not self.floor <= level <= 3:
                raise OSError(errno.EINVAL, "privlevel")
            file.request.privlevel = level
            file.request.written += 1
            return len(data)
        if file.name.startswith("service_"):
            if file.name == "service_provider" and data != b"svsm":
                raise OSError(errno.EINVAL, "service_provider")
            setattr(file.request, file.name, data.decode())
            file.request.written += 1
            return len(data)
        content = (file.content or b"") + data
        if len(content) > 64:
            raise OSError(errno.EFBIG, "inblob")
        file.content = content
        return len(data)

    def close(self, fd: int) -> None:
        file = self._files.pop(fd)
        if file.name == "inblob" and file.content is not None:
            file.request.inblob = file.content
            file.request.written += 1

    def lseek(self, fd: int, offset: int, _whence: int) -> int:
        file = self._files[fd]
        assert file.name in TEXTS, "a binary attribute is never read a second time"
        file.position = offset
        return offset

    def read(self, fd: int, size: int) -> bytes:
        file = self._files[fd]
        if file.content is None:
            file.content = self._content(file)
        data = file.content[file.position :][: min(size, self.piece_bytes)]
        file.position += len(data)
        return data

    def _attributes(self) -> tuple[str, ...]:
        levels = () if self.floor is None else ("privlevel", "privlevel_floor")
        beside = ("auxblob",) if self.has_auxblob else ()
        services = () if self.make_service is None else SERVICES
        return ("provider", "generation", "inblob", "outblob", *beside, *levels, *services)

    def _content(self, file: OpenFile) -> bytes:
        request = file.request
        match file.name:
            case "provider":
                return f"{self.provider}\n".encode()
            case "generation":
                return f"{request.written}\n".encode()
            case "privlevel_floor":
                return f"{self.floor}\n".encode()
            case _:
                self._make(request)
                content: bytes = getattr(request, file.name)
                return content

    def _make(self, request: Request) -> None:
        if not request.inblob:
            raise OSError(errno.EINVAL, "no inblob")
        if self.before_read is not None:
            self.before_read(request)
        if request.outblob and request.read == request.written:
            return
        if self.errors:
            raise OSError(self.errors.pop(0), "no report")
        if request.service_provider and self.make_service is not None:
            if len(request.inblob) != 64:
                raise OSError(errno.EINVAL, "a nonce of 64 bytes")
            made = self.make_service(request.service_guid, request.inblob)
            request.outblob, request.manifestblob = made
        else:
            request.outblob, request.auxblob = self.make_report(request.inblob, request.privlevel)
        request.read = request.written
