"""The run room against the real crun (`crun_reports`)."""

import errno
import json
import subprocess
from typing import Any

import pytest

from ccinit.formats.pod.system_calls import KNOWN
from ccinit.kernel.seccomp import SYSCALLS
from tests.integration.run.crun_reports import TOOLS, assert_clean, run_case
from tests.vm.guest.containers import PYTHON


@pytest.fixture(scope="module")
def probe() -> dict[str, Any]:
    """The report of a process inside a container."""
    report = run_case("probe")
    assert_clean(report)
    assert (report["state"], report["stderr"], report["crun"]) == ("done", "", "")
    inside: dict[str, Any] = json.loads(report["stdout"])
    return inside


def test_secret_is_replaced_while_its_container_runs_and_says_so() -> None:
    report = run_case("rotate")
    assert_clean(report)
    assert report["stdout"].splitlines() == [
        *("the first ['key']", "30"),  # EROFS
        *("the second ['key']", "30"),
        *("the third ['key']", "30"),
    ]


def test_debug_environment_is_the_guest_seen_from_the_tools_volume() -> None:
    report = run_case("debug")
    printed = report["printed"]
    assert printed[0] == "0"
    assert printed[1] == "1"  # the same capabilities
    assert printed[2].startswith("python3")  # the tester's PID 1
    assert printed[3] == printed[4]
    assert printed[5] == printed[6]
    assert printed[7].endswith("Read-only file system")
    assert printed[8:] == ["written", "the kernel log", *("state", "tools")]  # of PID 1's root
    assert report["size"] == "31 97"
    assert report["statuses"] == ["exit code 0"] * 5 + ["exit code 7", "exit code 0", "crun.exec"]
    assert (report["left"], report["children"], report["cgroup"]) == ([], [], False)


def test_container_has_no_capability_and_can_gain_none(probe: dict[str, Any]) -> None:
    none = "0000000000000000"
    assert probe["status"] == {
        "CapInh": none,
        "CapPrm": none,
        "CapEff": none,
        "CapBnd": none,
        "CapAmb": none,
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }


def test_container_has_no_descriptor_but_its_own(probe: dict[str, Any]) -> None:
    assert probe["fds"] == [0, 1, 2]


def test_container_is_alone_in_its_namespaces(probe: dict[str, Any]) -> None:
    assert (probe["pid"], probe["processes"], probe["hostname"]) == (1, [1], "pod")
    assert probe["oom_score_adj"] == 0


def test_container_runs_as_asked(probe: dict[str, Any]) -> None:
    assert probe["ids"] == [1000, 1000, []]
    assert probe["cwd"] == "/tmp"
    expected = {"LANG": "C", "HOME": "/", "HOSTNAME": "pod", "GREETING": "hello", "TOKEN": "abc"}
    assert expected.items() <= probe["env"].items()


def test_container_sees_its_secret_and_cannot_change_it(probe: dict[str, Any]) -> None:
    secret = {"uid": 1000, "gid": 1000, "mode": 0o400, "content": "the key"}
    assert probe["files"]["/run/secrets/key"] == secret
    assert {"ro", "nosuid", "nodev"} <= set(probe["mounts"]["/run/secrets/key"])
    assert probe["writes"]["/run/secrets/key"] == "EACCES"


def test_container_writes_to_volumes_only(probe: dict[str, Any]) -> None:
    assert probe["writes"]["/data/x"] == "ok"
    assert probe["writes"]["/x"] == "EROFS"
    assert probe["writes"]["/proc/sys/kernel/printk"] in {"EACCES", "EROFS"}
    assert "ro" in probe["mounts"]["/"]
    assert "ro" in probe["mounts"]["/sys"]


def test_r72_container_has_a_fresh_dev(probe: dict[str, Any]) -> None:
    assert set(probe["dev"]) == {
        *("core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm"),
        *("stderr", "stdin", "stdout", "tty", "urandom", "zero"),
    }


def test_r73_container_opens_plain_sockets_only(probe: dict[str, Any]) -> None:
    refused = "EAFNOSUPPORT"
    assert probe["sockets"] == {
        "vsock": refused,
        "alg": refused,
        "packet": refused,
        "bluetooth": refused,
        "ax25": refused,
        "netlink_audit": "EPROTONOSUPPORT",
        "raw_inet": "EPERM",
        "netlink_route": "ok",
        "unix": "ok",
        "inet": "ok",
        "inet6": "ok",
    }
    assert probe["vsock_with_high_bits"] == refused


