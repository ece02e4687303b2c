"""Read what is booted: a UKI, the three files of a direct boot, or the report of a built image.

The report (`ccinit-prod.json`, written by `rootfs_builder.guest_image.report`) is beside the files
that it names, with the digest of each; a file with another digest is refused.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ccinit.errors import ConfigError, FormatError
from measured_boot.command_line.files import read_capped
from measured_boot.command_line.usage import UsageError
from measured_boot.image.pe import MAX_IMAGE_BYTES
from measured_boot.platforms import Boot
from measured_boot.prediction import DirectKernelBoot, UkiBoot

MAX_REPORT_BYTES: Final = 1024 * 1024
MAX_INITRD_BYTES: Final = MAX_IMAGE_BYTES
MAX_LINE_BYTES: Final = 64 * 1024
REPORT_SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFiles:
    """What the command line of a tool names.

    Attributes:
        image: a UKI, a kernel if the other two are given, or a report.
        initrd, command_line: files of a direct boot.
    """

    image: Path
    initrd: Path | None = None
    command_line: Path | None = None

    @property
    def boot(self) -> Boot | None:
        """Which path the files are of; None for a report, which has both.

        Raises:
            UsageError: `predict.what`: half of a direct boot, or more than a report.
        """
        if self.image.suffix == REPORT_SUFFIX:
            if self.initrd is not None or self.command_line is not None:
                raise UsageError("predict.what", "a report names its initrd and command line")
            return None
        if self.initrd is None and self.command_line is None:
            return Boot.UKI
        if self.initrd is None or self.command_line is None:
            raise UsageError("predict.what", "direct boot needs both --initrd and --command-line")
        return Boot.DIRECT

    def read(self, boot: Boot | None = None) -> UkiBoot | DirectKernelBoot:
        """Return what is booted.

        Args:
            boot: which path to take of a report, which has both; None takes the UKI.

        Raises:
            UsageError: as `boot`.
            ConfigError: `predict.what`: the command line is not ASCII.
            FormatError: with a reason below `image_report`; `file.length`.
        """
        if self.boot is None:
            return read_reported(self.image, boot or Boot.UKI)
        if self.initrd is None or self.command_line is None:
            return UkiBoot(uki=read_capped(self.image, MAX_IMAGE_BYTES))
        return DirectKernelBoot(
            kernel=read_capped(self.image, MAX_IMAGE_BYTES),
            initrd=read_capped(self.initrd, MAX_INITRD_BYTES),
            command_line=_read_line(self.command_line),
        )


def read_reported(report: Path, boot: Boot) -> UkiBoot | DirectKernelBoot:
    """Return what the image of a report boots by one path.

    Raises:
        FormatError: `image_report.json`, `image_report.file`: there is no such file, or its
            content is not the one that the report names.
    """
    described = read_report(report)["files"]
    stem = report.name.removesuffix(REPORT_SUFFIX)

    def read(suffix: str) -> bytes:
        name = f"{stem}{suffix}"
        path = report.with_name(name)
        if name not in described or not path.is_file():
            raise FormatError(
                "image_report.file", f"{path} is missing, or {report} does not name it"
            )
        data = read_capped(path, MAX_IMAGE_BYTES)
        if hashlib.sha256(data).hexdigest() != described[name]["sha256"]:
            raise FormatError("image_report.file", f"{path} is not the file that {report} names")
        return data

    if boot is Boot.UKI:
        return UkiBoot(uki=read(".efi"))
    return DirectKernelBoot(
        kernel=read(".vmlinuz"),
        initrd=read(".direct.initrd"),
        command_line=_decode_line(read(".direct.cmdline"), report),
    )


def read_report(report: Path) -> dict[str, Any]:
    """Return the report of a built image.

    Raises:
        FormatError: `image_report.json`: it is no report, or of an unknown format;
            `file.length`.
    """
    try:
        content = json.loads(read_capped(report, MAX_REPORT_BYTES))
    except (ValueError, RecursionError) as error:
        raise FormatError("image_report.json", f"{report} is not JSON") from error
    if not isinstance(content, dict) or content.get("format") != 1:
        raise FormatError("image_report.json", f"{report} is not a report of a built image")
    files = content.get("files")
    if not isinstance(files, dict) or not all(
        isinstance(entry, dict) and "sha256" in entry for entry in files.values()
    ):
        raise FormatError("image_report.json", f"{report} names no files")
    return content


def _read_line(path: Path) -> str:
    return _decode_line(read_capped(path, MAX_LINE_BYTES), path)


def _decode_line(data: bytes, where: Path) -> str:
    try:
        return data.decode("ascii").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ConfigError("predict.what", f"{where}: the command line is not ASCII") from error
