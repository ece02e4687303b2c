"""One workload, others like it, and their specs."""

import json
from typing import Any

from ccinit.run.spec import plan_spec
from ccinit.run.users import Identity
from ccinit.run.workload import BindMount, Workload
from ccinit.values import replace
from tests.fakes.documents.containers import CONTAINER, IMAGE

IDENTITY = Identity(uid=1000, gid=100, additional_gids=(44,), home="/home/web")
WORKLOAD = Workload(
    container=CONTAINER,
    image=IMAGE,
    lowers=("/layer",),
    scratch="/scratch/web",
    run_dir="/run/web",
    hostname="pod",
    address="127.0.0.1",
    cgroup_path="/pod/web",
)


def changed(**changes: object) -> Workload:
    return replace(WORKLOAD, **changes)


def plan(
    workload: Workload = WORKLOAD,
    *,
    image_volumes: tuple[BindMount, ...] = (),
    secrets: tuple[BindMount, ...] = (),
) -> dict[str, Any]:
    spec: dict[str, Any] = plan_spec(
        workload,
        IDENTITY,
        "/run/root",
        image_volumes=image_volumes,
        binds=workload.binds + secrets,
    )
    assert json.loads(json.dumps(spec)) == spec
    return spec
