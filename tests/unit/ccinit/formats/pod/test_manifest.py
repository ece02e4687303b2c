"""`pod.toml`: the whole schema, and every way out of it."""

import pytest

from ccinit.errors import CcinitError, FormatError
from ccinit.formats.encoding import wire
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.pod.capability import Capability
from ccinit.formats.pod.container import ContainerKind, Restart
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from ccinit.formats.pod.probe import START_SECONDS, LivenessProbe, Probe
from ccinit.formats.pod.secret import FileSecret
from ccinit.formats.pod.share import Share
from ccinit.formats.pod.volume import (
    PersistentVolume,
    ScratchProfile,
    ScratchVolume,
    VolumeKind,
    select_kind,
)
from ccinit.init import sequence
from tests.fakes.documents.guest import FULL_POD


def test_pod_manifest_whole_schema_is_read() -> None:
    pod = parse_pod_manifest(FULL_POD)
    (rule,) = pod.registries
    assert (rule.prefix, len(rule.mirrors)) == ("registry.example:5000", 1)
    (image,) = pod.images
    assert (image.policy, image.auth) == (
        ResourceUri("ccinit", "demo", "file-policy"),
        ResourceUri("ccinit", "demo", "file-auth"),
    )
    main, first = pod.containers
    assert (main.kind, first.kind) == (ContainerKind.MAIN, ContainerKind.INIT)
    assert (main.read_only, main.restart) == (True, Restart.NEVER)
    assert first.read_only
    assert not main.mounts[0].read_only
    assert main.env == (("A", "1"),)
    assert main.resources.pids == 64
    assert main.mounts[0].path == "/data"
    assert main.cwd == "/srv"
    assert first.cwd is None
    (image,) = pod.images
    assert image.encryption is ImageEncryption.REQUIRED
    assert image.keys == (ResourceUri("ccinit", "demo", "image-key"),)
    (scratch,) = select_kind(pod.volumes, ScratchVolume)
    (data,) = select_kind(pod.volumes, PersistentVolume)
    assert (scratch.name, scratch.profile) == ("scratch", ScratchProfile.AEAD_RAM)
    assert (data.name, data.kind) == ("data", VolumeKind.PERSISTENT)
    assert data.key == ResourceUri("ccinit", "demo", "volume-key-data")
    uri = ResourceUri("ccinit", "demo", "file-token")
    assert pod.secrets == (
        FileSecret(container="main", uri=uri, path="/run/secrets/token", mode=0o400, rotate=False),
    )
    assert pod.allow.exit_code_to_host is False
    assert pod.allow.exec == pod.allow.evidence == ()


@pytest.mark.parametrize("what", ["exec", "evidence"])
def test_pod_manifest_allows_by_name_of_a_container(what: str) -> None:
    allow = parse_pod_manifest(FULL_POD + f'[allow]\n{what} = ["main"]\n').allow
    assert getattr(allow, what) == ("main",)
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(FULL_POD + f'[allow]\n{what} = ["main", "other"]\n')
    assert caught.value.reason == f"pod.allow.{what}"


@pytest.mark.parametrize("what", ["exit_code_to_host", "metrics_to_host"])
def test_pod_manifest_tells_the_host_nothing_that_it_does_not_name(what: str) -> None:
    for text in ("", "[allow]\n", f"[allow]\n{what} = false\n"):
        allow = parse_pod_manifest(FULL_POD + text).allow
        assert (allow.exit_code_to_host, allow.metrics_to_host) == (False, False)
    allow = parse_pod_manifest(FULL_POD + f"[allow]\n{what} = true\n").allow
    assert getattr(allow, what) is True
    assert allow.exit_code_to_host is not allow.metrics_to_host


def test_pod_manifest_finds_volumes_by_their_name() -> None:
    pod = parse_pod_manifest(FULL_POD)
    assert [pod.volume(name).name for name in ("data", "scratch")] == ["data", "scratch"]


