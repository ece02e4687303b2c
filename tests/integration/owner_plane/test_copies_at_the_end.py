"""An owner's copies when the pod ends: real clients, and the children that have their files.

Needs root, `unshare` and the tools tree (CCINIT_TOOLS, by default build/tools).
"""

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import Stream, Value
from guest_owner.plane.client import CallRefusedError
from guest_owner.plane.open_call import Streams
from tests.integration.owner_plane.program import COPIED
from tests.integration.owner_plane.world import NO, SECONDS, YES, OwnerWorld, opened_world, run

PYTHON = "/usr/bin/python3.13"
LARGE, SMALL = f"/dev/shm/large-{COPIED}", f"/dev/shm/small-{COPIED}"
LARGE_BYTES, SMALL_BYTES = 1 << 20, 10_000

pytestmark = pytest.mark.usefixtures("as_root")


class Copies:
    """Two that are under way: one whose client does not read on, one whose client has more."""

    def __init__(self, world: OwnerWorld, pool: ThreadPoolExecutor) -> None:
        self._begun, self._may_go_on = threading.Event(), threading.Event()
        self.came = 0
        self.source, self.feed = os.pipe()
        os.write(self.feed, bytes(SMALL_BYTES))
        reading = Streams(sinks={Stream.OUTPUT: self._take})
        writing = Streams(source=self.source)
        self.reading = pool.submit(self._copy, world, reading, LARGE, NO)
        self.writing = pool.submit(self._copy, world, writing, SMALL, YES)
        assert self._begun.wait(SECONDS)

    def _copy(self, world: OwnerWorld, streams: Streams, *params: Value) -> tuple[Value, ...]:
        with world.client() as client:
            return client.stream("copy", "web", *params, 0o600, streams=streams, seconds=SECONDS)

    def _take(self, content: bytes) -> None:
        self.came += len(content)
        self._begun.set()
        assert self._may_go_on.wait(SECONDS)

    def go_on(self) -> None:
        self._may_go_on.set()

    def close(self) -> None:
        os.close(self.source)
        os.close(self.feed)


def why(copy: "Future[tuple[Value, ...]]") -> str:
    error = copy.exception(SECONDS)
    assert isinstance(error, CallRefusedError)
    assert (error.code, error.reason) == (RpcError.FAILED, "owner.pod_ended")
    return error.detail


def test_no_file_is_open_any_more_and_the_owner_knows_why(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        with opened_world(tmp_path) as world:
            write_large(world)
            copies = Copies(world, pool)
            wait_until_small_is_written(world)
        assert world.report["held"] == {"before": 2, "after": 0}
        assert not copies.reading.done()
        assert why(copies.writing) == (
            "the pod ended, and the file there has only what had come by then"
        )
        copies.go_on()
        assert why(copies.reading) == "the pod ended before the file was read to its end"
        assert 0 < copies.came < LARGE_BYTES
        copies.close()


def write_large(world: OwnerWorld) -> None:
    code = f"open({LARGE!r}, 'wb').write(bytes({LARGE_BYTES}))"
    with world.client() as client:
        assert run(client, PYTHON, "-I", "-c", code)[0] == (0, 0)


def wait_until_small_is_written(world: OwnerWorld) -> None:
    code = (
        "import os, time\n"
        f"while not os.path.exists({SMALL!r}) or os.path.getsize({SMALL!r}) < {SMALL_BYTES}:\n"
        "    time.sleep(0.02)\n"
    )
    with world.client() as client:
        assert run(client, PYTHON, "-I", "-c", code)[0] == (0, 0)
