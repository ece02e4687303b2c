"""Modules come after what they need, once each, and forbidden ones never."""

import lzma
from itertools import chain
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from ccinit.init import stage0
from ccinit.init.module_order import ModuleLine, parse_module_order
from rootfs_builder.file_list import Listed, read_listed
from rootfs_builder.guest_image.kernel_modules import (
    FORBIDDEN,
    PLATFORM_DRIVERS,
    ModuleFile,
    encode_order,
    group_modules,
    plan_modules,
    plan_orders,
    require_left_out,
)

DEPENDENCIES = """\
kernel/md/dm-mod.ko.xz:
kernel/md/dm-bufio.ko.xz: kernel/md/dm-mod.ko.xz
kernel/lib/rs.ko.xz:
kernel/md/dm-verity.ko.xz: kernel/lib/rs.ko.xz kernel/md/dm-bufio.ko.xz kernel/md/dm-mod.ko.xz
kernel/block/brd.ko.xz:
kernel/fs/configfs.ko.xz:
kernel/virt/tsm.ko.xz: kernel/fs/configfs.ko.xz
kernel/virt/sev-guest.ko.xz: kernel/virt/tsm.ko.xz kernel/fs/configfs.ko.xz
kernel/virt/tdx-guest.ko.xz: kernel/virt/tsm.ko.xz kernel/fs/configfs.ko.xz
kernel/fs/ocfs2.ko.xz: kernel/fs/configfs.ko.xz
kernel/virt/pvpanic.ko.xz:
kernel/virt/user.ko.xz: kernel/virt/pvpanic.ko.xz
"""
BUILTIN = "kernel/crypto/hmac.ko\n"


def wanted(*names: str) -> list[Listed]:
    return [Listed(name=name, options=(), reason="test") for name in names]


def plan(*names: str) -> list[str]:
    return [module.file_name for module in plan_modules(wanted(*names), DEPENDENCIES, BUILTIN)]


def test_dependencies_come_first() -> None:
    order = plan("dm_verity")
    assert order[-1] == "dm-verity.ko"
    assert order.index("dm-mod.ko") < order.index("dm-bufio.ko")
    assert sorted(order) == ["dm-bufio.ko", "dm-mod.ko", "dm-verity.ko", "rs.ko"]


def test_module_wanted_and_needed_comes_once() -> None:
    assert plan("dm_mod", "dm_verity", "dm-mod").count("dm-mod.ko") == 1


def test_built_in_module_is_skipped() -> None:
    assert plan("hmac", "brd") == ["brd.ko"]


def test_unknown_module_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        plan("nothing")
    assert error.value.reason == "modules.missing"


def test_of_several_names_the_first_that_the_kernel_has_is_taken() -> None:
    assert plan("dm_mod|brd") == ["dm-mod.ko"]
    assert plan("absent|brd", "dm-mod") == ["brd.ko", "dm-mod.ko"]
    assert plan("absent|hmac") == []
    with pytest.raises(ConfigError, match="no absent or nothing") as error:
        plan("absent|nothing")
    assert error.value.reason == "modules.missing"


def test_parameters_of_a_module_that_is_built_in_are_refused() -> None:
    entry = Listed(name="brd", options=("rd_nr=4",), reason="test")
    (module,) = plan_modules([entry], DEPENDENCIES, "")
    assert module.parameters == "rd_nr=4"
    with pytest.raises(ConfigError, match="rd_nr=4") as error:
        plan_modules([entry], "", "kernel/drivers/block/brd.ko\n")
    assert error.value.reason == "modules.parameters"


@pytest.mark.parametrize("name", ["pvpanic", "user"])
def test_forbidden_module_is_refused_even_as_a_dependency(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan(name)
    assert error.value.reason == "modules.forbidden"


BUILT_IN_CONSOLE = "kernel/drivers/char/virtio_console.ko\nkernel/fs/fuse/fuse.ko\n"


@pytest.mark.parametrize(
    "line", ["quiet", "initcall_blacklist=nvme_init", "x=initcall_blacklist=virtio_console_init"]
)
def test_forbidden_module_that_is_built_in_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="virtio_console") as error:
        require_left_out(BUILT_IN_CONSOLE, line)
    assert error.value.reason == "modules.forbidden"


