"""Invariant: what CONFIG takes of a measured document, no later phase refuses for the document's
sake alone: its volumes have devices and layouts, its containers a spec whose mounts crun can make.

Values are changed one at a time, or two; the text around them stays TOML. Run as
`python -m tests.fuzz.fuzz_measured_pod [SECONDS [SEED]]`.
"""

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from ccinit.agent.phases.attestation import plan_resources
from ccinit.errors import CcinitError
from ccinit.formats.disk.integrity import BLOCK_BYTES
from ccinit.formats.encoding import wire
from ccinit.formats.encoding.strict_toml import parse_toml
from ccinit.formats.initdata.document import Initdata
from ccinit.formats.initdata.guest_config import GuestConfig
from ccinit.formats.initdata.guest_files import parse_guest_files
from ccinit.formats.pod.container import Container
from ccinit.formats.pod.manifest import PodManifest
from ccinit.formats.pod.order import plan_start_order
from ccinit.formats.pod.places import POD_FILES
from ccinit.formats.pod.secret import FileSecret, VariableSecret
from ccinit.formats.pod.volume import PersistentVolume, ScratchVolume, select_kind
from ccinit.init.stage0 import ROOT_DEVICE_NAME
from ccinit.kernel.block import BlockDevice
from ccinit.run.spec import plan_spec
from ccinit.run.users import Identity
from ccinit.run.workload import BindMount, Workload
from ccinit.unlock.integrity import plan_disk_layout
from ccinit.unlock.scratch import plan_scratch
from ccinit.unlock.volume import JOURNAL_BYTES
from ccinit.values import replace
from tests.fakes.documents.containers import IMAGE
from tests.fakes.documents.guest import CONFIG, FULL_POD, VERITY
from tests.fuzz.trials import Trials, run

MORE = """
grown_from_bytes = [33554432, 16777216]
[[volume]]
name = "data-integrity"
kind = "scratch"
size_bytes = 1048576
[[secret]]
container = "main"
uri = "kbs:///ccinit/demo/file-b"
env = "TOKEN"
[[secret]]
container = "main"
uri = "kbs:///ccinit/demo/file-c"
file = "/run/keys/key"
mode = 0o440
rotate = true
[[container]]
name = "second"
image = "web"
depends_on = ["main"]
[container.ready]
exec = ["/bin/ready"]
delay_seconds = 7
[share]
ipc = true
[rotate]
every_seconds = 60
[allow]
exec = ["main"]
evidence = ["second"]
"""
OWNER = """
[owner]
port = 7443
client_ca = "-----BEGIN CERTIFICATE-----"
[limits]
scratch_tags_bytes = 269484032
"""
PATHS = (
    *("/", "//", "/a/", "/a//b", "/a/..", "/etc", "/etc/hosts", "/etc/hosts/x", "/proc/x", "/dev"),
    *("/data", "/data/x", "/etc/web.conf", "/etc/web.conf/x", "/run", "/run/keys", "/run/keys/x"),
    *("/run/keys/key/x", "/run/secrets/token", "/run/secrets", "/a\nb", "/e\u0301", "/\u00e9"),
    *(f"/{'a' * 255}", f"/{'a' * 256}", "/" + "/".join(["a" * 200] * 20)),
)
TEXTS = (
    *("", " ", "-x", "A", "A=B", "TOKEN", "PATH", "x" * 63, "x" * 64, "x" * 5000, "\ufeff", "\n"),
    *("root", "main", "first", "second", "scratch", "data", "web", "0", "4294967295", "0:0", ":x"),
    *("kbs:///a/b/c", "kbs:///ccinit/demo/log-psk", "kbs+x:///y", "aead-disk", "tmpfs", "init"),
)
NUMBERS = (
    *(-1, 0, 1, 7, 80, 599, 600, 4096, 7443, 8006, 65_535, 1 << 20, 8 << 20, 1 << 24, 1 << 30),
    *(1 << 35, 1 << 40, 1 << 63, 1 << 64),
)
OTHERS: tuple[object, ...] = (True, False, [], {}, [1], {"x": 1})


def to_toml(value: object) -> str:
    """Write a value in one line."""
    if isinstance(value, dict):
        inside = (f"{json.dumps(key)} = {to_toml(one)}" for key, one in value.items())
        return f"{{ {', '.join(inside)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(to_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def to_document(table: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(key)} = {to_toml(value)}\n" for key, value in table.items())


def list_spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each place in a table, as what holds it and its key there."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from list_spots(value[key])


