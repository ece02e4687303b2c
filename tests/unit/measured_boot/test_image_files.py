from pathlib import Path
from typing import Any

import pytest

from ccinit.errors import ConfigError, FormatError, LimitExceededError
from measured_boot import image_files
from measured_boot.image_files import ImageFiles, read_report, read_reported
from measured_boot.platforms import Boot
from measured_boot.prediction import DirectKernelBoot, UkiBoot
from tests.fakes.published.built_image import PROD_LINE, write_built_image
from tests.fakes.published.pe_images import kernel_image

DIRECT = DirectKernelBoot(kernel=kernel_image(), initrd=b"initrd of prod", command_line=PROD_LINE)


def test_read_report_gives_each_boot_path(tmp_path: Path) -> None:
    files = ImageFiles(image=write_built_image(tmp_path))
    uki = UkiBoot(uki=(tmp_path / "ccinit-prod.efi").read_bytes())
    assert files.read() == uki
    assert files.read(Boot.UKI) == uki
    assert files.read(Boot.DIRECT) == DIRECT


def test_read_files_by_name(tmp_path: Path) -> None:
    write_built_image(tmp_path)
    uki = tmp_path / "ccinit-prod.efi"
    assert ImageFiles(image=uki).read() == UkiBoot(uki=uki.read_bytes())
    direct = ImageFiles(
        image=tmp_path / "ccinit-prod.vmlinuz",
        initrd=tmp_path / "ccinit-prod.direct.initrd",
        command_line=tmp_path / "ccinit-prod.direct.cmdline",
    )
    assert direct.read() == DIRECT


def test_read_report_with_files_beside_it_is_refused(tmp_path: Path) -> None:
    report = write_built_image(tmp_path)
    assert ImageFiles(image=report).read()
    with pytest.raises(ConfigError) as error:
        ImageFiles(image=report, initrd=report).read()
    assert error.value.reason == "predict.what"


@pytest.mark.parametrize("suffix", [".vmlinuz", ".direct.initrd", ".direct.cmdline"])
def test_read_reported_file_that_was_changed_or_is_gone_is_refused(
    tmp_path: Path, suffix: str
) -> None:
    report = write_built_image(tmp_path)
    path = tmp_path / f"ccinit-prod{suffix}"
    assert read_reported(report, Boot.DIRECT) == DIRECT
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(FormatError) as error:
        read_reported(report, Boot.DIRECT)
    assert error.value.reason == "image_report.file"
    path.unlink()
    with pytest.raises(FormatError) as error:
        read_reported(report, Boot.DIRECT)
    assert error.value.reason == "image_report.file"


@pytest.mark.parametrize(
    "changes", [{"format": 2}, {"files": []}, {"files": {"x": {}}}, {"files": {"x": "y"}}]
)
def test_read_report_of_another_form_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert read_report(write_built_image(tmp_path))["profile"] == "prod"
    with pytest.raises(FormatError) as error:
        read_report(write_built_image(tmp_path, **changes))
    assert error.value.reason == "image_report.json"


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "\xff"])
def test_read_report_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ccinit-prod.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError) as error:
        read_report(path)
    assert error.value.reason == "image_report.json"


def test_read_report_refuses_what_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = write_built_image(tmp_path)
    monkeypatch.setattr(image_files, "MAX_REPORT_BYTES", report.stat().st_size - 1)
    with pytest.raises(LimitExceededError) as error:
        read_report(report)
    assert error.value.reason == "file.length"
