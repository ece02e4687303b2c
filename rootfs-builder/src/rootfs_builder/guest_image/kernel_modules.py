"""Turn the list of wanted kernel modules into files in load order.

Lists, `modules.dep` and file names disagree about `-` and `_`, which compare equal here. Stage 0
loads the modules; the list with its reasons is `rootfs-builder/mkosi/modules.list`.

Specification: modules.dep(5); modules.builtin has one path per line.
"""

import lzma
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import Final

from ccinit.errors import ConfigError
from rootfs_builder.file_list import Listed

PLATFORM_DRIVERS: Final = ("sev-guest", "tdx-guest")
"""Drivers that stage 0 loads, with what nothing else needs, only where their platform is."""

_COMPRESSED: Final = ".xz"
_SUFFIXES: Final = (".ko", f".ko{_COMPRESSED}")
INITCALL_BLACKLIST: Final = "initcall_blacklist="
FORBIDDEN: Final = {
    "efi_pstore": "efivars_pstore_init",
    "hv_vmbus": "hv_acpi_init",
    "i8042": "i8042_init",
    "pvpanic": "pvpanic_init",
    "pvpanic_mmio": "pvpanic_mmio_driver_init",
    "pvpanic_pci": "pvpanic_pci_driver_init",
    "qemu_fw_cfg": "fw_cfg_sysfs_init",
    "ramoops": "ramoops_init",
    "virtio_balloon": "virtio_balloon_driver_init",
    "virtio_console": "virtio_console_init",
    "virtio_rng": "virtio_rng_driver_init",
}
"""Ways for text to the host, or for the host's bytes into the kernel, and the function that starts
each where it is built in: only by that name the kernel's command line can leave it out."""

