"""Numbers, paths and texts of `pod.toml`: the last that is taken, and the first that is not."""

from collections.abc import Callable

import pytest

from ccinit.errors import CcinitError, FormatError, LimitExceededError
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from ccinit.formats.pod.secret import FileSecret
from tests.fakes.documents.guest import FULL_POD

PATH = '"/data"'
SECRET = 'file = "/run/secrets/token"'


def alive(name: str) -> Callable[[PodManifest], object]:
    def read(manifest: PodManifest) -> object:
        liveness = manifest.containers[0].alive
        assert liveness is not None
        return getattr(liveness if name == "failures" else liveness.probe, name)

    return read


def resource(name: str) -> Callable[[PodManifest], object]:
    return lambda manifest: getattr(manifest.containers[0].resources, name)


def secret_mode(manifest: PodManifest) -> object:
    (secret,) = manifest.secrets
    assert isinstance(secret, FileSecret)
    return secret.mode


@pytest.mark.parametrize(
    ("old", "new", "low", "high", "reason", "found"),
    [
        pytest.param("pids = 64", "memory_bytes = {}", 1 << 20, 1 << 40,
                     "pod.container.resources.memory_bytes", resource("memory_bytes"), id="memory"),
        pytest.param("pids = 64", "pids = {}", 1, 1 << 22,
                     "pod.container.resources.pids", resource("pids"), id="pids"),
        pytest.param("pids = 64", "cpu_milli = {}", 10, 1_024_000,
                     "pod.container.resources.cpu_milli", resource("cpu_milli"), id="cpu"),
        pytest.param("stop_grace_seconds = 5", "stop_grace_seconds = {}", 0, 3600,
                     "pod.container.stop_grace_seconds",
                     lambda manifest: manifest.containers[0].stop_grace_seconds, id="grace"),
        pytest.param('exec = ["/bin/check", "-q"]', "tcp_port = {}", 1, 65535,
                     "pod.container.alive.tcp_port", alive("tcp_port"), id="port"),
        pytest.param("delay_seconds = 1", "delay_seconds = {}", 0, 3600,
                     "pod.container.alive.delay_seconds", alive("delay_seconds"), id="delay"),
        pytest.param("period_seconds = 2", "period_seconds = {}", 1, 3600,
                     "pod.container.alive.period_seconds", alive("period_seconds"), id="period"),
        pytest.param("timeout_seconds = 3", "timeout_seconds = {}", 1, 300,
                     "pod.container.alive.timeout_seconds", alive("timeout_seconds"), id="timeout"),
        pytest.param("failures = 4", "failures = {}", 1, 100,
                     "pod.container.alive.failures", alive("failures"), id="failures"),
        pytest.param('path = "/etc/web.conf"', 'path = "/etc/web.conf"\nmode = {}', 0, 0o777,
                     "pod.file.mode", lambda manifest: manifest.files[0].mode, id="file-mode"),
        pytest.param(SECRET, SECRET + "\nmode = {}", 0, 0o777,
                     "pod.secret.mode", secret_mode, id="secret-mode"),
    ],
)  # fmt: skip
def test_number_is_taken_within_its_bounds_and_refused_beyond(
    old: str, new: str, low: int, high: int, reason: str, found: Callable[[PodManifest], object]
) -> None:
    assert FULL_POD.count(old) == 1
    for value in (low, high):
        assert found(parse_pod_manifest(FULL_POD.replace(old, new.format(value)))) == value
    for value in (low - 1, high + 1):
        with pytest.raises(FormatError) as refused:
            parse_pod_manifest(FULL_POD.replace(old, new.format(value)))
        assert refused.value.reason == reason


def test_container_without_resources_has_no_limits_of_its_own() -> None:
    (main, first) = parse_pod_manifest(FULL_POD.replace("pids = 64", "")).containers
    assert main.resources == first.resources
    resources = main.resources
    assert (resources.memory_bytes, resources.pids, resources.cpu_milli) == (0, 0, 0)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f"/{255 * 'd'}", id="long-part"),
        pytest.param(f"/{2046 * 'd/'}ddd"[:4095], id="long"),
    ],
)
def test_longest_path_of_linux_is_taken(path: str) -> None:
    (mount,) = parse_pod_manifest(FULL_POD.replace(PATH, f'"{path}"')).containers[0].mounts
    assert mount.path == path


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("a/data", id="relative"),
        pytest.param("/./data", id="dot"),
        pytest.param("/a//data", id="empty-part"),
        pytest.param(f"/short/{256 * 'd'}", id="long-part-behind-a-short-one"),
        pytest.param(f"/{2046 * 'd/'}dddd"[:4096], id="long"),
        pytest.param(f"/{128 * 'ä'}", id="long-part-in-bytes"),
    ],
)
def test_path_that_linux_would_resolve_or_not_take_is_refused(path: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_pod_manifest(FULL_POD.replace(PATH, f'"{path}"'))
    assert refused.value.reason == "pod.container.mount.path"


@pytest.mark.parametrize(
    ("old", "new", "longest", "reason"),
    [
        pytest.param('"www-data"', '"{}"', 64, "pod.container.user", id="user"),
        pytest.param(SECRET, 'env = "{}"', 128, "pod.secret.env", id="variable"),
        pytest.param('"port = 8080"', '"{}"', 64 * 1024, "pod.file.text", id="file"),
    ],
)
def test_text_is_taken_up_to_its_cap(old: str, new: str, longest: int, reason: str) -> None:
    parse_pod_manifest(FULL_POD.replace(old, new.format("a" * longest)))
    with pytest.raises(CcinitError) as refused:
        parse_pod_manifest(FULL_POD.replace(old, new.format("a" * (longest + 1))))
    assert refused.value.reason == reason


def test_image_has_at_most_sixteen_keys() -> None:
    key = '"kbs:///ccinit/demo/image-key"'
    for count in (16, 17):
        text = FULL_POD.replace(f"[{key}]", f"[{', '.join([key] * count)}]")
        if count == 16:
            assert len(parse_pod_manifest(text).images[0].keys) == count
        else:
            with pytest.raises(CcinitError) as refused:
                parse_pod_manifest(text)
            assert refused.value.reason == "pod.image.keys"


@pytest.mark.parametrize(
    ("place", "reason", "usual"),
    [(SECRET, "pod.secret.mode", "0o400"), ('path = "/etc/web.conf"', "pod.file.mode", "0o444")],
)
def test_mode_without_its_prefix_is_refused_with_a_word_on_octal_numbers(
    place: str, reason: str, usual: str
) -> None:
    assert parse_pod_manifest(FULL_POD.replace(place, f"{place}\nmode = 0o640"))
    with pytest.raises(LimitExceededError) as refused:
        parse_pod_manifest(FULL_POD.replace(place, f"{place}\nmode = 640"))
    assert refused.value.reason == reason
    hint = f"TOML writes octal numbers with 0o, as in {usual}"
    assert refused.value.detail.endswith(f" 1: expected 0 to 511, found 640: {hint}")
