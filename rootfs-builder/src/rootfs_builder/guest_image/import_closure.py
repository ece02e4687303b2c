"""Find, without running anything, which modules a set of modules can import.

It uses the standard library only, because it also runs in the guest's own interpreter: the host's
may be too old to parse the guest's sources. Imports by computed name are not seen; the lists under
`rootfs-builder/mkosi/` name those.

Whether imports inside functions of the standard library count is the caller's choice. They are
often for interactive use (`pdb`, `doctest`), so excluded names keep the closure small.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_SUFFIX = ".py"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRoot:
    """One folder that modules are looked for in.

    Attributes:
        path: the folder.
        nested: whether imports inside functions count for modules found here.
    """

    path: Path
    nested: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModule:
    """A module that is part of the closure.

    Attributes:
        name: dotted.
        root: the folder of the search that it was found in.
        path: its file, source or shared library.
    """

    name: str
    root: Path
    path: Path


def imported_names(source: str, package: str, *, nested: bool) -> frozenset[str]:
    """Return the dotted names that a module may import.

    `from a import b` gives `a` and `a.b`, since the text does not say whether `b` is a module.

    Args:
        source: text of the module.
        package: package that relative imports start from.
        nested: whether imports inside functions count.
    """
    names: set[str] = set()
    for node in _import_statements(ast.parse(source), nested=nested):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
            continue
        origin = node.module or ""
        if node.level:
            parts = package.split(".")
            kept = parts[: len(parts) - node.level + 1]
            origin = ".".join([*kept, origin] if origin else kept)
        names.add(origin)
        names.update(f"{origin}.{alias.name}" for alias in node.names)
    return frozenset(names)


def compute_closure(
    entries: Iterable[str], roots: Iterable[SearchRoot], excluded: frozenset[str]
) -> Mapping[str, FoundModule]:
    """Return all modules that the entries can lead to, by name.

    Args:
        entries: dotted names; `name.**` stands for a package with everything below it.
        roots: searched in this order.
        excluded: names that are not followed, nor anything below them.

    Raises:
        ModuleNotFoundError: an entry is in no root.
    """
    search = tuple(roots)
    found: dict[str, FoundModule] = {}
    waiting: list[str] = []
    for entry in entries:
        names = _below(entry.removesuffix(".**"), search) if entry.endswith(".**") else [entry]
        if not any(_locate(name, search) for name in names):
            raise ModuleNotFoundError(entry)
        waiting += names
    nested = {root.path: root.nested for root in search}
    while waiting:
        name = waiting.pop()
        for ancestor in _with_ancestors(name):
            if ancestor in found or _is_excluded(ancestor, excluded):
                continue
            module = _locate(ancestor, search)
            if module is None:
                continue
            found[ancestor] = module
            if module.path.suffix == _SUFFIX:
                is_package = module.path.name == "__init__.py"
                package = ancestor if is_package else ancestor.rpartition(".")[0]
                source = module.path.read_text(encoding="utf-8")
                waiting += imported_names(source, package, nested=nested[module.root])
    return found


def _import_statements(node: ast.AST, *, nested: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not nested:
        return
    children: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and _never_runs_in_an_import(node.test):
        children = node.orelse
    for child in children:
        yield from _import_statements(child, nested=nested)


def _never_runs_in_an_import(test: ast.expr) -> bool:
    """Recognise `if TYPE_CHECKING:` and `if __name__ == "__main__":`."""
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case ast.Compare(left=ast.Name(id="__name__")):
            return True
        case _:
            return False


def _with_ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _is_excluded(name: str, excluded: frozenset[str]) -> bool:
    return any(ancestor in excluded for ancestor in _with_ancestors(name))


def _locate(name: str, roots: Iterable[SearchRoot]) -> FoundModule | None:
    relative = name.replace(".", "/")
    for root in roots:
        for candidate in (f"{relative}/__init__.py", f"{relative}.py"):
            if (path := root.path / candidate).is_file():
                return FoundModule(name=name, root=root.path, path=path)
        folder, _, stem = relative.rpartition("/")
        for path in sorted((root.path / folder).glob(f"{stem}.*.so")):
            return FoundModule(name=name, root=root.path, path=path)
    return None


def _below(package: str, roots: Iterable[SearchRoot]) -> list[str]:
    """Return the names of all modules of a package, found by looking at its folder."""
    for root in roots:
        folder = root.path / package.replace(".", "/")
        if not folder.is_dir():
            continue
        names = []
        for path in sorted(folder.rglob("*")):
            if path.suffix not in {_SUFFIX, ".so"}:
                continue
            parts = list(path.relative_to(root.path).parts)
            parts[-1] = parts[-1].partition(".")[0]
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        return names
    return []