def test_forbidden_module_that_the_line_leaves_out_may_be_built_in() -> None:
    require_left_out(BUILT_IN_CONSOLE, "quiet initcall_blacklist=nvme_init,virtio_console_init a=b")
    require_left_out("kernel/fs/fuse/fuse.ko\n", "quiet")


def test_built_in_module_is_left_out_by_the_name_of_its_function_alone() -> None:
    """Most are not named after the module, and the kernel says nothing of a name it lacks."""
    balloon = "kernel/drivers/virtio/virtio_balloon.ko\n"
    require_left_out(balloon, "initcall_blacklist=virtio_balloon_driver_init")
    with pytest.raises(ConfigError, match="lacks virtio_balloon_driver_init") as error:
        require_left_out(balloon, "initcall_blacklist=virtio_balloon_init")
    assert error.value.reason == "modules.forbidden"


def test_bus_of_another_hypervisor_is_left_out_of_kernels_that_have_it_built_in() -> None:
    """Debian's have from 7.2 on; a word of a project's own is one more, behind ours."""
    bus, line = "kernel/drivers/hv/hv_vmbus.ko\n", "initcall_blacklist=virtio_console_init"
    with pytest.raises(ConfigError, match="lacks hv_acpi_init") as error:
        require_left_out(bus, line)
    assert error.value.reason == "modules.forbidden"
    require_left_out(bus, f"{line} quiet initcall_blacklist=hv_acpi_init")


def test_keyboard_of_the_host_is_left_out_where_it_is_built_in() -> None:
    keyboard, line = "kernel/drivers/input/serio/i8042.ko\n", "initcall_blacklist=nvme_init"
    with pytest.raises(ConfigError, match="lacks i8042_init") as error:
        require_left_out(keyboard, line)
    assert error.value.reason == "modules.forbidden"
    require_left_out(keyboard, f"{line},i8042_init")


def test_order_reads_back_by_the_guests_own_parser() -> None:
    entry = Listed(name="brd", options=("rd_nr=4", "max_part=0"), reason="test")
    planned = plan_modules([*wanted("dm_bufio"), entry], DEPENDENCIES, BUILTIN)
    text = encode_order(group_modules(planned, DEPENDENCIES))
    assert parse_module_order(text.encode()) == (
        (
            ModuleLine(file="dm-mod.ko", parameters=""),
            ModuleLine(file="dm-bufio.ko", parameters=""),
        ),
        (ModuleLine(file="brd.ko", parameters="rd_nr=4 max_part=0"),),
    )
    assert parse_module_order(encode_order(()).encode()) == ()


def groups(*names: str) -> list[str]:
    planned = plan_modules(wanted(*names), DEPENDENCIES, BUILTIN)
    grouped = group_modules(planned, DEPENDENCIES)
    return [" ".join(module.file_name for module in group) for group in grouped]


def test_groups_need_nothing_of_each_other_and_large_ones_come_before_small_ones() -> None:
    assert groups("brd", "tsm", "dm_verity") == [
        "brd.ko",
        "dm-mod.ko dm-bufio.ko rs.ko dm-verity.ko",
        "configfs.ko tsm.ko",
    ]


def test_group_of_the_first_module_comes_first_whatever_joins_it() -> None:
    assert groups("rs", "ocfs2", "tsm", "brd", "dm-mod", "dm-bufio") == [
        "rs.ko",
        "configfs.ko ocfs2.ko tsm.ko",
        "dm-mod.ko dm-bufio.ko",
        "brd.ko",
    ]
    assert groups("rs", "tsm", "dm-mod", "dm_verity") == [
        "rs.ko dm-mod.ko dm-bufio.ko dm-verity.ko",
        "configfs.ko tsm.ko",
    ]
    assert groups("hmac") == []


def orders(*names: str) -> dict[str, list[str]]:
    planned = plan_orders(wanted(*names), DEPENDENCIES, BUILTIN)
    return {
        driver: [module.file_name for module in chain.from_iterable(groups)]
        for driver, groups in planned.items()
    }


