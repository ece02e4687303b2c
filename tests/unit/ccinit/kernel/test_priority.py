import os

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.priority import HIGHEST, NORMAL, set_priority


def test_priority_is_this_processs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "setpriority", lambda *arguments: calls.append(arguments))
    set_priority(HIGHEST)
    set_priority(NORMAL)
    assert calls == [(os.PRIO_PROCESS, 0, -20), (os.PRIO_PROCESS, 0, 0)]


def test_priority_that_is_not_given_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "setpriority", refuse)
    with pytest.raises(KernelError) as error:
        set_priority(HIGHEST)
    assert error.value.reason == "kernel.setpriority"