def test_r73_container_is_refused_dangerous_calls(probe: dict[str, Any]) -> None:
    calls = probe["calls"]
    assert calls.pop("getpid") == "ok"
    assert calls.pop("clone3") == "ENOSYS"
    assert calls.pop("not_yet_invented") == "ENOSYS"
    assert set(calls.values()) == {"EPERM"}


def test_r93_exit_code_and_binary_output_arrive_as_they_are() -> None:
    report = run_case("exit_code")
    assert_clean(report)
    assert (report["state"], report["status"]) == ("failed", "exit code 7")
    assert report["stdout"].encode("latin-1") == bytes(range(256))
    assert report["stderr"] == "err"


def test_output_written_right_before_the_end_is_not_lost() -> None:
    report = run_case("much_output")
    assert report["stdout"] == 64 * 65536


def test_program_that_is_not_there_is_a_failed_container() -> None:
    report = run_case("no_program")
    assert_clean(report)
    assert (report["state"], report["starts"]) == ("failed", 0)
    (event,) = report["events"]
    assert event.startswith("probe: crun.create: probe: exit code 1: executable file ")
    assert "not found" in event
    assert "not found" in report["crun"]


def test_user_that_is_not_there_starts_nothing() -> None:
    report = run_case("unknown_user")
    assert report["reason"] == "run.user"
    assert not report["run_dir_left"]


def test_user_by_name_is_that_of_the_image() -> None:
    seen = run_case("named_user")["seen"]
    # the further groups of a program, too: engines have left them out (CVE-2023-25173)
    assert seen == {
        "daemon": "1 1 [77] /usr/sbin\n",
        "daemon:other": "1 78 [] /usr/sbin\n",
    }


def test_r75_failing_container_is_restarted_with_growing_pauses() -> None:
    report = run_case("restart")
    assert_clean(report)
    assert (report["state"], report["starts"]) == ("done", 3)
    assert report["seconds"] >= 3


def test_stop_lets_a_program_end_itself() -> None:
    report = run_case("stop_politely")
    assert_clean(report)
    assert (report["state"], report["status"]) == ("stopped", "exit code 0")
    assert report["seconds"] < 20


def test_stop_kills_what_does_not_listen_and_its_children() -> None:
    report = run_case("stop_deaf")
    assert_clean(report)
    assert (report["state"], report["status"]) == ("stopped", "signal 9")


def test_stop_ends_a_pause() -> None:
    report = run_case("stop_in_pause")
    assert_clean(report)
    assert report["state"] == "stopped"
    assert report["seconds"] < 20


def test_cancelled_supervisor_leaves_nothing_behind() -> None:
    assert_clean(run_case("cancel"))


def test_exec_runs_beside_the_program_with_its_rights() -> None:
    report = run_case("exec")
    assert_clean(report)
    assert report["exec"].startswith("1000 /usr/local/sbin:")
    assert report["exec_statuses"] == [
        "exit code 5",
        *["exit code 0"] * 5,
        "signal 9",
        "crun.exec",
        "run.exec",
    ]


@pytest.mark.parametrize("case", ["stopped_supervisor", "refused_supervisor"])
def test_supervisor_leaves_nothing_behind_wherever_it_is_stopped_or_refused(case: str) -> None:
    report = run_case(case)
    assert_clean(report)
    assert report["left_after"] == []


@pytest.mark.parametrize("case", ["stopped_exec", "refused_exec"])
def test_exec_that_is_cut_short_or_refused_leaves_no_program_in_the_container(case: str) -> None:
    report = run_case(case)
    assert_clean(report)
    assert report["still_running"] == []


def test_exec_on_a_terminal_has_its_size_and_its_echo() -> None:
    report = run_case("exec_on_terminal")
    assert_clean(report)
    assert report["lines"] == ["True /dev/pts/0 97 31", "hello", "olleh 120 50 xterm", ""]
    assert report["exec_status"] == "exit code 3"


def test_files_are_opened_as_the_container_sees_them() -> None:
    found = run_case("files")["found"]
    assert found["/data/link False"] == found["here"]
    assert found["/data/old False"] == "new"
    assert found["new"] == [1000, 1000, "0o100640"]
    assert found["/data/fifo False"][0] == found["/data False"][0] == "run.file"
    assert found["/data/process False"][0] == found["/proc/1/comm True"][0] == "run.file"
    assert found["/large False"] == "new"  # what it was in the image has no room on scratch
    assert found["/sys/x True"] == ["kernel.openat2", errno.EROFS]
    assert found["/none False"] == ["kernel.openat2", errno.ENOENT]
    assert found["/proc/1/root/etc/hostname False"] == ["kernel.openat2", errno.ELOOP]


