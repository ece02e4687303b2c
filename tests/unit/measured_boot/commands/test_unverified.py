import json
from pathlib import Path

import pytest

from measured_boot.cli import main
from measured_boot.platforms import Technology
from tests.unit.measured_boot.unverified.test_realm_calls import FILES, GOOD, measure
from tests.unit.measured_boot.unverified.test_se_header import header


def test_unverified_cca_prints_a_marked_rim(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "calls.json").write_text(json.dumps(GOOD))
    (tmp_path / "kernel").write_bytes(FILES["kernel"])
    assert main(["unverified", "cca", str(tmp_path / "calls.json")]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "unverified": True,
        "technology": "cca",
        "rim": measure().hex(),
    }


def test_unverified_se_prints_marked_digests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hdr.bin").write_bytes(header(slots=1))
    assert main(["unverified", "se", str(tmp_path / "hdr.bin")]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["unverified"], value["technology"]) == (True, "se")
    assert value["se.tag"] == (b"T" * 16).hex()
    assert value["se.image_phkh"] == ["00" * 32]
    assert (value["pld"], value["tld"]) == ((b"p" * 64).hex(), (b"t" * 64).hex())


def test_unverified_technologies_have_no_platform() -> None:
    assert {"cca", "se"}.isdisjoint(technology.value for technology in Technology)