LEFT_OUT_DRIVERS: Final = {
    **FORBIDDEN,
    "nvme": "nvme_init",
    "thermal": "acpi_thermal_init",
    "virtiofs": "virtio_fs_init",
}
"""The same, and drivers that `mkosi.conf` leaves out besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleFile:
    """One module to load.

    Attributes:
        path: relative to the release's folder below /usr/lib/modules.
        parameters: as one text, possibly empty.
    """

    path: str
    parameters: str = ""

    @property
    def file_name(self) -> str:
        """Name of the decompressed module, as in the archive and in its load order."""
        return PurePosixPath(self.path).name.removesuffix(_COMPRESSED)

    def decompress(self, data: bytes) -> bytes:
        """Return the module itself, with its signature, from the file as shipped.

        The kernel could do that, too, but its xz reader is slow, and the archive as a whole is
        compressed anyway. Under emulation this makes a boot 7 % shorter, and the archive no larger.
        """
        return lzma.decompress(data) if self.path.endswith(_COMPRESSED) else data


ModuleGroup = tuple[ModuleFile, ...]
"""Modules in an order in which each comes after what it needs."""


def parse_dependencies(modules_dep: str) -> Mapping[str, tuple[str, ...]]:
    """Return for each module's path the paths that it needs, in the file's order."""
    table = {}
    for line in modules_dep.splitlines():
        path, _, needed = line.partition(":")
        table[path] = tuple(needed.split())
    return table


def plan_modules(
    wanted: Iterable[Listed], modules_dep: str, modules_builtin: str
) -> tuple[ModuleFile, ...]:
    """Return the files to load, each after what it depends on, each once.

    A name may be several alternatives, divided by `|`: the first that this kernel has counts.

    Raises:
        ConfigError: a wanted module is neither a file nor built in, or is built in and was to be
            given parameters; a forbidden one is drawn in, or one in a compression that is not known
            here.
    """
    dependencies = parse_dependencies(modules_dep)
    paths = {_name(path): path for path in dependencies}
    builtin = names_of_modules(modules_builtin)
    parameters = {
        _choose(entry.name, paths.keys() | builtin): " ".join(entry.options) for entry in wanted
    }
    planned: dict[str, ModuleFile] = {}

    def plan(path: str) -> None:
        name = _name(path)
        if path in planned:
            return
        if name in FORBIDDEN:
            raise ConfigError("modules.forbidden", f"{name} must not be in a guest")
        if not path.endswith(_SUFFIXES):
            raise ConfigError("modules.compression", f"{path} is neither plain nor xz")
        # modules.dep lists all needed modules, nearest first.
        for needed in reversed(dependencies[path]):
            plan(needed)
        planned[path] = ModuleFile(path=path, parameters=parameters.get(name, ""))

    for name, words in parameters.items():
        if name in paths:
            plan(paths[name])
        elif words:
            raise ConfigError("modules.parameters", f"{name} is built in, and takes no {words!r}")
    return tuple(planned.values())


def plan_orders(
    wanted: Iterable[Listed], modules_dep: str, modules_builtin: str
) -> Mapping[str, tuple[ModuleGroup, ...]]:
    """Return what every guest loads, under "", and what one on each platform loads in addition.

    Raises:
        ConfigError: as for `plan_modules`.
    """
    listed = tuple(wanted)
    platforms = {_normal(driver): driver for driver in PLATFORM_DRIVERS}
    everywhere = [entry for entry in listed if _normal(entry.name) not in platforms]
    common = plan_modules(everywhere, modules_dep, modules_builtin)
    orders = {"": group_modules(common, modules_dep)}
    loaded = {module.path for module in common}
    for entry in listed:
        driver = platforms.get(_normal(entry.name))
        if driver is not None:
            planned = plan_modules([entry], modules_dep, modules_builtin)
            rest = [module for module in planned if module.path not in loaded]
            orders[driver] = group_modules(rest, modules_dep)
    return orders


def group_modules(modules: Sequence[ModuleFile], modules_dep: str) -> tuple[ModuleGroup, ...]:
    """Divide modules in load order into groups that do not depend on each other.

    The first module's group comes first, then large groups before small ones, so that processors
    that take one after the other finish at about the same time.
    """
    dependencies = parse_dependencies(modules_dep)
    groups: list[ModuleGroup] = []
    for module in modules:
        needed = dependencies[module.path]
        joined = [group for group in groups if any(other.path in needed for other in group)]
        groups = [group for group in groups if group not in joined]
        groups.append((*chain.from_iterable(joined), module))
    return tuple(sorted(groups, key=lambda group: (modules[0] not in group, -len(group))))


def require_left_out(modules_builtin: str, command_line: str) -> None:
    """Refuse a kernel that has a forbidden module built in, unless its line leaves that out.

    Raises:
        ConfigError: `modules.forbidden`.
    """
    left_out = functions_left_out(command_line)
    for name in sorted(FORBIDDEN.keys() & names_of_modules(modules_builtin)):
        if FORBIDDEN[name] not in left_out:
            detail = f"{name} is built in, and {INITCALL_BLACKLIST} lacks {FORBIDDEN[name]}"
            raise ConfigError("modules.forbidden", detail)


def functions_left_out(command_line: str) -> frozenset[str]:
    """Return the functions that a command line keeps the kernel from starting."""
    lists = (word.partition(INITCALL_BLACKLIST) for word in command_line.split())
    return frozenset(
        name for before, _, names in lists if not before for name in names.split(",") if name
    )


def names_of_modules(listing: str) -> frozenset[str]:
    """Return the names of the modules whose paths a text has, as `modules.builtin` does."""
    return frozenset(_name(path) for path in listing.split())


def encode_order(groups: Iterable[ModuleGroup]) -> str:
    """Return the load order as stage 0 reads it: a module a line, an empty line between groups.

    A line is the file's name and the parameters.
    """
    return "\n".join("".join(map(_encode_line, group)) for group in groups)


def _encode_line(module: ModuleFile) -> str:
    return f"{module.file_name} {module.parameters}".rstrip() + "\n"


def _choose(names: str, kernel_has: Collection[str]) -> str:
    for name in _normal(names).split("|"):
        if name in kernel_has:
            return name
    raise ConfigError("modules.missing", f"this kernel has no {names.replace('|', ' or ')}")


def _name(path: str) -> str:
    return _normal(PurePosixPath(path).name.partition(".ko")[0])


def _normal(name: str) -> str:
    return name.replace("-", "_")
