"""`[[secret]]` of `pod.toml`: as a file or a variable, and which files may rotate."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding import wire
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.pod.container import RotateSignal
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from ccinit.formats.pod.secret import FileSecret, VariableSecret
from tests.fakes.documents.guest import FULL_POD

ROTATING = (
    FULL_POD.replace('file = "/run/secrets/token"', 'file = "/run/secrets/token"\nrotate = true')
    .replace('user = "www-data"', 'user = "www-data"\nrotate_signal = "HUP"')
    .replace("[[volume]]", "[rotate]\nevery_seconds = 3600\n[[volume]]", 1)
)
ANOTHER = '[[secret]]\ncontainer = "main"\nuri = "kbs:///ccinit/demo/b"\n'


def file_secrets(manifest: PodManifest) -> list[FileSecret]:
    return [one for one in manifest.secrets if isinstance(one, FileSecret)]


def test_secret_as_a_variable_crosses_a_process_boundary() -> None:
    manifest = parse_pod_manifest(FULL_POD.replace('file = "/run/secrets/token"', 'env = "TOKEN"'))
    uri = ResourceUri("ccinit", "demo", "file-token")
    assert manifest.secrets == (VariableSecret(container="main", uri=uri, name="TOKEN"),)
    assert wire.decode(PodManifest, wire.encode(manifest)) == manifest


def test_pod_manifest_lets_secrets_rotate() -> None:
    plain, manifest = parse_pod_manifest(FULL_POD), parse_pod_manifest(ROTATING)
    assert ([one.rotate for one in file_secrets(plain)], plain.rotate_every_seconds) == ([False], 0)
    assert plain.containers[0].rotate_signal is None
    assert [one.rotate for one in file_secrets(manifest)] == [True]
    assert manifest.rotate_every_seconds == 3600
    assert manifest.containers[0].rotate_signal is RotateSignal.HUP
    assert wire.decode(PodManifest, wire.encode(manifest)) == manifest
    both = ROTATING + ANOTHER + 'file = "/run/secrets/b"\nrotate = true\n'
    assert file_secrets(parse_pod_manifest(both))[1].path == "/run/secrets/b"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"HUP"', '"KILL"', "pod.container.rotate_signal"),
        ("every_seconds = 3600", "every_seconds = 59", "pod.rotate.every_seconds"),
        ("every_seconds = 3600", "", "pod.rotate.every_seconds"),
        ("every_seconds", "x = 1\nevery_seconds", "pod.rotate.unknown"),
        ("rotate = true", "", "pod.rotate"),
        ("rotate = true", "rotate = 1", "pod.secret.rotate"),
        ('file = "/run/secrets/token"', 'env = "TOKEN"', "pod.secret.rotate"),
        ('"/run/secrets/token"', '"/token"', "pod.secret.rotate"),
        ('"/run/secrets/token"', '"/data/token"', "pod.secret.rotate"),
        ('"/run/secrets/token"', '"/etc/token"', "pod.secret.rotate"),
        ('"/run/secrets/token"', '"/etc/hosts"', "pod.secret.file"),
        ('"/run/secrets/token"', '"/dev/token"', "pod.secret.file"),
        ('"/run/secrets/token"', '"/data/../token"', "pod.secret.file"),
        ('path = "/data"', 'path = "/run/secrets/data"', "pod.secret.rotate"),
        ('path = "/etc/web.conf"', 'path = "/run/secrets/x"', "pod.secret.rotate"),
        ("[[secret]]", f'{ANOTHER}file = "/run/secrets/b"\n[[secret]]', "pod.secret.rotate"),
        ("[[secret]]", f'{ANOTHER}file = "/run/secrets/b/c"\n[[secret]]', "pod.secret.rotate"),
    ],
)
def test_pod_manifest_refuses_what_cannot_rotate(old: str, new: str, reason: str) -> None:
    assert old in ROTATING
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(ROTATING.replace(old, new, 1))
    assert caught.value.reason == reason


def test_signal_that_nothing_would_send_is_refused() -> None:
    """A secret of another container that rotates does not send it, nor one that does not rotate."""
    asked = 'kind = "init"\nrotate_signal = "HUP"\n'
    text = ROTATING.replace('kind = "init"\n', asked)
    own = ANOTHER.replace('"main"', '"first"') + 'file = "/run/own/b"\n'
    rotating = parse_pod_manifest(f"{text}{own}rotate = true\n")
    assert rotating.containers[1].rotate_signal is RotateSignal.HUP
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(text + own)
    assert caught.value.reason == "pod.container.rotate_signal"
    assert caught.value.detail.startswith("first: ")


@pytest.mark.parametrize(
    "more",
    [
        '[[file]]\ncontainer = "first"\npath = "/run/secrets/x"\ntext = ""\n',
        '[[file]]\ncontainer = "main"\npath = "/run/secrets-x"\ntext = ""\n',
        ANOTHER.replace("main", "first") + 'file = "/run/secrets/b"\n',
        ANOTHER + 'file = "/run/secrets-b"\n',
        ANOTHER + 'env = "B"\n',
    ],
)
def test_directory_that_rotates_is_one_containers(more: str) -> None:
    assert file_secrets(parse_pod_manifest(ROTATING + more))[0].rotate
    mounted = '[[container.mount]]\nvolume = "scratch"\npath = "/run/secrets"\n'
    other = 'kind = "init"\n'
    beside = parse_pod_manifest(ROTATING.replace(other, other + mounted))
    assert file_secrets(beside)[0].rotate


VARIABLE = '[[secret]]\ncontainer = "{}"\nuri = "kbs:///ccinit/demo/{}"\nenv = "{}"\n'


@pytest.mark.parametrize(
    ("fine", "wrong", "said"),
    [
        (("main", "b", "TOKEN"), ("main", "b", "A"), "and [container.env]"),
        (("first", "b", "A"), ("main", "b", "A"), "and [container.env]"),
        (("main", "b", "OTHER"), ("main", "b", "PASSWORD"), "two secrets"),
        (("first", "b", "PASSWORD"), ("main", "b", "PASSWORD"), "two secrets"),
    ],
)
def test_variable_has_one_value(
    fine: tuple[str, str, str], wrong: tuple[str, str, str], said: str
) -> None:
    text = FULL_POD + VARIABLE.format("main", "a", "PASSWORD")
    assert len(parse_pod_manifest(text + VARIABLE.format(*fine)).secrets) == 3
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(text + VARIABLE.format(*wrong))
    assert caught.value.reason == "pod.secret.env"
    assert caught.value.detail.startswith(f"main: {wrong[2]!r} is set twice, by")
    assert said in caught.value.detail
