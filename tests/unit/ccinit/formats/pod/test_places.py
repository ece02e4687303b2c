"""Where things may be in a container, and what is refused by whose key."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.pod.places import KERNEL_PLACES, POD_FILES, Place, check_places
from ccinit.values import replace

MOUNT = Place(key="pod.container.mount.path", path="/data")


def file(path: str, *, rotates: bool = False) -> Place:
    return Place(key="pod.secret.file", path=path, is_file=True, rotates=rotates)


@pytest.mark.parametrize(
    "places",
    [
        (),
        (MOUNT, file("/data/key")),
        (file("/etc/key"), file("/process"), file("/devices/x")),
        (file("/s/a", rotates=True), file("/s/b", rotates=True), file("/s-c"), MOUNT),
        (file("/etc/app/key", rotates=True), file("/etc/key")),
        (file("/a"), file("/ab"), file("/b/a"), file("/etc/hosts-b/a")),
    ],
)
def test_places_that_do_not_touch_each_other_are_taken(places: tuple[Place, ...]) -> None:
    check_places("web", places)


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        *(((file(path),), "pod.secret.file") for path in (*POD_FILES, *KERNEL_PLACES)),
        ((file("/dev/shm/key"),), "pod.secret.file"),
        ((file("/proc/key", rotates=True),), "pod.secret.file"),
        ((MOUNT, file("/data")), "pod.secret.file"),
        ((file("/data"), MOUNT), "pod.container.mount.path"),
        ((file("/s/a", rotates=True), file("/s/a", rotates=True)), "pod.secret.file"),
        ((file("/s/a", rotates=True), file("/s/b")), "pod.secret.rotate"),
        ((file("/s/a", rotates=True), file("/s/b/c", rotates=True)), "pod.secret.rotate"),
        ((file("/s/a", rotates=True), file("/s")), "pod.secret.file"),
        ((file("/data/a", rotates=True), MOUNT), "pod.secret.rotate"),
        ((file("/etc/key", rotates=True),), "pod.secret.rotate"),
        ((file("/key", rotates=True),), "pod.secret.rotate"),
        ((file("/a"), file("/a/key")), "pod.secret.file"),
        ((file("/a/b/key"), file("/a")), "pod.secret.file"),
        ((file("/data/key"), replace(MOUNT, path="/data/key/x")), "pod.container.mount.path"),
        ((file("/etc/hosts/key"),), "pod.secret.file"),
        ((file("/etc"),), "pod.secret.file"),
    ],
)
def test_place_that_is_taken_is_refused_by_its_key(places: tuple[Place, ...], reason: str) -> None:
    with pytest.raises(FormatError) as refused:
        check_places("web", places)
    assert refused.value.reason == reason
    assert refused.value.detail.startswith("web: ")


@pytest.mark.parametrize(
    "cwd", [None, "", "/", "/srv", "/data/x", "/etc", "/s", "/s/b", "/run", "/proc"]
)
def test_directory_in_which_a_program_begins_may_be_any(cwd: str | None) -> None:
    check_places("web", (MOUNT, file("/run/key"), file("/s/a", rotates=True)), cwd)


@pytest.mark.parametrize("cwd", ["/run/key", "/run/key/x", "/etc/hosts", "/s/a", "/s/a/b/c"])
def test_directory_that_cannot_be_one_is_refused(cwd: str) -> None:
    with pytest.raises(FormatError) as refused:
        check_places("web", (MOUNT, file("/run/key"), file("/s/a", rotates=True)), cwd)
    assert refused.value.reason == "pod.container.cwd"
