"""Choose and compile the guest's Python modules, for the root and for stage 0.

The guest gets the import closure of our own code over the standard library and the locked wheels,
plus listed names that are imported in ways no scan sees, minus listed names that no guest should
have. Modules below `replaced/` take the place of others. All are bytecode without source, which is
smallest, and which no date can make stale.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from rootfs_builder.file_list import read_listed
from rootfs_builder.packages.wheels import unpack_wheels
from rootfs_builder.tools_tree import ToolsTree
from rootfs_builder.workspace import Workspace

STANDARD_LIBRARY: Final = "/usr/lib/python3.13"
SITE: Final = "/usr/lib/ccinit"
STAGE0_ENTRIES: Final = ("ccinit.kernel.priority", "ccinit.init.stage0")
"""What the initrd's first program imports."""

_COMPILER: Final = Path(__file__).with_name("module_compiler.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestModule:
    """One importable file of a guest.

    Attributes:
        name: dotted.
        target: absolute path in the guest.
        file: where its content is now.
    """

    name: str
    target: str
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What to compile: entry names, the list of excluded ones, the folder's name for the result.

    `nested` says whether imports inside functions of the standard library count, `tried` which
    modules are imported to see whether what was excluded is missed.
    """

    entries: tuple[str, ...]
    excluded: str
    output: str
    nested: bool
    tried: tuple[str, ...] = ()


def prepare_site(workspace: Workspace, wheels: Iterable[Path], profile: str) -> Path:
    """Return a folder as the guest's /usr/lib/ccinit would be with all sources in it.

    Raises:
        ConfigError: a module listed as test-only does not exist.
    """
    site = workspace.staging / f"site-{profile}"
    if site.exists():
        shutil.rmtree(site)
    site.mkdir(parents=True)
    unpack_wheels(wheels, site)
    shutil.copytree(workspace.lists / "replaced" / "wheels", site, dirs_exist_ok=True)
    shutil.copytree(
        workspace.guest_sources, site / "ccinit", ignore=shutil.ignore_patterns("__pycache__")
    )
    if profile != "test":
        for entry in read_listed(workspace.lists / "test-only.list"):
            _remove_module(site, entry.name)
    shutil.copyfile(site / "ccinit" / "__main__.py", site / "__main__.py")
    return site


def compile_root_modules(
    workspace: Workspace, quarry: ToolsTree, site: Path
) -> tuple[GuestModule, ...]:
    """Return everything that PID 1 and its children can import.

    Raises:
        ConfigError: a listed module does not exist, or a source cannot be compiled.
    """
    entries = [
        "__main__",
        "ccinit.**",
        *(entry.name for entry in read_listed(workspace.lists / "python.list")),
    ]
    job = _Job(entries=tuple(entries), excluded="python-excluded.list", output="pyc", nested=True)
    return _compile(workspace, quarry, site, job)


def compile_stage0_modules(
    workspace: Workspace, quarry: ToolsTree, site: Path
) -> tuple[GuestModule, ...]:
    """Return what stage 0 imports; of the standard library, what it always imports.

    Raises:
        ConfigError: as for `compile_root_modules`.
    """
    entries = [
        *STAGE0_ENTRIES,
        *(entry.name for entry in read_listed(workspace.lists / "stage0-python.list")),
    ]
    job = _Job(
        entries=tuple(entries),
        excluded="stage0-python-excluded.list",
        output="stage0-pyc",
        nested=False,
        tried=STAGE0_ENTRIES,
    )
    return _compile(workspace, quarry, site, job)


_TRY: Final = """
import _imp, sys

paths, names, *entries = sys.argv[1:]
sys.path[:] = paths.split(":")
known = {*names.split(","), *sys.builtin_module_names}


class Only:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in known and not _imp.is_frozen(name):
            raise ModuleNotFoundError(f"No module named {name!r} among those of the image")


sys.meta_path.insert(0, Only)
for entry in entries:
    __import__(entry)
"""
"""Imports modules where there are no others than those of the image."""


def _compile(
    workspace: Workspace, quarry: ToolsTree, site: Path, job: _Job
) -> tuple[GuestModule, ...]:
    compiled = workspace.staging / f"{site.name}.{job.output}"
    replaced = workspace.staging / f"{site.name}.{job.output}-library"
    for folder in (compiled, replaced):
        if folder.exists():
            shutil.rmtree(folder)
    compiled.mkdir(parents=True)
    shutil.copytree(workspace.lists / "replaced" / "library", replaced)
    library, extensions = Path(STANDARD_LIBRARY), Path(STANDARD_LIBRARY) / "lib-dynload"
    roots = [
        {"path": str(site.resolve()), "nested": True, "target": SITE},
        {"path": str(replaced.resolve()), "nested": True, "target": str(library)},
        {"path": str(library), "nested": job.nested, "target": str(library)},
        {"path": str(extensions), "nested": job.nested, "target": str(extensions)},
    ]
    order = {
        "entries": job.entries,
        "excluded": [entry.name for entry in read_listed(workspace.lists / job.excluded)],
        "output": str(compiled.resolve()),
        "roots": roots,
    }
    answer = quarry.run(
        ["python3.13", "-I", "-S", "-B", _COMPILER],
        directories=(workspace.staging, _COMPILER.parents[2]),
        input_data=json.dumps(order).encode(),
    )
    modules = tuple(
        GuestModule(name=item["name"], target=item["target"], file=_seen_from_host(item, quarry))
        for item in json.loads(answer)
    )
    if not modules:
        raise ConfigError("python.closure", "no module was found")
    if job.tried:
        paths = [str(root["path"]) for root in roots]
        _require_imports(quarry, workspace.staging, job.tried, paths, modules)
    return modules


def _require_imports(
    quarry: ToolsTree,
    staging: Path,
    entries: tuple[str, ...],
    paths: list[str],
    modules: tuple[GuestModule, ...],
) -> None:
    """Refuse a set of modules in which one misses another that was excluded.

    Another version of the interpreter may import more than the one that the lists are for, and a
    guest that lacks a module resets without any message.
    """
    names = ",".join(module.name for module in modules)
    command = ("python3.13", "-I", "-S", "-B", "-c", _TRY, ":".join(paths), names, *entries)
    try:
        quarry.run(command, directories=(staging,))
    except ConfigError as error:
        last = error.detail.splitlines()[-1]
        raise ConfigError("python.import", f"{', '.join(entries)}: {last}") from error


def _seen_from_host(item: dict[str, str], quarry: ToolsTree) -> Path:
    """Libraries of the standard library lie in the tree; everything else at the same path."""
    path = Path(item["file"])
    return quarry.path / path.relative_to("/") if path.is_relative_to(STANDARD_LIBRARY) else path


def _remove_module(site: Path, name: str) -> None:
    path = site / name.replace(".", "/")
    if path.is_dir():
        shutil.rmtree(path)
    elif path.with_suffix(".py").is_file():
        path.with_suffix(".py").unlink()
    else:
        # A module that was renamed must not slip into production images.
        raise ConfigError("python.test-only", f"there is no {name}")
