import pytest

from ccinit.errors import ConfigError
from tests.chain.show import PartyError, Show, format_table


def test_table_columns_are_as_wide_as_their_widest_cell() -> None:
    lines = format_table(("phase", "ms"), [("CONFIG", "7"), ("A", "12345")])
    assert lines == ("phase   ms", "------  -----", "CONFIG  7", "A       12345")


def test_step_that_ends_is_kept_with_its_party() -> None:
    show = Show()
    with show.step("owner", "make keys"):
        pass
    assert [name for name, _ in show.phases] == ["owner: make keys"]


def test_step_that_fails_says_which_party_and_why() -> None:
    show = Show()
    with pytest.raises(PartyError) as error, show.step("host", "make a vTPM"):
        raise ConfigError("tools.program", "swtpm is not there")
    assert str(error.value).startswith("host failed: make a vTPM: ")
    assert "swtpm is not there" in str(error.value)
    assert not show.phases