def test_pod_manifest_says_what_containers_may_and_how_they_are_asked() -> None:
    pod = parse_pod_manifest(FULL_POD)
    main, first = pod.containers
    assert (main.user, main.cwd, main.read_only) == ("www-data", "/srv", True)
    assert (first.user, first.cwd) == (None, None)
    assert main.capabilities == (Capability.CHOWN, Capability.NET_BIND_SERVICE)
    assert (main.stop_grace_seconds, first.stop_grace_seconds) == (5, None)
    rhythm = {"delay_seconds": 0, "period_seconds": 10, "timeout_seconds": 5}
    assert main.ready == Probe(exec=(), tcp_port=8080, **rhythm)
    check = Probe(
        exec=("/bin/check", "-q"),
        tcp_port=0,
        delay_seconds=1,
        period_seconds=2,
        timeout_seconds=3,
    )
    assert main.alive == LivenessProbe(probe=check, failures=4)
    assert (first.capabilities, first.ready, first.alive) == ((), None, None)
    (file,) = pod.files
    assert (file.container, file.path, file.mode) == ("main", "/etc/web.conf", 0o444)
    assert file.text == "port = 8080"


def test_number_of_failures_may_stand_in_a_ready_probe_and_changes_nothing() -> None:
    """A Kubernetes Pod's probes both have one."""
    text = FULL_POD.replace("tcp_port = 8080", "tcp_port = 8080\nfailures = 7")
    assert text != FULL_POD
    assert parse_pod_manifest(text) == parse_pod_manifest(FULL_POD)


def test_only_a_ready_probe_has_to_be_asked_within_start() -> None:
    late = f"tcp_port = 8080\ndelay_seconds = {START_SECONDS - 1}"
    text = FULL_POD.replace("tcp_port = 8080", late)
    text = text.replace("delay_seconds = 1\n", f"delay_seconds = {START_SECONDS}\n")
    main, _ = parse_pod_manifest(text).containers
    assert main.ready is not None
    assert main.alive is not None
    assert (main.ready.delay_seconds, main.alive.probe.delay_seconds) == (599, 600)
    assert sequence.START.seconds == START_SECONDS


def test_image_of_which_nothing_is_said_may_be_encrypted() -> None:
    plain = FULL_POD.replace(
        'encryption = "required"\nkeys = ["kbs:///ccinit/demo/image-key"]\n', ""
    )
    (image,) = parse_pod_manifest(plain).images
    assert (image.encryption, image.keys) == (ImageEncryption.ALLOWED, ())


def test_container_may_work_in_the_root() -> None:
    [container] = [
        one
        for one in parse_pod_manifest(FULL_POD.replace('"/srv"', '"/"', 1)).containers
        if one.cwd is not None
    ]
    assert container.cwd == "/"


