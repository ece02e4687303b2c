"""What of a bundle has an effect, and what refuses it."""

import json
from typing import Any

import pytest

from ccinit.errors import CcinitError, LimitExceededError
from host_runtime.oci_runtime.bundle import MAX_CONFIG_BYTES, parse_bundle
from tests.fakes.documents.oci_bundles import podman_config


def encode(config: dict[str, Any]) -> bytes:
    return json.dumps(config).encode()


def test_bundle_of_podman_is_taken_for_its_annotations_and_its_network() -> None:
    bundle = parse_bundle(encode(podman_config(a="b")))
    assert bundle.annotations["a"] == "b"
    assert bundle.network_namespace == "/run/netns/netns-1"


@pytest.mark.parametrize(
    ("namespaces", "expected"),
    [([{"type": "pid"}], None), ([{"type": "network"}], ""), (None, None)],
)
def test_network_namespace_is_new_or_the_runtimes_own(
    namespaces: object, expected: str | None
) -> None:
    config = podman_config()
    config["linux"]["namespaces"] = namespaces
    assert parse_bundle(encode(config)).network_namespace == expected


def test_resolver_file_is_the_engines_or_the_hosts() -> None:
    config = podman_config()
    config["mounts"] = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    assert parse_bundle(encode(config)).resolver_file == "/etc/resolv.conf"
    config["mounts"].append({"destination": "/etc/resolv.conf", "source": "/run/sandbox/resolv"})
    assert parse_bundle(encode(config)).resolver_file == "/run/sandbox/resolv"


@pytest.mark.parametrize(
    "mounts",
    [
        ["/etc"],
        [{"destination": "/etc/resolv.conf"}],
        [{"destination": "/etc/resolv.conf", "source": "a\0"}],
        {},
    ],
)
def test_mounts_that_are_none_are_refused(mounts: object) -> None:
    config = podman_config()
    config["mounts"] = mounts
    with pytest.raises(CcinitError) as caught:
        parse_bundle(encode(config))
    assert caught.value.reason == "bundle.mounts"


@pytest.mark.parametrize("left_out", ["process", "linux", "annotations", "mounts", "root"])
def test_what_has_no_effect_may_be_missing(left_out: str) -> None:
    config = podman_config()
    del config[left_out]
    assert parse_bundle(encode(config))


@pytest.mark.parametrize("value", [-1000, -998, 0, 1000, None])
def test_oom_score_is_that_of_the_hosts_process(value: int | None) -> None:
    config = podman_config()
    config["process"]["oomScoreAdj"] = value
    assert parse_bundle(encode(config)).oom_score_adj == value
    del config["process"]["oomScoreAdj"]
    assert parse_bundle(encode(config)).oom_score_adj is None


def test_empty_hooks_and_devices_ask_for_nothing() -> None:
    config = podman_config()
    config["hooks"] = {"prestart": [], "poststop": None}
    config["linux"]["devices"] = []
    config["linux"]["netDevices"] = {}
    assert parse_bundle(encode(config))


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("ociVersion", "2.0.0", "bundle.version"),
        ("ociVersion", None, "bundle.version"),
        ("process.terminal", True, "bundle.terminal"),
        ("hooks", {"createRuntime": [{"path": "/bin/x"}]}, "bundle.hooks"),
        ("linux.devices", [{"path": "/dev/fuse", "type": "c"}], "bundle.devices"),
        ("linux.netDevices", {"eth1": {"name": "data"}}, "bundle.devices"),
        ("vm", {"kernel": {"path": "/k"}}, "bundle.vm"),
        ("annotations", {"io.kubernetes.cri.container-type": "sandbox"}, "bundle.kubernetes"),
        ("annotations", {"io.kubernetes.cri.container-type": 1}, "bundle.annotations"),
        ("annotations", {"io.kubernetes.cri-o.ContainerType": "container"}, "bundle.kubernetes"),
        ("annotations", {"a": 1}, "bundle.annotations"),
        ("annotations", [], "bundle.annotations"),
        ("process", "x", "bundle.process"),
        ("process.oomScoreAdj", "0", "bundle.process"),
        ("linux.cgroupsPath", ["/a"], "bundle.cgroupsPath"),
        ("linux.cgroupsPath", "/a\0b", "bundle.cgroupsPath"),
        ("linux.resources", {"memory": {"limit": "1g"}}, "bundle.resources"),
        ("linux.resources", {"memory": [1]}, "bundle.memory"),
        ("process.oomScoreAdj", True, "bundle.process"),
        ("process.oomScoreAdj", 1001, "bundle.process"),
        ("process.oomScoreAdj", -1001, "bundle.process"),
        ("linux.devices", {}, "bundle.devices"),
        ("linux.netDevices", ["eth1"], "bundle.netDevices"),
        ("linux.namespaces", ["network"], "bundle.namespaces"),
        ("linux.namespaces", [{"type": "network", "path": 1}], "bundle.namespaces"),
        ("linux.namespaces", [{"type": "network", "path": "a\0b"}], "bundle.namespaces"),
        ("linux.namespaces", [{"type": "network", "path": "/\ud800"}], "bundle.namespaces"),
    ],
)
def test_bundle_that_cannot_be_honoured_is_refused(path: str, value: object, reason: str) -> None:
    config = podman_config()
    table = config
    *parents, key = path.split(".")
    for parent in parents:
        table = table[parent]
    assert parse_bundle(encode(config))
    table[key] = value
    with pytest.raises(CcinitError) as error:
        parse_bundle(encode(config))
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("arguments", "is_dockers"),
    [(["libnetwork-setkey", "-exec-root=/run/docker", "1", "2"], True), (["x"], False)],
)
def test_refusal_of_dockers_hook_says_which_networks_have_none(
    arguments: list[str],
    is_dockers: bool,  # noqa: FBT001
) -> None:
    config = podman_config()
    config["hooks"] = {"prestart": [{"path": "/usr/sbin/dockerd", "args": arguments}]}
    with pytest.raises(CcinitError) as error:
        parse_bundle(encode(config))
    assert error.value.reason == "bundle.hooks"
    assert ("container:NAME" in error.value.detail) is is_dockers


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "bundle.json"),
        (b"[]", "bundle.json"),
        (b"\xff", "bundle.json"),
        (b'{"a":' * 100_000, "bundle.json"),
        (b'{"ociVersion": "1.2.0", "ociVersion": "1.2.0"}', "bundle.duplicate"),
    ],
)
def test_what_is_no_config_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CcinitError) as error:
        parse_bundle(data)
    assert error.value.reason == reason


def test_config_is_read_up_to_its_limit() -> None:
    data = encode(podman_config())
    assert parse_bundle(data.ljust(MAX_CONFIG_BYTES))
    with pytest.raises(LimitExceededError) as error:
        parse_bundle(data.ljust(MAX_CONFIG_BYTES + 1))
    assert error.value.reason == "bundle.length"
