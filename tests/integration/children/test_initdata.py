"""The child that finds the document among the host's disks, with its rights and nothing else.

Needs root, for the change of user.
"""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.boot.configuration import InitdataDocument, ReadInitdata
from ccinit.formats.initdata.document import encode_device_image
from ccinit.kernel.event_loop import EventLoop
from tests.integration.children.conftest import ROOT
from tests.integration.children.harness import needs_root

pytestmark = needs_root

DOCUMENT = b'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n'


def test_document_is_found_on_any_of_many_disks(tmp_path: Path) -> None:
    """Also where the order of numbers is not that of their digits."""
    path = os.pathsep.join((str(ROOT), *filter(None, sys.path)))
    children = Children((sys.executable, "-m", "ccinit"), {"PYTHONPATH": path})
    with ExitStack() as stack:
        fds = {}
        for number in range(14):
            disk = tmp_path / str(number)
            disk.write_bytes(encode_device_image(DOCUMENT) if number == 11 else bytes(4096))
            fds[str(number)] = os.open(disk, os.O_RDONLY)
            stack.callback(os.close, fds[str(number)])
        job = children.run(Role.INITDATA, ReadInitdata(), InitdataDocument, seconds=60, fds=fds)
        assert EventLoop().run(job) == InitdataDocument(disk=11, document=DOCUMENT)