def test_pod_manifest_crosses_the_process_boundary_unchanged() -> None:
    pod = parse_pod_manifest(FULL_POD)
    assert wire.decode(PodManifest, wire.encode(pod)) == pod


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        pytest.param("version = 1", "version = 1\nx = 1", "pod.unknown", id="unknown"),
        pytest.param("version = 1", "version = 2", "pod.version", id="version"),
        pytest.param('name = "demo"', 'name = "De"', "pod.name", id="upper-case"),
        pytest.param('name = "demo"', 'name = "-d"', "pod.name", id="leading-hyphen"),
        pytest.param('name = "demo"', 'name = ""', "pod.name", id="empty-name"),
        pytest.param('name = "demo"', f'name = "{64 * "d"}"', "pod.name", id="long-name"),
        pytest.param("-----BEGIN", "-----END", "pod.image.ca", id="roots"),
        pytest.param('"required"', '"maybe"', "pod.image.encryption", id="encryption"),
        pytest.param('"required"', '"none"', "pod.image.keys", id="keys-of-a-plain-image"),
        pytest.param('["kbs:', '["https:', "pod.image.keys", id="key-elsewhere"),
        pytest.param("[[registry]]\n", '[[registry]]\nprefix = "registry.example:5000"\n'
                     "[[registry]]\n", "pod.registry.prefix", id="prefix-twice"),
        pytest.param("[[registry.mirror]]", "blocked = true\n[[registry.mirror]]", "pod.registry",
                     id="image-blocked"),
        pytest.param(':5000"\n[[registry.mirror]]', ':5000/web"\n[[registry.mirror]]',
                     "pod.registry", id="image-without-a-name-at-the-mirror"),
        pytest.param('image = "web"', 'image = "other"', "pod.container.image", id="no-image"),
        pytest.param('volume = "data"', 'volume = "x"', "pod.container.mount.volume", id="no-vol"),
        pytest.param('["first"]', '["main"]', "pod.container.depends_on", id="depends-on-itself"),
        pytest.param('["first"]', '["nobody"]', "pod.container.depends_on", id="depends-on-nobody"),
        pytest.param('kind = "init"', 'kind = "init"\ndepends_on = ["main"]',
                     "pod.container.depends_on", id="waits-for-a-later-one"),
        pytest.param('kind = "init"', 'depends_on = ["main"]', "pod.container.depends_on",
                     id="circle"),
        pytest.param('kind = "init"', 'kind = "init"\nrestart = "always"',
                     "pod.container.restart", id="init-that-never-ends"),
        pytest.param('"first"\nimage', '"main"\nimage', "pod.container.name", id="twice"),
        pytest.param('"/data"', '"/a/../data"', "pod.container.mount.path", id="dotdot"),
        pytest.param('"/data"', '"data"', "pod.container.mount.path", id="relative"),
        pytest.param('"/data"', '"/"', "pod.container.mount.path", id="root"),
        pytest.param('"/data"', '""', "pod.container.mount.path", id="no-path"),
        pytest.param('"/data"', f'"/{256 * "d"}"', "pod.container.mount.path", id="long-part"),
        pytest.param('"/data"', f'"{2048 * "/d"}"', "pod.container.mount.path", id="long-path"),
        pytest.param('"/srv"', '"/srv/"', "pod.container.cwd", id="trailing-slash"),
        pytest.param('kind = "init"', 'kind = "side"', "pod.container.kind", id="kind"),
        pytest.param('A = "1"', '"A=B" = "1"', "pod.container.env", id="variable"),
        pytest.param('A = "1"', r'"A\u0000B" = "1"', "pod.container.env", id="variable-nul"),
        pytest.param('A = "1"', r'"A\nB" = "1"', "pod.container.env", id="variable-line"),
        pytest.param('A = "1"', f'{4097 * "A"} = "1"', "pod.container.env", id="variable-long"),
        pytest.param('["serve"]', '["", "serve"]', "pod.container.args", id="runs-nothing"),
        pytest.param('"/run/secrets/token"', '"/etc/web.conf/token"', "pod.secret.file",
                     id="secret-below-a-file"),
        pytest.param('"www-data"', '"4294967295"', "pod.container.user", id="user-of-no-change"),
        pytest.param('"www-data"', '"-1"', "pod.container.user", id="user-negative"),
        pytest.param('"www-data"', r'"root\n"', "pod.container.user", id="user-line"),
        pytest.param('"www-data"', '"www-data:"', "pod.container.user", id="group-empty"),
        pytest.param('"www-data"', '"33:a b"', "pod.container.user", id="group"),
        pytest.param("pids = 64", "pids = 0", "pod.container.resources.pids", id="pids"),
        pytest.param('file = "/run', 'env = "T"\nfile = "/run', "pod.secret.file", id="both"),
        pytest.param('file = "/run/secrets/token"', "", "pod.secret.file", id="neither"),
        pytest.param('file = "/run/secrets/token"', 'env = "T"\nmode = 1', "pod.secret.mode",
                     id="mode-of-env"),
        pytest.param('file = "/run/secrets/token"', 'env = "A=B"', "pod.secret.env", id="env"),
        pytest.param('file = "/run/secrets/token"', 'env = ""', "pod.secret.env", id="no-env"),
        pytest.param('container = "main"', 'container = "x"', "pod.secret.container", id="nobody"),
        pytest.param("kbs:///ccinit/demo/file-token", "file:///x", "pod.secret.uri", id="uri"),
        pytest.param("67108864", "67108865", "pod.volume.size_bytes", id="unaligned"),
        pytest.param("67108864", "0", "pod.volume.size_bytes", id="empty"),
        pytest.param("67108864", "50327552", "pod.volume.size_bytes", id="no-room-for-a-journal"),
        pytest.param('\nkey = "kbs:///ccinit/demo/volume-key-data"', "", "pod.volume.key",
                     id="no-key"),
        pytest.param('kind = "persistent"', 'kind = "verity"', "pod.volume.key", id="verity-key"),
        pytest.param('kind = "persistent"', 'kind = "nfs"', "pod.volume.kind", id="no-such-kind"),
        pytest.param('"persistent"', '"persistent"\nformat = "luks1"', "pod.volume.format",
                     id="format"),
        pytest.param('kind = "scratch"', 'kind = "scratch"\nformat = "luks2"', "pod.volume.format",
                     id="format-of-scratch"),
        pytest.param('"persistent"', '"persistent"\nrollback = "tpm"', "pod.volume.rollback",
                     id="rollback"),
        pytest.param('"persistent"', '"persistent"\nformat = "luks2"\nrollback = "kbs-counter"',
                     "pod.volume.rollback", id="rollback-of-luks2"),
        pytest.param('kind = "scratch"', 'kind = "scratch"\nrollback = "none"',
                     "pod.volume.rollback", id="rollback-of-scratch"),
        pytest.param('"persistent"', '"persistent"\nformat = "luks2"\ngrown_from_bytes = []',
                     "pod.volume.grown_from_bytes", id="growth-of-luks2"),
        pytest.param('kind = "scratch"', 'kind = "scratch"\ngrown_from_bytes = [33554432]',
                     "pod.volume.grown_from_bytes", id="growth-of-scratch"),
        pytest.param('"persistent"', '"persistent"\ngrown_from_bytes = 33554432',
                     "pod.volume.grown_from_bytes", id="growth-is-no-list"),
        pytest.param('"persistent"', '"persistent"\ngrown_from_bytes = [33554433]',
                     "pod.volume.grown_from_bytes", id="growth-unaligned"),
        pytest.param('"persistent"', '"persistent"\ngrown_from_bytes = [67108864]',
                     "pod.volume.grown_from_bytes", id="growth-of-nothing"),
        pytest.param('"persistent"', '"persistent"\ngrown_from_bytes = [134217728]',
                     "pod.volume.grown_from_bytes", id="growth-is-shrinking"),
        pytest.param('"persistent"', '"persistent"\ngrown_from_bytes = [33554432, 33554432]',
                     "pod.volume.grown_from_bytes", id="growth-twice-from-one-size"),
        pytest.param('"persistent"', '"persistent"\nsalt = "00"', "pod.volume.salt", id="salt"),
        pytest.param('"persistent"', '"persistent"\nprofile = "aead-ram"', "pod.volume.profile",
                     id="profile"),
        pytest.param('args = ["serve"]', 'kind = "init"', "pod.container", id="no-main"),
        pytest.param('"CHOWN"', '"SYS_ADMIN"', "pod.container.capabilities", id="capability"),
        pytest.param('"CHOWN"', '"NET_BIND_SERVICE"', "pod.container.capabilities",
                     id="capability-twice"),
        pytest.param("tcp_port = 8080", "", "pod.container.probe", id="probe-asks-nothing"),
        pytest.param("tcp_port = 8080", "tcp_port = 8080\ndelay_seconds = 600",
                     "pod.container.ready", id="ready-after-the-end-of-start"),
        pytest.param('"www-data"', '""', "pod.container.user", id="user-empty"),
        pytest.param('"www-data"', '":100"', "pod.container.user", id="user-group-alone"),
        pytest.param('cwd = "/srv"', 'cwd = "/etc/web.conf"', "pod.container.cwd", id="cwd-file"),
        pytest.param("tcp_port = 8080", "tcp_port = 8006", "pod.container.probe",
                     id="probe-that-the-workload-api-answers"),
        pytest.param('exec = ["/bin/check", "-q"]', "tcp_port = 8006", "pod.container.probe",
                     id="liveness-that-the-workload-api-answers"),
        pytest.param("tcp_port = 8080", 'tcp_port = 8080\nexec = ["/x"]', "pod.container.probe",
                     id="probe-asks-twice"),
        pytest.param('"/bin/check"', '"check"', "pod.container.probe", id="probe-without-path"),
        pytest.param("failures = 4", "failures = 0", "pod.container.alive.failures",
                     id="probe-that-never-fails"),
        pytest.param("tcp_port = 8080", "tcp_port = 8080\nfailures = 0",
                     "pod.container.ready.failures", id="ready-with-an-impossible-number"),
        pytest.param('"/etc/web.conf"', '"etc"', "pod.file.path", id="file-path"),
        pytest.param('"/etc/web.conf"', '"/etc/hosts"', "pod.file.path", id="file-of-the-pod"),
        pytest.param('"/etc/web.conf"', '"/data"', "pod.file.path", id="file-over-a-mount"),
        pytest.param('"/run/secrets/token"', '"/etc/web.conf"', "pod.secret.file",
                     id="secret-over-a-file"),
        pytest.param('"/data"', '"/proc"', "pod.container.mount.path", id="kernels-own"),
        pytest.param('"/data"', '"/sys/fs"', "pod.container.mount.path", id="in-kernels-own"),
        pytest.param('container = "main"\npath', 'container = "x"\npath', "pod.file.container",
                     id="file-of-nobody"),
    ],
)  # fmt: skip
def test_pod_manifest_outside_its_schema_is_refused(old: str, new: str, reason: str) -> None:
    assert old in FULL_POD
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(FULL_POD.replace(old, new, 1))
    assert caught.value.reason == reason


