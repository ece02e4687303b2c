import pytest

from tests.chain.show import PartyError
from tests.demo.__main__ import fail


def test_failure_is_printed_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(PartyError("builder", "no image", "run `make image`")) == 1
    assert capsys.readouterr().err == (
        "\ndemo: builder failed: no image\n"
        "      run `make image`; all files of this run are below build/demo/world\n"
    )