def test_what_only_a_platforms_driver_needs_is_loaded_with_it() -> None:
    assert orders("sev_guest", "brd", "tdx-guest") == {
        "": ["brd.ko"],
        "sev-guest": ["configfs.ko", "tsm.ko", "sev-guest.ko"],
        "tdx-guest": ["configfs.ko", "tsm.ko", "tdx-guest.ko"],
    }


def test_what_others_need_too_is_loaded_everywhere_and_once() -> None:
    assert orders("sev_guest", "ocfs2") == {
        "": ["configfs.ko", "ocfs2.ko"],
        "sev-guest": ["tsm.ko", "sev-guest.ko"],
    }
    assert orders("tsm", "tdx_guest") == {
        "": ["configfs.ko", "tsm.ko"],
        "tdx-guest": ["tdx-guest.ko"],
    }


def test_stage0_asks_for_the_platforms_that_the_builder_sorts_by() -> None:
    assert stage0.PLATFORM_DRIVERS == PLATFORM_DRIVERS
    names = {entry.name for entry in read_listed(Path("rootfs-builder/mkosi/modules.list"))}
    assert {driver.replace("-", "_") for driver in PLATFORM_DRIVERS} <= names


def test_compressed_module_is_taken_out_of_its_compression() -> None:
    compressed = ModuleFile(path="kernel/a.ko.xz")
    assert compressed.decompress(lzma.compress(b"module")) == b"module"
    assert ModuleFile(path="kernel/a.ko").decompress(b"module") == b"module"


@pytest.mark.parametrize("suffix", [".ko.zst", ".ko.gz"])
def test_module_in_another_compression_is_refused_before_a_guest_meets_it(suffix: str) -> None:
    table = DEPENDENCIES.replace("dm-bufio.ko.xz", f"dm-bufio{suffix}")
    assert plan_modules(wanted("brd"), table, BUILTIN)
    with pytest.raises(ConfigError) as error:
        plan_modules(wanted("dm_verity"), table, BUILTIN)
    assert error.value.reason == "modules.compression"


@pytest.mark.parametrize("suffix", [".ko", ".ko.xz"])
def test_module_is_taken_plain_or_packed(suffix: str) -> None:
    table = DEPENDENCIES.replace("brd.ko.xz", f"brd{suffix}")
    assert [one.file_name for one in plan_modules(wanted("brd"), table, BUILTIN)] == ["brd.ko"]


def test_r11_list_of_the_guest_names_no_forbidden_module() -> None:
    assert "qemu_fw_cfg" in FORBIDDEN
    names = {entry.name for entry in read_listed(Path("rootfs-builder/mkosi/modules.list"))}
    assert names.isdisjoint(FORBIDDEN)
    assert {"dm_verity", "erofs", "overlay", "vsock", "sev_guest", "tdx_guest"} <= names


@pytest.mark.parametrize(
    ("modules_dep", "modules_builtin", "loaded"),
    [
        ("kernel/arch/x86/crypto/sha256-ssse3.ko.xz:\n", "", "sha256-ssse3.ko"),
        (
            "kernel/crypto/sha256.ko: kernel/lib/libsha256.ko\nkernel/lib/libsha256.ko:",
            "",
            "libsha256.ko sha256.ko",
        ),
        ("", "kernel/lib/crypto/libsha256.ko\nkernel/crypto/sha256.ko\n", ""),
    ],
    ids=["6.12", "6.16", "7.3"],
)
def test_modules_are_hashed_by_the_processor_from_the_first_on(
    modules_dep: str, modules_builtin: str, loaded: str
) -> None:
    first, *_ = read_listed(Path("rootfs-builder/mkosi/modules.list"))
    planned = plan_modules([first], modules_dep, modules_builtin)
    assert " ".join(module.file_name for module in planned) == loaded
    # What Linux 6.12 has built in is the hash without the processor's help.
    with pytest.raises(ConfigError) as error:
        plan_modules([first], "", "kernel/crypto/sha256_generic.ko\nkernel/lib/crypto/libsha256.ko")
    assert error.value.reason == "modules.missing"
