"""What an owner is told of a manifest that the guest accepts."""

import pytest

from ccinit.formats.initdata.guest_config import parse_guest_config
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from guest_owner.manifest.notes import list_notes
from tests.fakes.documents.guest import CONFIG, POD

SECRET = '[[secret]]\ncontainer = "web"\nuri = "kbs:///a/b/c"\nfile = "/run/key"\nmode = {}\n'
FILE = '[[file]]\ncontainer = "web"\npath = "/etc/app.conf"\ntext = ""\nmode = {}\n'
DISK = '[[volume]]\nname = "more{}"\nkind = "scratch"\nsize_bytes = {}\n'
GIB = 1 << 30


def parse_with(text: str) -> PodManifest:
    return parse_pod_manifest(f"{POD}\n{text}")


def test_usual_manifest_has_no_notes() -> None:
    pod = parse_pod_manifest(POD)
    assert list(list_notes(pod, None)) == []
    assert list(list_notes(pod, parse_guest_config(CONFIG))) == []


@pytest.mark.parametrize(
    ("mode", "is_told", "meant"),
    [(400, "0o620", "0o400"), (440, "0o670", "0o440"), (500, "0o764", "0o500")],
)
def test_mode_that_looks_like_an_octal_one_is_told(mode: int, is_told: str, meant: str) -> None:
    pod = parse_with(SECRET.format(mode) + FILE.format(mode))
    secret, file = sorted(list_notes(pod, None), reverse=True)
    told = f"of web: mode = {mode} is {is_told}; write {meant} if that is meant"
    assert secret == f"secret /run/key {told}"
    assert file == f"file /etc/app.conf {told}"


@pytest.mark.parametrize("mode", ["0o400", 256, "0o600", "0o644", 420, "0o660", "0o770", "0o777"])
def test_mode_that_people_write_is_not_told(mode: str | int) -> None:
    assert list(list_notes(parse_with(SECRET.format(mode) + FILE.format(mode)), None)) == []


def test_tags_beyond_the_default_limit_are_told_where_no_config_is_read() -> None:
    pod = parse_with(DISK.format(1, 33 * GIB))
    (note,) = list_notes(pod, None)
    assert note.startswith("only if its ccinit.toml (--config FILE) raises a limit: expected")
    assert "limits.scratch_tags_bytes" in note
    assert list(list_notes(parse_with(DISK.format(1, 30 * GIB)), None)) == []


def test_tags_are_not_told_where_a_config_is_judged() -> None:
    config = parse_guest_config(CONFIG)  # `check_agreement` refuses what exceeds its limits
    assert list(list_notes(parse_with(DISK.format(1, 33 * GIB)), config)) == []


@pytest.mark.parametrize("phase", ["network", "attest", "pull"])
def test_limit_that_is_rarely_enough_is_told(phase: str) -> None:
    """Each may be 1, but it ends a phase that does more than waiting."""
    limits = "{}\n[limits]\n{}_seconds = {}\nstop_grace_seconds = 1\n"
    pod = parse_pod_manifest(POD)
    (note,) = list_notes(pod, parse_guest_config(limits.format(CONFIG, phase, 9)))
    assert note.startswith(f"limits.{phase}_seconds = 9: rarely enough")
    assert list(list_notes(pod, parse_guest_config(limits.format(CONFIG, phase, 10)))) == []


OTHER = '[[container]]\nname = "other"\nimage = "web"\nkind = "{}"\ncapabilities = ["{}"]\n'
SHARING = "[share]\nprocess = true\n"


def test_container_that_can_become_the_user_of_one_whose_processes_it_sees_is_told() -> None:
    (note,) = list_notes(parse_with(OTHER.format("main", "SETUID") + SHARING), None)
    assert note == (
        "container other: with SETUID it can become any user, and read the secrets of all"
        " main containers, whose processes it sees ([share] process)"
    )


@pytest.mark.parametrize(
    ("kind", "capability", "tables"),
    [("main", "SETUID", ""), ("init", "SETUID", SHARING), ("main", "CHOWN", SHARING)],
)
def test_container_that_sees_no_others_or_stays_its_user_is_not_told(
    kind: str, capability: str, tables: str
) -> None:
    assert list(list_notes(parse_with(OTHER.format(kind, capability) + tables), None)) == []


OWNER = "[owner]\nclient_ca = '-----BEGIN CERTIFICATE-----'\n"
ALLOWED = "[debug]\nallowed = true\n"
TOOLS = f"[debug.tools]\nroot_hash = '{'ab' * 32}'\nsalt = '{'cd' * 32}'\ndata_blocks = 2\n"


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        (OWNER, []),
        (OWNER + ALLOWED + TOOLS, []),
        (OWNER + ALLOWED, ["debug.allowed"]),
        (ALLOWED, ["debug.allowed"]),
        (TOOLS, ["debug.tools"]),
        (ALLOWED + TOOLS, ["debug.tools"]),
    ],
)
def test_debug_that_nobody_can_open_is_told(tables: str, told: list[str]) -> None:
    notes = list_notes(parse_pod_manifest(POD), parse_guest_config(CONFIG + tables))
    assert [note.split(" is without effect: ")[0] for note in notes] == told
