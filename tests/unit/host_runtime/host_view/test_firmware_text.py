from pathlib import Path

import pytest

from ccinit.errors import FormatError
from host_runtime.host_view.firmware_text import FirmwareRecord, read_record, write_record

EMPTY = FirmwareRecord(firmware="abc", texts={}, variables=frozenset())


def test_longest_recorded_text_is_removed_from_the_start_only() -> None:
    record = EMPTY.with_boot({"serial": b"boot"}, frozenset())
    record = record.with_boot({"serial": b"boot menu"}, frozenset())
    assert record.remove_text("serial", b"boot menu!") == b"!"
    assert record.remove_text("serial", b"boot mens") == b" mens"
    assert record.remove_text("serial", b" boot") == b" boot"
    assert record.remove_text("console", b"boot") == b"boot"


def test_record_survives_its_file(tmp_path: Path) -> None:
    record = EMPTY.with_boot({"serial": b"\x1b[2J\xff\r\n", "console": b""}, frozenset({"B-1"}))
    write_record(record, tmp_path)
    assert read_record("abc", tmp_path) == record
    assert "console" not in record.texts


def test_firmware_without_a_record_has_an_empty_one(tmp_path: Path) -> None:
    assert read_record("abc", tmp_path) == EMPTY


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", " is not JSON: "),
        ("[]", ": expected texts, "),
        ("{}", ": expected texts, "),
        ('{"texts": [], "variables": []}', ": expected texts, "),
    ],
)
def test_record_of_another_form_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "abc.json").write_text(text)
    with pytest.raises(FormatError) as error:
        read_record("abc", tmp_path)
    assert error.value.reason == "firmware_text.file"
    assert f"{tmp_path / 'abc.json'}{said}" in error.value.detail
