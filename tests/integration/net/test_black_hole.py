"""What is larger than a way takes, and no word of it: TCP finds out by itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.net.black_hole_program import EVIDENCE

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.usefixtures("as_root")


def test_evidence_arrives_where_the_way_drops_large_packets() -> None:
    program = (sys.executable, "-m", "tests.integration.net.black_hole_program")
    path = os.pathsep.join((str(ROOT), *filter(None, sys.path)))
    done = subprocess.run(
        ("unshare", "--net", *program),
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        timeout=90,
    )
    seen = json.loads(done.stdout)
    assert seen["arrived"] == len(EVIDENCE)
    assert seen["before"] > 1300 >= seen["after"]  # what was first sent had no way through
