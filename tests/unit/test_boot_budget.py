import pytest

from tests.conftest import BOOT_BUDGET, is_over_budget


@pytest.mark.parametrize("selected", ["not long", ""])  # `make test`, and a file by its name
def test_run_that_boots_too_often_fails(selected: str) -> None:
    assert not is_over_budget(BOOT_BUDGET, selected)
    assert is_over_budget(BOOT_BUDGET + 1, selected)


def test_long_run_has_no_budget() -> None:
    assert not is_over_budget(BOOT_BUDGET + 1, "long")
