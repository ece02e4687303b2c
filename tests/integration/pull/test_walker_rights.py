"""What the walker of mounted layers has its two capabilities for (docs/decisions/0040).

Needs root: it mounts erofs, and changes users and capabilities.
"""

import os
from pathlib import Path

from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.errors import CcinitError
from ccinit.kernel.credentials import Capability, drop_privileges
from ccinit.pull.erofs.walk import list_tree
from tests.fakes.images.tars import Entry, make_tar
from tests.integration.pull.layer_oracle import image_of

WALKER = RIGHTS[Role.TREE]
ROOT = Entry(".", None, mtime=0)
MARK = Entry("d/.wh..wh..opq", b"")


def layer(directory: Entry, *, is_opaque: bool) -> bytes:
    mark = (MARK,) if is_opaque else ()
    return make_tar(ROOT, directory, Entry("d/file", b"content"), *mark)


def told(tar: bytes, at: Path, without: frozenset[Capability] = frozenset()) -> str:
    """Return what a walker of this layer's mount tells: its digests, or the reason of an error."""
    with image_of((tar,), at) as image:
        root = image.layers[0].mount_point
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                drop_privileges(WALKER.uid, WALKER.capabilities - without)
                os.write(writer, describe(root).encode())
            finally:
                os._exit(0)
        os.close(writer)
        os.waitpid(pid, 0)
        text = os.read(reader, 4096).decode()
        os.close(reader)
    assert text
    return text


def describe(root: str) -> str:
    try:
        return " ".join(map(str, list_tree(root)))
    except CcinitError as error:
        return str(error)


def test_walker_without_dac_read_search_reads_nobodys_private_directory(
    tmp_path: Path,
) -> None:
    tar = layer(Entry("d", None, mode=0o700, owner=(1000, 1000)), is_opaque=False)
    sees = told(tar, tmp_path / "with")
    assert sees.count("sha256:") == len(sees.split())
    refused = told(tar, tmp_path / "without", frozenset({Capability.DAC_READ_SEARCH}))
    assert "EACCES" in refused


def test_walker_without_sys_admin_does_not_see_that_a_directory_hides_those_below(
    tmp_path: Path,
) -> None:
    """The mark is `trusted.overlay.opaque`; not seen, it would be nobody's lie."""
    directory = Entry("d", None)
    opaque, plain = (layer(directory, is_opaque=is_opaque) for is_opaque in (True, False))
    ordinary = told(plain, tmp_path / "plain")
    assert told(opaque, tmp_path / "opaque") != ordinary
    blind = frozenset({Capability.SYS_ADMIN})
    assert told(opaque, tmp_path / "blind", blind) == ordinary
