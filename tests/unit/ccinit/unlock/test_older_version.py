"""Volumes that an older version made are opened by this one: same keys, superblocks and tables."""

import json
from pathlib import Path

from tests.vectors.older_version.make_vectors import describe_volumes

WRITTEN = Path("tests/vectors/older_version/volumes.json")


def test_volumes_have_the_keys_and_tables_that_they_were_made_with() -> None:
    assert describe_volumes() == json.loads(WRITTEN.read_text())
