"""In which order a container is prepared, and what is registered to be undone before which step.

What the steps do is tested where they are, and all of them together with the real `crun`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.event_loop import EventLoop
from ccinit.run import preparation
from ccinit.run.preparation import prepare
from ccinit.run.workload import BindMount, Prepared, SecretFile, Workload
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.documents.containers import CONTAINER, IMAGE
from tests.fakes.machine.scarcity import count_descriptors
from tests.unit.ccinit.run.supervisor_world import USER, no_child

DATA = BindMount(source="/data", target="/d", read_only=True)
WORK = BindMount(source="/work", target="/w", read_only=False)
KEY = BindMount(source="/secrets/key", target="/key", read_only=True)
SPEC: dict[str, object] = {"ociVersion": "1.0.2"}
STEPS: list[tuple[object, ...]] = [
    ("make_new_directory", "web", 0o700),
    ("undo remove_mount_point", "web"),
    ("undo remove_mount_point", "web/root"),
    ("activate_rootfs", ("/low",), "/scratch/web", "web/root"),
    ("undo detach", "web/root"),
    ("check_mount_points",),
    ("hold_mount_points",),
    ("find_identity", "app", no_child),
    ("find_image_volumes", "web/root", ("/var/db",), ["/d", "/w", "/key"]),
    ("undo erase_secrets", "web/secrets"),
    ("write_secrets", "web/secrets", "/key", USER),
    ("undo remove_mount_point", "web/volume-0"),
    ("mount_from_root", "web/root", "/var/db", "web/volume-0"),
    ("undo detach", "web/volume-0"),
    ("undo remove_mount_point", "web/bind-0"),
    ("mount_read_only", "/data", "web/bind-0"),
    ("undo detach", "web/bind-0"),
    ("undo remove_mount_point", "web/bind-2"),
    ("mount_read_only", "/secrets/key", "web/bind-2"),
    ("undo detach", "web/bind-2"),
    ("plan_spec", USER, "web/root"),
]


class World:
    """Notes every step below `place`, and lets one of them fail."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (place / "web/root").mkdir(parents=True)
        self.place, self.fails = place, -1
        self.steps: list[tuple[object, ...]] = []
        self.mounts: dict[str, tuple[BindMount, ...]] = {}

        async def find_identity(_root_fd: int, *given: object) -> object:
            return self.note("find_identity", *given, result=USER)

        def plan_spec(_: Workload, *given: object, **mounts: tuple[BindMount, ...]) -> object:
            self.mounts = mounts
            return self.note("plan_spec", *given, result=SPEC)

        def write_secrets(path: str, files: tuple[SecretFile, ...], user: object) -> object:
            return self.note(
                "write_secrets", path, *(one.path for one in files), user, result=(KEY,)
            )

        def in_root(name: str, result: object = None) -> Callable[..., object]:
            return lambda _root_fd, *given: self.note(name, *given, result=result)

        def plain(name: str) -> Callable[..., object]:
            return lambda *given: self.note(name, *given)

        changes = "make_new_directory", "activate_rootfs", "mount_from_root", "mount_read_only"
        for name in changes:
            monkeypatch.setattr(preparation, name, plain(name))
        for name in ("check_mount_points", "hold_mount_points"):
            monkeypatch.setattr(preparation, name, in_root(name))
        found = in_root("find_image_volumes", ("/var/db",))
        monkeypatch.setattr(preparation, "find_image_volumes", found)
        for step in (find_identity, plan_spec, write_secrets):
            monkeypatch.setattr(preparation, step.__name__, step)

    def note(self, name: str, *given: Any, result: object = None) -> object:
        prefix = f"{self.place}/"
        short = [one.removeprefix(prefix) if isinstance(one, str) else one for one in given]
        self.steps.append((name, *short))
        if len(self.steps) - 1 == self.fails:
            raise KernelError(5, name, "")
        return result

    def undo(self, step: Callable[[str], None], path: str) -> None:
        self.note(f"undo {step.__name__}", path)

    def prepare(self, user: str | None = None) -> Prepared:
        workload = Workload(
            container=replace(CONTAINER, user=user),
            image=replace(IMAGE, user="app", volumes=("/var/db",)),
            lowers=("/low",),
            scratch="/scratch/web",
            run_dir=f"{self.place}/web",
            hostname="",
            address="",
            cgroup_path="",
            binds=(DATA, WORK),
            secret_files=(SecretFile(path="/key", mode=0o400, content=Secret(b"")),),
        )
        return EventLoop().run(prepare(workload, no_child, self.undo))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_container_is_prepared_step_by_step_and_crun_gets_no_path_of_its_root(world: World) -> None:
    assert world.prepare() == Prepared(spec=SPEC, identity=USER)
    assert world.steps == STEPS
    run_dir = f"{world.place}/web"
    volume = BindMount(source=f"{run_dir}/volume-0", target="/var/db", read_only=False)
    data, key = replace(DATA, source=f"{run_dir}/bind-0"), replace(KEY, source=f"{run_dir}/bind-2")
    assert world.mounts == {"image_volumes": (volume,), "binds": (data, WORK, key)}


def test_user_of_the_manifest_comes_before_the_images(world: World) -> None:
    world.prepare("0")
    assert ("find_identity", "0", no_child) in world.steps


@pytest.mark.parametrize(
    "number", [number for number, step in enumerate(STEPS) if not str(step[0]).startswith("undo")]
)
def test_step_that_fails_is_the_last_one(world: World, number: int) -> None:
    before = count_descriptors()
    world.fails = number
    with pytest.raises(KernelError):
        world.prepare()
    assert world.steps == STEPS[: number + 1]
    assert count_descriptors() == before
