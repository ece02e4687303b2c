"""A function that a kernel lacks cannot be kept from starting, and the kernel does not say so."""

import pytest

from ccinit.errors import ConfigError
from rootfs_builder.guest_image.kernel_functions import require_functions
from tests.fakes.published.kernel_images import kernel_elf

ALWAYS = "do_one_initcall"
BUILT_IN = "kernel/drivers/nvme/host/nvme.ko\nkernel/drivers/acpi/thermal.ko\n"
LINE = "quiet initcall_blacklist=nvme_init,acpi_thermal_init"
KERNEL = kernel_elf((ALWAYS, "nvme_init", "acpi_thermal_init", "own_init"))


def require(kernel: bytes = KERNEL, built_in: str = BUILT_IN, line: str = LINE) -> None:
    require_functions(kernel, built_in, line)


def test_functions_that_the_kernel_has_may_be_left_out() -> None:
    require()
    require(line=f"{LINE} initcall_blacklist=own_init")


@pytest.mark.parametrize("name", ["nvme_core_init", "nvme", "nvme_ini", "init"])
def test_function_that_the_kernel_lacks_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"names {name}, which this kernel does not") as error:
        require(line=f"{LINE} initcall_blacklist={name}")
    assert error.value.reason == "cmdline.initcall"


def test_driver_whose_function_has_another_name_now_is_refused() -> None:
    with pytest.raises(ConfigError, match="acpi_thermal_init") as error:
        require(kernel_elf((ALWAYS, "nvme_init", "acpi_thermal_start")))
    assert error.value.reason == "cmdline.initcall"


def test_driver_that_is_not_built_in_need_not_have_its_function() -> None:
    """A project may be for several kernels, of which one has a driver as a module."""
    require(kernel_elf((ALWAYS, "nvme_init")), "kernel/drivers/nvme/host/nvme.ko\n")
    require(b"is not looked at", "")


def test_kernel_whose_functions_cannot_be_told_is_refused() -> None:
    with pytest.raises(ConfigError, match="CONFIG_DEBUG_INFO_BTF") as error:
        require(kernel_elf(("nvme_init", "acpi_thermal_init")))
    assert error.value.reason == "kernel.functions"
