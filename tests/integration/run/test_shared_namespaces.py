"""Containers that share namespaces, by the real crun, with the real first process.

Needs root, `unshare` and the tools tree (CCINIT_TOOLS, by default build/tools).
"""

import json
import subprocess
import sys
from typing import Any

import pytest

from ccinit.agent.processes.roles import RIGHTS, Role
from rootfs_builder.tools_tree import ToolsTree
from tests.integration.owner_plane.world import ROOT, TOOLS
from tests.vm.harness.site_packages import open_site_packages

pytestmark = pytest.mark.usefixtures("as_root")

SHM_BYTES = 1 << 20
NO_SEGMENT = "ENOENT"
GOES_ON = {"S", "R", "D"}  # neither stopped nor ended, whatever it does at the moment


def run_case(name: str) -> dict[str, Any]:
    """Run a case of `shared_pod_program` as PID 1 of new namespaces; nothing may be left of it."""
    site = open_site_packages(ToolsTree(TOOLS), ROOT / "build" / "cache" / "vm")
    command = (
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable),
        *("-m", "tests.integration.run.shared_pod_program", TOOLS, ROOT, site.resolve(), name),
    )
    result = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr.decode()
    report: dict[str, Any] = json.loads(result.stdout)
    assert report["failures"] == report["children"] == []
    assert (report["left"], report["null_owner"]) == (False, 0)
    assert report["stderr"] == {}
    return report


def test_shared_ipc_is_one_for_those_who_share_it_and_none_for_others() -> None:
    report = run_case("ipc")
    assert report["a"] == [
        {"segment": "ok", "queue": "ok", "large segment": "ENOSPC", "large file": "ENOSPC"},
        {"message queues": 16, "semaphores": 32_000},
    ]
    (b,), (c,), (d,) = report["b"], report["c"], report["d"]
    assert (b["note"], b["segment"], b["queues"]) == ("from a", "ok", ["queue"])
    assert (c["note"], c["segment"], c["queues"]) == (None, NO_SEGMENT, [])
    assert d == b
    assert (b["size"], c["size"]) == (SHM_BYTES, 64 << 20)
    assert (b["files"], c["files"]) == (SHM_BYTES >> 14, 4096)
    assert b["options"] == c["options"] == ["nodev", "noexec", "nosuid", "rw"]
    assert b["hostname"] == c["hostname"] == "pod"


@pytest.fixture(scope="module")
def process() -> dict[str, Any]:
    """What containers saw of each other."""
    return run_case("process")


def test_containers_share_one_process_namespace(process: dict[str, Any]) -> None:
    (a,), (b,), (alone,) = process["a"], process["b"], process["alone"]
    assert process["same"]
    assert 1 < a["pid"] < b["pid"]
    assert (alone["pid"], alone["processes"]) == (1, 1)
    # documented: who sees another's processes can have its secrets
    assert (b["secret"], alone["secret"]) == (True, False)


def test_first_process_collects_what_lost_its_parent(process: dict[str, Any]) -> None:
    (a,) = process["a"]
    assert (a["zombies"], a["processes"]) == (0, 3)  # the first, its own, and the daemon


def test_first_process_shows_nothing_of_the_guest(process: dict[str, Any]) -> None:
    (b,) = process["b"]
    uid = str(RIGHTS[Role.REAPER].uid)
    assert (b["first"]["Uid"], b["first"]["PPid"]) == (uid, "0")
    assert (b["environ of 1"], b["mounts of 1"], b["root of 1"]) == ("EACCES", "", False)


def test_first_process_cannot_be_ended_from_inside(process: dict[str, Any]) -> None:
    (killer,) = process["killer"]
    assert killer["outcomes"] == ["sent"]
    assert killer["first"]["State"] in GOES_ON
    assert process["seen by b"]["said"]["first"]["State"] in GOES_ON


def test_first_process_has_the_rights_of_its_row(process: dict[str, Any]) -> None:
    lines = (line.partition(":\t") for line in process["status"].splitlines())
    status = {name: value.split() for name, _, value in lines}
    uid = str(RIGHTS[Role.REAPER].uid)
    assert status["Uid"] == status["Gid"] == [uid] * 4
    assert {status[name][0] for name in ("CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])
    assert int(process["oom_score_adj"]) == RIGHTS[Role.REAPER].oom_score


def test_further_program_is_in_the_cgroup_of_its_container(process: dict[str, Any]) -> None:
    assert process["exec"]["cgroup"] == "/a"
    assert process["exec"]["status"] == "exit code 0"


def test_container_ends_with_what_it_left_and_without_what_is_anothers(
    process: dict[str, Any],
) -> None:
    # its program, its daemon, and the one that a further program has left
    assert process["before"] == {"a": 3, "b": 1}
    assert process["after"] == {"a": -1, "b": 1}
    assert process["seen by b"]["said"]["processes"] == 4  # the first, b, killer, and itself
    assert process["seen by b"]["said"]["secret"] is False


def test_container_that_starts_again_does_not_meet_what_it_left() -> None:
    report = run_case("restart")
    assert report["a"] == [{"processes": 2}] * 3


def test_end_of_the_first_process_ends_the_guest_and_nothing_runs_elsewhere() -> None:
    report = run_case("death")
    assert report["before"] is False
    gone = "the first process of the pod's PID namespace is gone: child.ended: reaper: signal 9"
    assert report["why"] == [["INTERNAL", f"pod.processes: {gone}"]]
    assert report["events"][0] == "a: signal 9"
    assert report["events"][1].startswith("a: crun.create: a: ")
    assert report["b"] == "running"
    assert report["bound"] is False


def test_first_process_that_does_not_start_is_the_pods_failure() -> None:
    report = run_case("no_reaper")
    assert (report["reason"], report["stopping"]) == ("child.ended", False)
