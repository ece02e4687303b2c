"""Copies of an owner that are under way when a pod ends: one of a file that is read, one written.

By the commands that a user would type, each with an end that stands still.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

from tests.chain.world import World

PYTHON = "/usr/bin/python3"
READ_BYTES = 8 << 20
WRITTEN_BYTES = 40_000  # fit into a pipe
_BEGIN_SECONDS = 120
_END_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyEnd:
    """How a copy's command ended, and what it said."""

    status: int
    told: str
    came_bytes: int = 0


@dataclass(slots=True)
class Copies:
    """Two copies; `finish` returns how they ended."""

    reading: Popen[bytes]
    writing: Popen[bytes]
    ends: dict[str, CopyEnd] = field(default_factory=dict)

    def finish(self) -> dict[str, CopyEnd]:
        """Let both commands go on, once their pod has ended."""
        for name, process in (("read", self.reading), ("written", self.writing)):
            out, told = process.communicate(timeout=_END_SECONDS)
            self.ends[name] = CopyEnd(
                status=process.returncode, told=told.decode(), came_bytes=len(out)
            )
        return self.ends


@contextmanager
def copying(scene: World, at: str, folder: str) -> Iterator[Copies]:
    """Begin both copies, in `folder` of the pod's container; they end with the block at the latest.

    Nobody takes what the first one prints, and nobody ends what the second one reads.
    """
    owner, name = scene.owner, scene.canaries.container
    code = f"open('{folder}/large', 'wb').write(bytes({READ_BYTES}))"
    owner.ask("exec", name, PYTHON, "-I", "-c", code, at=at)
    source = owner.folder / f"source{folder.replace('/', '-')}"
    os.mkfifo(source)
    feed = os.open(source, os.O_RDWR)  # so that neither end waits for the other one
    with ExitStack() as stack:
        stack.callback(os.close, feed)

        def start(*words: str | Path) -> Popen[bytes]:
            process = stack.enter_context(owner.start("cp", *words, at=at))
            stack.callback(process.kill)
            return process

        writing = start(source, f"{name}:{folder}/partial")
        reading = start(f"{name}:{folder}/large", "/dev/stdout")
        os.write(feed, bytes(WRITTEN_BYTES))
        assert reading.stdout is not None
        reading.stdout.read(1)
        _wait_until_written(scene, at, f"{folder}/partial")
        yield Copies(reading, writing)


def _wait_until_written(scene: World, at: str, path: str) -> None:
    deadline = time.monotonic() + _BEGIN_SECONDS
    code = f"import os; print(os.path.getsize('{path}') if os.path.exists('{path}') else 0)"
    words = (scene.canaries.container, PYTHON, "-I", "-c", code)
    while int(scene.owner.ask("exec", *words, at=at)) < WRITTEN_BYTES:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def require_told(ends: Mapping[str, CopyEnd]) -> None:
    """Require that each command has failed, and has told its user why."""
    assert {name: end.status for name, end in ends.items()} == {"read": 1, "written": 1}
    assert ends["read"].came_bytes < READ_BYTES
    for end in ends.values():
        assert end.told.startswith("guest-owner: the pod ended"), end.told
        assert end.told.endswith("[owner.pod_ended]\n"), end.told
