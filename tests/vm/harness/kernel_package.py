"""The guest kernel: Debian's cloud kernel of the tools tree's release, fetched once.

The package comes through the tree's apt, signatures checked, with an apt state of our own, so that
the tree is not changed. Which modules a guest loads, and in which order, is planned from the
modules' own dependency lists.
"""

import lzma
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rootfs_builder.exclusive import exclusive
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import ToolsTree

_META_PACKAGE = "linux-image-cloud-amd64"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestKernel:
    """An unpacked kernel package."""

    image: Path
    modules: Path
    release: str


def open_guest_kernel(tools: ToolsTree, cache: Path) -> GuestKernel:
    """Return the kernel below `cache`, fetched first if it is not there.

    Raises:
        ConfigError: apt could not fetch it.
    """
    unpacked = cache / "kernel"
    with exclusive(cache / "lock", Progress(name="test guest")):
        if not unpacked.is_dir():
            _fetch(tools, cache, unpacked)
    return find_kernel(unpacked)


def find_kernel(unpacked: Path) -> GuestKernel:
    """Return the one kernel below `unpacked`, wherever its version's packages have the image."""
    (modules,) = (unpacked / "usr/lib/modules").iterdir()
    release = modules.name
    image = modules / "vmlinuz"  # since 7.0
    if not image.exists():
        image = unpacked / f"boot/vmlinuz-{release}"
    return GuestKernel(image=image, modules=modules / "kernel", release=release)


def list_packages(depends: Callable[[str], Iterable[str]]) -> tuple[str, ...]:
    """Return the names of the packages that hold the kernel's files.

    Up to 6.12 one package has all of them. Later ones have image, modules and what is common to
    both apart, and the package of before only depends on these.

    Args:
        depends: gives the names of the packages that a package depends on.
    """
    (image,) = (name for name in depends(_META_PACKAGE) if name.startswith("linux-image-"))
    release = image.removeprefix("linux-image-")
    return (image, *(name for name in depends(image) if name.endswith(f"-{release}")))


def _fetch(tools: ToolsTree, cache: Path, unpacked: Path) -> None:
    state, packages = cache / "apt", cache / "packages"
    partial = unpacked.with_name("kernel.partial")
    for directory in (state / "lists/partial", state / "archives/partial", packages):
        directory.mkdir(parents=True, exist_ok=True)
    apt = (
        *("-o", f"Dir::State={state.resolve()}", "-o", "Dir::State::status=/var/lib/dpkg/status"),
        *("-o", f"Dir::Cache={state.resolve()}", "-o", "APT::Sandbox::User=root"),
    )
    tools.run(("apt-get", *apt, "-q", "update"), directories=(cache,))

    def depends(package: str) -> tuple[str, ...]:
        text = tools.run(("apt-cache", *apt, "depends", package), directories=(cache,)).decode()
        words = (line.split() for line in text.splitlines() if " Depends: " in line)
        return tuple(found[-1] for found in words)

    names = list_packages(depends)
    tools.run(
        ("apt-get", *apt, "-q", "download", *names),
        directories=(cache,),
        working_directory=packages.resolve(),
    )
    shutil.rmtree(partial, ignore_errors=True)
    for name in names:
        (archive,) = packages.glob(f"{name}_*.deb")
        tools.run(
            ("dpkg-deb", "--extract", archive.resolve(), partial.resolve()), directories=(cache,)
        )
    partial.rename(unpacked)


def plan_modules(kernel: GuestKernel, names: Iterable[str]) -> tuple[Path, ...]:
    """Return the files of `names` and of all they depend on, in an order that loads.

    Names are as in the kernel's configuration tools (`dm_crypt`), or several, divided by `|`: then
    the first that the kernel has. What it has built in has no file.

    Raises:
        KeyError: the kernel has no such module.
    """
    files = {_name(path): path for path in kernel.modules.rglob("*.ko.xz")}
    lines = kernel.modules.with_name("modules.builtin").read_text().split()
    built_in = {_name(Path(line)) for line in lines}
    order: list[Path] = []

    def add(name: str) -> None:
        if name in built_in:
            return
        path = files[name]
        if path in order:
            return
        for dependency in read_dependencies(lzma.decompress(path.read_bytes())):
            add(dependency)
        order.append(path)

    for name in names:
        add(next((one for one in name.split("|") if one in built_in or one in files), name))
    return tuple(order)


def _name(path: Path) -> str:
    return path.name.split(".")[0].replace("-", "_")


def read_dependencies(module: bytes) -> tuple[str, ...]:
    """Return the names in the `depends=` field of a module's .modinfo section."""
    marker = b"\0depends="
    start = module.index(marker) + len(marker)
    names = module[start : module.index(b"\0", start)].decode()
    return tuple(name.replace("-", "_") for name in names.split(",") if name)
