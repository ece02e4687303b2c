"""A limit that cannot be set is the kernel's error, whatever Python makes of it."""

import errno
import resource

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.resource_limits import set_limit


@pytest.mark.parametrize(
    ("error", "number"),
    [
        pytest.param(ValueError("not allowed to raise maximum limit"), errno.EPERM, id="raised"),
        pytest.param(OSError(errno.EFAULT, "bad address"), errno.EFAULT, id="other"),
    ],
)
def test_refused_limit_has_the_kernels_number(
    error: Exception, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_kind: int, _limits: tuple[int, int]) -> None:
        raise error

    monkeypatch.setattr(resource, "setrlimit", refuse)
    with pytest.raises(KernelError) as refused:
        set_limit(resource.RLIMIT_CORE, 0)
    assert (refused.value.reason, refused.value.errno) == ("kernel.setrlimit", number)


def test_both_limits_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(resource, "setrlimit", lambda *limits: given.append(limits))
    set_limit(resource.RLIMIT_NOFILE, 256)
    assert given == [(resource.RLIMIT_NOFILE, (256, 256))]
