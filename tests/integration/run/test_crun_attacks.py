"""Programs of a container that reach for more than it was given, against the real crun."""

import errno
from pathlib import Path

from tests.integration.run.crun_reports import assert_clean, run_case

KERNEL_NAMES = ("proc", "sys", "dev")


def test_container_does_not_begin_in_a_directory_that_crun_has_open() -> None:
    report = run_case("directories")
    assert_clean(report)
    seen = report["seen"]
    assert seen.pop("/tmp")[0] == "/tmp\n"  # the same image, beginning where it may
    for path, (printed, events) in seen.items():
        assert printed == "", path
        assert events[0].startswith("probe: crun.create: "), events
    assert len(seen) == 63


def test_r78_container_makes_no_children_for_pid_1_to_collect() -> None:
    """By CLONE_PARENT; PID 1 would do nothing else as long as they are made."""
    report = run_case("children_of_pid_1")
    assert_clean(report)
    assert report["printed"] == f"True 0\nFalse {errno.EPERM}\n"


def test_r72_mount_does_not_follow_a_link_of_the_image_out_of_its_root() -> None:
    report = run_case("links")
    assert_clean(report)
    assert report["outside"] == []
    seen = report["seen"]
    stayed = seen.pop("run/secrets: /srv")  # inside
    assert stayed == ["the key\n", ["probe: exit code 0"]]
    for name, found in seen.items():
        if name.startswith("run/secrets"):
            printed, events = found
            assert (printed, events[0][:20]) == ("", "probe: crun.create: "), name
        else:
            assert found == "run.mount_point", name
    assert len(seen) == 15


def test_device_nodes_of_an_image_are_dead() -> None:
    report = run_case("device_nodes")
    assert report["read_only True"] == "mem 1\ndisk 1\nnull ok\nmknod 30\n"
    assert report["read_only False"] == "mem 1\ndisk 1\nnull ok\nmknod 1\n"


def test_root_of_a_container_does_not_see_whose_the_guests_pages_are() -> None:
    names = ("kpagecgroup", "kpagecount", "kpageflags")
    for name in names:
        with Path("/proc", name).open("rb", buffering=0) as file:
            assert len(file.read(8)) == 8
    report = run_case("pages")
    assert_clean(report)
    assert report["stdout"] == "".join(f"{name} 0\n" for name in names)


def test_root_of_a_container_does_not_see_the_guests_interrupts_and_file_systems() -> None:
    folders = ("/sys/kernel/irq", "/proc/fs")
    files = ("/proc/interrupts", "/proc/softirqs")
    assert all(list(Path(path).iterdir()) for path in folders)
    assert all(Path(path).read_text() for path in files)
    report = run_case("of_the_guest")
    assert_clean(report)
    assert report["stdout"] == "".join(f"{path} 0\n" for path in folders + files)


def test_r70_image_volume_does_not_follow_a_link_made_before_a_restart() -> None:
    """With a path in the root for its source, it would be what the link names in the guest."""
    report = run_case("moved_volume")
    assert report["stdout"] == "[]\n['kept'] ['kept']\n"  # where the link leads in the container
    assert_clean(report)


def test_r72_kernel_file_systems_cannot_be_moved_by_whom_the_root_is_passed_to() -> None:
    """With /proc moved while crun makes a container, nothing in it is masked or read-only."""
    report = run_case("passed_root")
    assert_clean(report)
    assert report["stdout"] == "True\n"
    refused, taken = errno.EPERM, errno.EEXIST
    *held, free = report["taker"]["stdout"].splitlines()[1:]
    assert held == [f"{name} {refused} {refused} {taken} {refused}" for name in KERNEL_NAMES]
    assert free == f"srv {errno.EXDEV} None None None"  # one of an image has to be made anew


def test_what_a_container_has_read_only_is_so_before_crun_remounts_it() -> None:
    """For that, crun finds the place again, which may have been replaced meanwhile."""
    report = run_case("read_only_sources")
    assert_clean(report)
    places = ("/data", "/etc/hosts", "/run/rotating", "/run/secrets/key")
    assert report["sources"] == {**dict.fromkeys(places, True), "/work": False}


def test_container_with_all_rights_over_the_network_stays_out_of_others_connections() -> None:
    """Neither does it hear TCP on loopback, nor listen where the guest does.

    By descriptor -1 the kernel's EBADF says that the filter has let an option pass.
    """
    report = run_case("network_rights")
    tcp, repair = 6, 19
    others = [number for number in range(1, 256) if number != tcp]
    assert report["raw6"] == {"ok": others, "EPERM": [tcp]}
    beyond = {"EPROTONOSUPPORT": [512, (1 << 32) + tcp]}
    assert report["raw"] == {"ok": others, "EPERM": [tcp], **beyond}
    socket_packet = 10
    assert socket_packet in report["types"]["ESOCKTNOSUPPORT"]
    assert report["types"]["ok"] == [1, 2]
    levels = [number for number in range(512) if number != tcp]
    beyond = {"ENOPROTOOPT": [*range(512, 600), (1 << 32) + tcp]}
    assert report["levels"] == {"EBADF": levels, "EPERM": [tcp], **beyond}
    options = [number for number in range(256) if number != repair]
    beyond = {"ENOPROTOOPT": [*range(256, 300), (1 << 32) + repair]}
    assert report["options"] == {"EBADF": options, "EPERM": [repair], **beyond}