@pytest.mark.fault_row("R50")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("registry.example/web", "reference.digest"),
        ("registry.example/web:latest", "reference.digest"),
        (f"registry.example/web@sha256:{'AB' * 32}", "reference.digest"),
        (f"registry.example/web@sha1:{'ab' * 20}", "reference.digest"),
        ("registry.example/web@sha256:../x", "reference.digest"),
        (f"registry.example/web:latest@sha256:{'ab' * 32}", "reference.tag"),
        (f"web@sha256:{'ab' * 32}", "reference.form"),
        (f"registry.example/web@sha256:{'ab' * 32}{' ' * 512}", "pod.image.reference"),
    ],
)
def test_image_that_is_named_otherwise_than_by_digest_is_no_manifest(
    name: str, reason: str
) -> None:
    reference = f"registry.example:5000/web@sha256:{'00' * 32}"
    assert reference in FULL_POD
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(FULL_POD.replace(reference, name, 1))
    assert caught.value.reason == reason
    assert caught.value.detail.startswith("image 'web': ")


SHARING = FULL_POD + "[share]\nipc = true\nprocess = true\nshm_bytes = 2097152\n"


def test_pod_manifest_says_what_containers_share() -> None:
    assert parse_pod_manifest(FULL_POD).share == Share()
    assert parse_pod_manifest(FULL_POD + "[share]\n").share == Share()
    manifest = parse_pod_manifest(SHARING)
    assert manifest.share == Share(ipc=True, process=True, shm_bytes=2 << 20)
    assert wire.decode(PodManifest, wire.encode(manifest)) == manifest
    assert parse_pod_manifest(FULL_POD + "[share]\nprocess = true\n").share == Share(process=True)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ipc = true", "ipc = 1", "pod.share.ipc"),
        ("ipc = true", "ipc = false", "pod.share.shm_bytes"),
        ("ipc = true\n", "", "pod.share.shm_bytes"),
        ("process = true", 'process = "yes"', "pod.share.process"),
        ("2097152", "2097153", "pod.share.shm_bytes"),
        ("2097152", "4096", "pod.share.shm_bytes"),
        ("process = true", "network = false", "pod.share.unknown"),
    ],
)
def test_pod_manifest_refuses_to_share_otherwise(old: str, new: str, reason: str) -> None:
    assert old in SHARING
    with pytest.raises(CcinitError) as caught:
        parse_pod_manifest(SHARING.replace(old, new, 1))
    assert caught.value.reason == reason


def test_pod_manifest_needs_no_scratch_volume() -> None:
    scratch = '[[volume]]\nname = "scratch"\nkind = "scratch"\nsize_bytes = 1073741824\n'
    pod = parse_pod_manifest(FULL_POD.replace(scratch, ""))
    assert [volume.kind for volume in pod.volumes] == [VolumeKind.PERSISTENT]
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(
            FULL_POD.replace(scratch, "").replace('volume = "data"', 'volume = "scratch"')
        )
    assert caught.value.reason == "pod.container.mount.volume"
