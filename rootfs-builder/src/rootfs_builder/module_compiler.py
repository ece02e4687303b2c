"""The part of the build that runs inside the guest's interpreter: find modules, compile them.

Started as `python3.13 -I -S FILE` in the tree that the image is made of, so that bytecode comes
from exactly the interpreter that will load it. Takes a job and gives a result, both JSON, by
standard input and output. The side that starts it is `rootfs_builder.guest_python`.
"""

import json
import py_compile
import sys
from pathlib import Path
from typing import Any

# It is started as a file, so its own package is on no path yet.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rootfs_builder.import_closure import (
    SearchRoot,
    compute_closure,
)


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
            py_compile.compile(
                str(module.path),
                cfile=str(compiled),
                dfile=target,  # what tracebacks show
                doraise=True,
                optimize=0,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
            result.append({"name": name, "target": f"{target}c", "file": str(compiled)})
        else:
            result.append({"name": name, "target": target, "file": str(module.path)})
    return result


if __name__ == "__main__":
    json.dump(compile_job(json.load(sys.stdin)), sys.stdout)
