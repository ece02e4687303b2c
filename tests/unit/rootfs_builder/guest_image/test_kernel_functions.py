"""A function that a kernel lacks cannot be kept from starting, and the kernel does not say so."""

import pytest
import zstandard

from ccinit.errors import ConfigError
from rootfs_builder.guest_image.kernel_functions import require_functions
from tests.fakes.published.kernel_images import bzimage

ALWAYS = "do_one_initcall"
BUILT_IN = "kernel/drivers/nvme/host/nvme.ko\nkernel/drivers/acpi/thermal.ko\n"
LINE = "quiet initcall_blacklist=nvme_init,acpi_thermal_init"
KERNEL = bzimage((ALWAYS, "nvme_init", "acpi_thermal_init", "own_init"))


def require(kernel: bytes = KERNEL, built_in: str = BUILT_IN, line: str = LINE) -> None:
    require_functions(kernel, built_in, line, zstandard.decompress)


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
        require(bzimage((ALWAYS, "nvme_init", "acpi_thermal_start")))
    assert error.value.reason == "cmdline.initcall"


def test_driver_that_is_not_built_in_need_not_have_its_function() -> None:
    """A project may be for several kernels, of which one has a driver as a module."""
    require(bzimage((ALWAYS, "nvme_init")), "kernel/drivers/nvme/host/nvme.ko\n")
    require(b"is not looked at", "")


@pytest.mark.parametrize(
    ("kernel", "detail"),
    [
        (bzimage(("nvme_init", "acpi_thermal_init")), "CONFIG_DEBUG_INFO_BTF"),
        (bzimage((), packed=b"\x1f\x8bgzip"), "CONFIG_KERNEL_ZSTD"),
        (b"MZ" + bytes(4096), "not a bzImage"),
        (KERNEL[:0x24C], "not a bzImage"),
    ],
)
def test_kernel_whose_functions_cannot_be_told_is_refused(kernel: bytes, detail: str) -> None:
    with pytest.raises(ConfigError, match=detail) as error:
        require(kernel)
    assert error.value.reason == "kernel.functions"
