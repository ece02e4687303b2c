"""Cases of `crun_cases`, run with the real crun as root on this machine's kernel, as reports.

Needs root, `unshare` and the tools tree (CCINIT_TOOLS, by default build/tools).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
TOOLS = Path(os.environ.get("CCINIT_TOOLS", ROOT / "build" / "tools")).resolve()


def run_case(name: str) -> dict[str, Any]:
    """Run a case of `crun_cases` as PID 1 of new namespaces."""
    command = (
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable),
        *("-m", "tests.integration.run.crun_cases", str(TOOLS), str(ROOT), name),
    )
    result = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr.decode()
    report: dict[str, Any] = json.loads(result.stdout)
    assert report["fds_left"] == report["null_owner"] == 0
    return report


def assert_clean(report: dict[str, Any]) -> None:
    assert report["left"] == []
    assert report["children"] == []
    assert not report["run_dir_left"]