def change(source: random.Random, table: dict[str, Any]) -> None:
    """Put another value somewhere, take one away, or have one several times."""
    holder, key = source.choice(list(list_spots(table)))
    inner = holder[key]
    match source.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(inner, dict):
            holder[key] = inner | {"x": 1}
        case 2 if isinstance(holder, list):
            for number in range(source.randrange(1, 6)):
                holder.append(inner)
                if isinstance(inner, dict) and "name" in inner:
                    holder[-1] = inner | {"name": f"{inner['name']}-{number}"}
        case 3:
            holder[key] = source.choice((*PATHS, *TEXTS, *NUMBERS, *OTHERS))
        case _ if isinstance(inner, str):
            holder[key] = source.choice(PATHS if inner.startswith("/") else TEXTS)
        case _ if isinstance(inner, int):
            holder[key] = source.choice(NUMBERS)
        case _:
            holder[key] = source.choice(OTHERS)


def take(config: dict[str, Any], pod: dict[str, Any]) -> tuple[GuestConfig, PodManifest] | None:
    """Return what CONFIG takes; None if it refuses."""
    document = Initdata(
        algorithm="sha256", config_toml=to_document(config), pod_toml=to_document(pod)
    )
    try:
        return parse_guest_files(document)
    except CcinitError:
        return None


def check_later(config: GuestConfig, pod: PodManifest) -> None:
    """Have the later phases plan; they raise what they refuse."""
    assert wire.decode(PodManifest, wire.encode(pod)) == pod
    assert wire.decode(GuestConfig, wire.encode(config)) == config
    assert plan_resources(pod, config.owner)
    order = plan_start_order(pod.containers)
    assert sum(map(len, (order.init, *order.waves))) == len(pod.containers)
    check_volumes(config, pod)
    for container in pod.containers:
        check_container(pod, container)


def check_volumes(config: GuestConfig, pod: PodManifest) -> None:
    devices = [ROOT_DEVICE_NAME]
    for volume in pod.volumes:
        devices += (f"ccinit-{volume.name}", f"ccinit-{volume.name}.integrity")
    assert len(set(devices)) == len(devices)
    disk = BlockDevice(
        name="vdb", number="254:16", size_bytes=0, read_only=False, serial="", holders=()
    )
    plans = plan_scratch(
        (one, replace(disk, size_bytes=one.size_bytes))
        for one in select_kind(pod.volumes, ScratchVolume)
    )
    assert not any(plan.disk.size_bytes % BLOCK_BYTES for plan in plans)
    assert sum(plan.meta_bytes for plan in plans) <= config.limits.scratch_tags_bytes
    for one in select_kind(pod.volumes, PersistentVolume):
        for size_bytes in (one.size_bytes, *one.grown_from_bytes):
            assert not size_bytes % BLOCK_BYTES
            assert plan_disk_layout(size_bytes, JOURNAL_BYTES).provided_bytes


def check_container(pod: PodManifest, container: Container) -> None:
    files = {*POD_FILES, *_file_places(pod, container)}
    directories = {mount.path for mount in container.mounts}
    rotating = {
        one.path.rpartition("/")[0]
        for one in pod.secrets
        if isinstance(one, FileSecret) and one.container == container.name and one.rotate
    }
    targets = files | directories | rotating
    binds = tuple(BindMount(source="/s", target=target, read_only=True) for target in targets)
    workload = Workload(
        container=container,
        image=IMAGE,
        lowers=(),
        scratch="/s",
        run_dir="/r",
        hostname=pod.name,
        address="127.0.0.1",
        cgroup_path=f"/pod/{container.name}",
        binds=binds,
        secret_env=tuple(
            (one.name, "x")
            for one in pod.secrets
            if isinstance(one, VariableSecret) and one.container == container.name
        ),
    )
    root = Identity(uid=0, gid=0, additional_gids=(), home="/")
    assert plan_spec(workload, root, "/r/root", image_volumes=(), binds=workload.binds)
    assert not files & (directories | rotating)
    for one in (*targets, container.cwd or "/"):
        assert not any(one.startswith(f"{file}/") for file in files), one
    assert container.cwd not in files


def _file_places(pod: PodManifest, container: Container) -> Iterator[str]:
    for file in pod.files:
        if file.container == container.name:
            yield file.path
    fixed = (one for one in pod.secrets if isinstance(one, FileSecret) and not one.rotate)
    for secret in fixed:
        if secret.container == container.name:
            yield secret.path


def main(seconds: float, seed: int) -> int:
    """Check changes for a while; return how many."""
    trials, taken = Trials(seconds, seed), 0
    texts = f"{CONFIG}{OWNER}", f"{FULL_POD}{MORE}{VERITY}"
    whole = [parse_toml(text.encode(), "toml") for text in texts]
    unchanged = take(*whole)
    assert unchanged is not None
    check_later(*unchanged)
    for source in trials:
        config, pod = deepcopy(whole)
        for _ in range(1 if source.randrange(4) else 2):
            change(source, pod if source.randrange(8) else config)
        if (values := take(config, pod)) is not None:
            taken += 1
            check_later(*values)
    trials.require(taken, one_in=20)
    return trials.count


if __name__ == "__main__":
    run(main)
