from pathlib import Path

import pytest

from ccinit.errors import KernelError
from ccinit.kernel import grace_period
from ccinit.kernel.grace_period import expedite_grace_periods


def test_switch_is_written_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = tmp_path / "rcu_expedited"
    switch.write_text("0\n")
    monkeypatch.setattr(grace_period, "SWITCH", str(switch))
    expedite_grace_periods(on=True)
    assert switch.read_text() == "1\n"
    expedite_grace_periods(on=False)
    assert switch.read_text() == "0\n"


def test_kernel_without_the_switch_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grace_period, "SWITCH", str(tmp_path / "none"))
    with pytest.raises(KernelError) as refused:
        expedite_grace_periods(on=True)
    assert refused.value.reason == "kernel.grace_period"
    assert not (tmp_path / "none").exists()
