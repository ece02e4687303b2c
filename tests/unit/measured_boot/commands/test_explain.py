from pathlib import Path

import pytest

from measured_boot.cli import main
from tests.fakes.published.built_image import write_built_image


def test_explain_prints_the_chain_and_draws_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, drawing = write_built_image(tmp_path), tmp_path / "chain.svg"
    platform = "ovmf-2025.02_direct_qemu-10"
    command = ["explain", str(report), "--platform", platform, "--svg", str(drawing)]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"ccinit-prod.json: prod, on {platform}"
    assert any("kernel's EFI entry" in line and "PCR 9" in line for line in lines)
    assert f">{platform}</text>" in drawing.read_text()


def test_explain_without_platform_is_the_uki(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(write_built_image(tmp_path, "test"))]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "ccinit-test.json: test, on ovmf-2025.02_stub-257.13_qemu-10"
    assert any(line.startswith("systemd-stub") for line in lines)


def test_explain_unknown_platform_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(write_built_image(tmp_path)), "--platform", "x"]) == 2
    assert "[platform.unknown]" in capsys.readouterr().err
