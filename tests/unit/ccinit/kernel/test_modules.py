"""Loading of kernel modules, as far as it goes without one."""

import errno

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.modules import load_module


def test_module_that_does_not_exist_is_a_kernel_error() -> None:
    with pytest.raises(KernelError) as error:
        load_module("/nonexistent/dm-mod.ko.xz")
    assert (error.value.reason, error.value.errno) == ("kernel.finit_module", errno.ENOENT)
