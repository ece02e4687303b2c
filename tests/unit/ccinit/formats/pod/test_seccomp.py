"""`[container.seccomp]`: which names a manifest may use, and why it may not use others."""

import pytest

from ccinit.errors import CcinitError, FormatError, LimitExceededError
from ccinit.formats.encoding import wire
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from ccinit.formats.pod.seccomp import Seccomp
from ccinit.formats.pod.system_calls import FILTERED, FORBIDDEN, KNOWN
from tests.fakes.documents.guest import FULL_POD

PLACE = '[container.seccomp]\ndeny = ["chroot"]\n'


def parse(table: str) -> PodManifest:
    return parse_pod_manifest(FULL_POD.replace(PLACE, f"[container.seccomp]\n{table}\n"))


def refusal(table: str) -> CcinitError:
    assert PLACE in FULL_POD
    with pytest.raises(CcinitError) as caught:
        parse(table)
    return caught.value


def test_manifest_says_what_differs_from_the_default_profile() -> None:
    pod = parse('allow = ["mbind", "adjtimex"]\ndeny = ["socket", "chmod"]')
    main, first = pod.containers
    assert main.seccomp == Seccomp(allow=("mbind", "adjtimex"), deny=("socket", "chmod"))
    assert first.seccomp == Seccomp()
    assert wire.decode(PodManifest, wire.encode(pod)) == pod


NAMES = [name for _, group in (*FORBIDDEN, *FILTERED) for name in group.split()]


@pytest.mark.parametrize("name", NAMES)
def test_call_that_reaches_the_guest_cannot_be_allowed_and_is_told_why(name: str) -> None:
    error = refusal(f'allow = ["{name}"]')
    assert error.reason == "pod.container.seccomp.allow"
    assert error.detail.startswith(f"container 'main': no container gets {name}: ")
    if name in KNOWN.split():
        parse(f'deny = ["{name}"]')


@pytest.mark.parametrize(
    "name",
    [
        *("socket", "socketcall", "clone3", "unshare", "setns", "io_uring_setup", "mount", "bpf"),
        *("keyctl", "userfaultfd", "finit_module", "kexec_load", "reboot", "open_by_handle_at"),
    ],
)
def test_what_r73_keeps_from_everybody_is_among_them(name: str) -> None:
    assert name in NAMES


@pytest.mark.parametrize("key", ["allow", "deny"])
@pytest.mark.parametrize("name", ["chmodd", "", "READ", "umount", "stime", "no\\u0000"])
def test_name_of_no_call_is_refused(key: str, name: str) -> None:
    parse(f'{key} = ["chmod"]')
    assert refusal(f'{key} = ["chmod", "{name}"]').reason == f"pod.container.seccomp.{key}"


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ('allow = ["mbind"]\ndeny = ["mbind"]', "pod.container.seccomp.deny"),
        ('deny = ["chmod", "chmod"]', "pod.container.seccomp.deny"),
        ('allow = "mbind"', "pod.container.seccomp.allow"),
        ('profile = "none"', "pod.container.seccomp.unknown"),
        ("deny = [1]", "pod.container.seccomp.deny"),
    ],
)
def test_table_outside_its_schema_is_refused(table: str, reason: str) -> None:
    error = refusal(table)
    assert isinstance(error, FormatError)
    assert error.reason == reason


def test_table_that_is_too_long_is_refused() -> None:
    assert len(parse(f"deny = {KNOWN.split()}").containers[0].seccomp.deny) == len(KNOWN.split())
    assert isinstance(refusal(f"deny = {['chmod'] * 513}"), LimitExceededError)
