"""The part of the build that runs inside the guest's interpreter: find modules, compile them.

It is started as `python3.13 -I -S FILE` in the tree that the image is made of, so that bytecode
comes from exactly the interpreter that will load it. It reads a job from standard input and writes
a result to standard output, both JSON. `rootfs_builder.guest_image.python_modules` starts it.
"""

import ast
import importlib.util
import json
import marshal
import sys
from pathlib import Path
from typing import Any

# It is started as a file, so its own package is on no path yet.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rootfs_builder.guest_image.import_closure import (
    SearchRoot,
    compute_closure,
)

_UNCHECKED_HASH = 0b01  # flags of PEP 552: hash-based, not checked


def main() -> None:
    """Do the job of standard input.

    Raises:
        SystemExit: with one line for the caller, if a file cannot be read or written.
    """
    job = json.load(sys.stdin)
    try:
        result = compile_job(job)
    except OSError as error:  # a write that finds no room names no file
        sys.exit(f"{error.filename or job['output']}: {error.strerror}")
    json.dump(result, sys.stdout)


def compile_job(job: dict[str, Any]) -> list[dict[str, str]]:
    """Compile the closure that `job` describes.

    Args:
        job: `entries`, `excluded` (names); `roots`, each with `path`, `nested` and `target`, the
            folder that its modules have in the guest; `output`, where bytecode goes.

    Returns:
        For each module its `name`, its `target` path in the guest, and the `file` to put there.
    """
    targets = {Path(root["path"]): root["target"] for root in job["roots"]}
    closure = compute_closure(
        job["entries"],
        [SearchRoot(path=Path(root["path"]), nested=root["nested"]) for root in job["roots"]],
        frozenset(job["excluded"]),
    )
    result = []
    for name in sorted(closure):
        module = closure[name]
        inside = module.path.relative_to(module.root)
        target = f"{targets[module.root]}/{inside}"
        if module.path.suffix == ".py":
            compiled = Path(job["output"]) / target.lstrip("/")
            compiled = compiled.with_suffix(".pyc")
            compiled.parent.mkdir(parents=True, exist_ok=True)
            compiled.write_bytes(compile_module(module.path.read_bytes(), target))
            result.append({"name": name, "target": f"{target}c", "file": str(compiled)})
        else:
            result.append({"name": name, "target": target, "file": str(module.path)})
    return result


def compile_module(source: bytes, shown_as: str) -> bytes:
    """Return the bytecode file of a module (PEP 552), which is never compared with a source.

    Docstrings are dropped: nobody in a guest reads them, and PID 1 would hold half a megabyte of
    them. Assertions, which `optimize=2` would drop as well, stay: libraries check with them. Line
    numbers stay, since error reports name them. Columns, which only a printed traceback would show,
    are dropped: they are a tenth of the bytes.

    Args:
        source: text of the module.
        shown_as: its path in the guest, which tracebacks name.

    Raises:
        SyntaxError: it cannot be compiled.
    """
    tree = ast.parse(source, shown_as)
    for node in ast.walk(tree):
        _remove_docstring(node)
        _remove_columns(node)
    code = compile(tree, shown_as, "exec", dont_inherit=True, optimize=0)
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little")
    return header + importlib.util.source_hash(source) + marshal.dumps(code)


def _remove_docstring(node: ast.AST) -> None:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return
    if ast.get_docstring(node, clean=False) is None:
        return
    docstring = node.body.pop(0)
    if not node.body and not isinstance(node, ast.Module):  # only a module may be empty
        node.body.append(ast.copy_location(ast.Pass(), docstring))


def _remove_columns(node: ast.AST) -> None:
    if not hasattr(node, "lineno"):
        return
    placed: Any = node
    placed.col_offset = placed.end_col_offset = -1  # means to the compiler that there is no column
    if not isinstance(node, ast.Attribute):  # a method's call counts from where its name ends
        placed.end_lineno = placed.lineno


if __name__ == "__main__":
    main()