def test_r70_image_volumes_are_writable_and_on_scratch() -> None:
    report = run_case("image_volumes")
    assert_clean(report)
    seed, *written = report["stdout"].splitlines()
    assert seed == "of the image"
    assert written == [
        "/srv/db/new ok",
        "/srv/link/too ok",
        "/srv/made/x 13",  # made for root, as the image says nothing of it
        "/srv/x 30",
        "/data/x 30",  # the manifest mounts it, read-only
    ]
    assert report["upper"] == ["new", "too"]


def test_r70_mounts_of_the_manifest_are_above_the_images_volumes() -> None:
    report = run_case("mounts_over_image_volumes")
    assert_clean(report)
    assert report["stdout"] == "the key ['kept']\n"
    assert (report["/data"], report["/lib/app"]) == (["kept"], ["kept"])


def test_program_is_stopped_by_the_signal_of_its_image() -> None:
    report = run_case("stop_signal")
    assert_clean(report)
    assert report["seconds"] < 20
    assert report["state"] == "stopped"


def test_container_is_up_when_its_port_answers() -> None:
    report = run_case("ready")
    assert_clean(report)
    *before, last = report["answers"]
    assert (set(before), last) == ({False}, True)
    assert "probe: is ready" in report["events"]


def test_container_that_ends_before_it_was_ready_keeps_nobody_waiting() -> None:
    report = run_case("never_ready")
    assert_clean(report)
    assert (report["state"], report["starts"]) == ("done", 1)
    assert "probe: is ready" not in report["events"]


def test_container_that_does_not_answer_is_ended_and_has_failed() -> None:
    report = run_case("alive")
    assert_clean(report)
    said, first, second = report["events"]
    assert said == "probe: does not answer, and is ended"
    assert first == second == "probe: exit code 0"  # in order, and yet a failure
    assert (report["state"], report["starts"]) == ("done", 2)


def test_capability_of_the_manifest_is_there_for_a_plain_user_and_no_other() -> None:
    report = run_case("capabilities")
    assert_clean(report)
    assert report["chown"] is None
    assert report["chroot"] == report["clock"] == errno.EPERM


def test_server_of_user_0_runs_with_what_its_image_expects_and_not_without() -> None:
    """Each line is a row of docs/operations.md, "When an image runs elsewhere but not here"."""
    report = run_case("server_of_user_0")
    assert_clean(report)
    refused, none = errno.EPERM, "0000000000000000"
    assert report["without"] == {
        "bind": None,  # a low port, which anybody may have
        "write": None,  # its own
        "rights": none,
        **dict.fromkeys(("chown", "armed", "setgroups", "setgid", "setuid"), refused),
    }
    allowed = ("chown", "bind", "armed", "setgroups", "setgid", "setuid", "write")
    assert report["with"] == {"rights": none, **dict.fromkeys(allowed)}  # once it is another


def test_container_calls_what_its_manifest_allows_and_not_what_it_denies() -> None:
    report = run_case("seccomp")
    default, allow, deny = report["default"], report["allow"], report["deny"]
    assert default["getpid"] == default["inet"] == "ok"
    assert (default["chmod"], default["vsock"]) == ("ENOENT", "EAFNOSUPPORT")
    assert default["adjtimex"] == default["name_to_handle_at"] == default["mount"] == "EPERM"
    assert default["clone3"] == "ENOSYS"
    # by its number a file system answers that is mounted for others only; by a path only its own
    assert (default["ustat"], default["statfs"]) == ("EPERM", "ok")
    assert (default["attribute"], default["large attribute"]) == ("ok", "E2BIG")
    # no room for a handle, or a file system without them
    assert allow.pop("name_to_handle_at") in {"EOVERFLOW", "ENOTSUP"}
    assert deny == {**default, "chmod": "EPERM", "inet": "EPERM", "vsock": "EPERM"}
    del default["name_to_handle_at"]
    assert allow == {**default, "adjtimex": "ok"}


def test_known_system_calls_are_those_of_the_filters_maker() -> None:
    """A name that the library does not know would be skipped by crun without a word.

    The filters of the guest's own children are made of numbers, which it has from the kernel.
    """
    code = (
        "import ctypes\n"
        "library = ctypes.CDLL('libseccomp.so.2')\n"
        "library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p\n"
        "for number in range(1000):\n"
        "    name = library.seccomp_syscall_resolve_num_arch(0xC000003E, number)\n"
        "    if name: print(name.decode(), number)\n"
    )
    command = ("chroot", TOOLS, PYTHON, "-I", "-c", code)
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    words = result.stdout.split()
    assert words[::2] == KNOWN.split()
    assert SYSCALLS.items() <= dict(zip(words[::2], map(int, words[1::2]), strict=True)).items()
