import pytest

from ccinit.errors import FormatError
from host_runtime.host_view.efi_variables import parse_variable_store
from tests.unit.host_runtime.host_view.test_sinks import FIRMWARE_VENDOR, flash, variable


def test_variables_are_read_in_order_with_unaligned_values() -> None:
    store = parse_variable_store(flash(variable("A", b"123"), variable("Boot0001", b"")))
    assert [(entry.name, entry.value) for entry in store] == [("A", b"123"), ("Boot0001", b"")]
    assert store[0].key == f"A-{FIRMWARE_VENDOR}"


def test_store_without_variables_is_empty() -> None:
    assert parse_variable_store(flash()) == ()


@pytest.mark.parametrize("data", [bytes(1000), flash()[:49]])
def test_flash_without_a_volume_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError) as error:
        parse_variable_store(data)
    assert error.value.reason == "efi.store"


def test_entry_that_leaves_the_flash_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        parse_variable_store(flash(variable("A", b"x" * 200))[:250])
    assert error.value.reason == "efi.store"
