"""A Kubernetes Pod becomes a manifest that the guest accepts, or is refused by the field's path."""

from pathlib import Path

import pytest

from ccinit.errors import FormatError
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.pod.capability import Capability
from ccinit.formats.pod.container import ContainerKind, Mount, Resources, Restart
from ccinit.formats.pod.seccomp import Seccomp
from ccinit.formats.pod.secret import FileSecret, VariableSecret
from ccinit.formats.pod.share import Share
from ccinit.formats.pod.volume import VolumeKind
from tests.fakes.kbs.sealed_secrets import seal
from tests.unit.guest_owner.command_line import error_of, run
from tests.unit.guest_owner.kubernetes.pods import CA, DEFAULT, DIGEST, POD, convert


def test_pod_becomes_a_manifest() -> None:
    pod = convert()
    migrate, web = pod.containers
    assert pod.name == "shop"
    assert [image.name for image in pod.images] == ["migrate", "web"]
    assert (migrate.kind, migrate.args, migrate.read_only) == (ContainerKind.INIT, (), False)
    assert (web.kind, web.restart, web.cwd) == (ContainerKind.MAIN, Restart.ON_FAILURE, "/srv")
    assert web.args == ("/bin/web", "--port", "80")
    assert web.env == (("GREETING", 'say "hello"'),)
    assert (web.user, web.read_only) == ("1000", True)  # its group is the image's to say
    assert web.resources == Resources(memory_bytes=64 << 20, cpu_milli=500)
    assert web.mounts == (Mount(volume="cache", path="/cache", read_only=False),)
    assert [(one.name, one.kind, one.size_bytes) for one in pod.volumes] == [
        ("cache", VolumeKind.TMPFS, 8 << 20),
        ("ccinit-scratch", VolumeKind.SCRATCH, 1 << 30),
    ]


def test_containers_of_one_reference_have_one_image() -> None:
    """So its authority, and what else is said of an image, stands in one place."""
    pod = convert(POD.replace("registry.example/web@", "registry.example/migrate@"))
    assert [image.name for image in pod.images] == ["migrate"]
    assert [one.image for one in pod.containers] == ["migrate", "migrate"]
    assert [one.image for one in convert().containers] == ["migrate", "web"]


def test_quantities_are_taken_as_a_cluster_takes_them() -> None:
    text = POD.replace("64Mi", "64M").replace("500m", "0.5").replace("8Mi", "8192k")
    pod = convert(text)
    assert pod.containers[1].resources == Resources(memory_bytes=64_000_000, cpu_milli=500)
    assert pod.volume("cache").size_bytes == 8_192_000


def test_rights_probes_and_grace_are_taken_over() -> None:
    migrate, web = convert().containers
    assert web.capabilities == (Capability.NET_BIND_SERVICE,)
    assert (migrate.stop_grace_seconds, web.stop_grace_seconds) == (20, 20)
    assert (migrate.ready, migrate.alive) == (None, None)
    assert web.ready is not None
    assert web.ready.exec == ("/bin/ready", "now")
    assert (web.ready.period_seconds, web.ready.timeout_seconds) == (3, 1)
    assert web.alive is not None
    probe = web.alive.probe
    assert (probe.tcp_port, probe.delay_seconds, probe.timeout_seconds) == (80, 9, 2)


def test_threshold_of_either_probe_is_taken_over() -> None:
    text = POD.replace("periodSeconds: 3", "periodSeconds: 3, failureThreshold: 2")
    web = convert(text.replace("timeoutSeconds: 2", "failureThreshold: 5")).containers[1]
    assert web.ready == convert().containers[1].ready  # which asks until the first yes
    assert web.alive is not None
    assert web.alive.failures == 5


def test_default_seccomp_profile_is_the_default_one() -> None:
    said = POD.replace("spec:", f"spec:\n  securityContext: {{seccompProfile: {DEFAULT}}}")
    said = said.replace("runAsUser", f"seccompProfile: {DEFAULT}, runAsUser")
    assert said.count(DEFAULT) == 2
    assert convert(said) == convert()
    assert [one.seccomp for one in convert().containers] == [Seccomp()] * 2


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        ("{type: Unconfined}", "no container goes without a profile"),
        ("{type: Localhost, localhostProfile: web.json}", "a file of a node"),
        ("{type: RuntimeDefault, localhostProfile: web.json}", "beside type RuntimeDefault"),
        ("{type: Whatever}", "unknown type 'Whatever'"),
    ],
)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("spec:", "spec:\n  securityContext: {seccompProfile: PROFILE}"),
        ("runAsUser", "seccompProfile: PROFILE, runAsUser"),
    ],
)
def test_other_seccomp_profiles_are_refused_with_a_way_on(
    profile: str, why: str, old: str, new: str
) -> None:
    convert(POD.replace(old, new.replace("PROFILE", DEFAULT), 1))
    with pytest.raises(FormatError) as caught:
        convert(POD.replace(old, new.replace("PROFILE", profile), 1))
    assert caught.value.reason == "kubernetes.seccompProfile"
    assert why in caught.value.detail


SEVERAL = "  initContainers:"
SHARING = "  shareProcessNamespace: true\n"


def test_namespaces_are_shared_as_kubernetes_does() -> None:
    assert convert().share == Share(ipc=True, process=False)
    assert convert(POD.replace(SEVERAL, SHARING + SEVERAL)).share == Share(ipc=True, process=True)
    single = POD[: POD.index(SEVERAL)] + POD[POD.index("  containers:") :]
    assert convert(single).share == Share()  # IPC with nobody
    # asked for to have somebody who collects what lost its parent
    asked = single.replace("  containers:", SHARING + "  containers:")
    assert convert(asked).share == Share(process=True)


def test_secrets_become_resources_of_the_kbs() -> None:
    file = parse_resource_uri("kbs:///ccinit/shop/file-web-tls-tls.key")
    token = parse_resource_uri("kbs:///ccinit/shop/file-api-token")
    assert set(convert().secrets) == {
        FileSecret(container="web", uri=file, path="/tls/key.pem", mode=0o400),
        VariableSecret(container="web", uri=token, name="TOKEN"),
    }


def test_sealed_secret_in_a_variable_becomes_one_of_the_pod() -> None:
    text = POD.replace('"say \\"hello\\""', seal())
    assert text != POD
    pod = convert(text)
    (sealed,) = (one for one in pod.secrets if one.sealed is not None)
    assert isinstance(sealed, VariableSecret)
    assert (sealed.name, str(sealed.uri)) == ("GREETING", "kbs:///ccinit/demo/file-token")
    assert pod.containers[1].env == ()


@pytest.mark.parametrize(
    ("reason", "old", "new"),
    [
        ("kubernetes.kind", "kind: Pod", "kind: Deployment"),
        ("kubernetes.spec", "  restartPolicy:", "  hostNetwork: true\n  restartPolicy:"),
        ("kubernetes.containers", "    workingDir:", "    startupProbe: {}\n    workingDir:"),
        ("kubernetes.livenessProbe", "port: 80}}", "port: 80}, successThreshold: 2}"),
        ("kubernetes.readinessProbe", "{exec: {", "{httpGet: {"),
        ("kubernetes.port", "{port: 80}}", "{port: http}}"),
        ("kubernetes.capabilities", "NET_BIND_SERVICE", "SYS_ADMIN"),
        ("kubernetes.terminationGracePeriodSeconds", "Seconds: 20", "Seconds: soon"),
        ("kubernetes.securityContext", "runAsUser:", "privileged: true, runAsUser:"),
        ("kubernetes.seccompProfile", "runAs", "seccompProfile: {kind: x}, runAs"),
        ("kubernetes.securityContext", "spec:", "spec:\n  securityContext: {fsGroup: 7}"),
        ("kubernetes.allowPrivilegeEscalation", "runAs", "allowPrivilegeEscalation: true, runAs"),
        ("kubernetes.shareProcessNamespace", "  initC", "  shareProcessNamespace: 1\n  initC"),
        ("kubernetes.spec", "  initC", "  hostIPC: true\n  initC"),
        ("kubernetes.args", '    command: ["/bin/web"]\n', ""),
        ("kubernetes.args", '"--port", "80"]', '"--hello=$(GREETING)"]'),
        ("kubernetes.args", '"--port", "80"]', '"--hello=$(TOKEN)"]'),
        ("kubernetes.args", '"--port", "80"]', '"costs 5$$"]'),
        ("kubernetes.args", '["--port", "80"]', "--port=80"),
        ("kubernetes.command", '["/bin/web"]', "/bin/web"),
        ("kubernetes.command", '["/bin/web"]', "7"),
        ("kubernetes.command", "[/bin/ready, now]", "/bin/ready"),
        ("kubernetes.command", '["/bin/web"]', '["/bin/web\\ud800"]'),
        ("kubernetes.runAsUser", "runAsUser: 1000", "runAsUser: -1"),
        ("kubernetes.runAsUser", "runAsUser: 1000", "runAsUser: 1000, runAsGroup: 2147483648"),
        ("kubernetes.add", "add: [NET_BIND_SERVICE]", "add: 7"),
        ("kubernetes.env", '"say \\"hello\\""', '"$(TOKEN)"'),
        ("kubernetes.value", 'value: "say \\"hello\\""', "value: 1"),
        ("kubernetes.quantity", "64Mi", "64MB"),
        ("kubernetes.quantity", "500m", "0.5c"),
        ("kubernetes.quantity", "sizeLimit: 8Mi", "sizeLimit: 9M"),
        ("kubernetes.emptyDir", ", sizeLimit: 8Mi", ""),
        ("kubernetes.emptyDir", "medium: Memory", "medium: HugePages"),
        ("kubernetes.secret", ", items: [{key: tls.key, path: key.pem}]", ""),
        ("kubernetes.volumes", "emptyDir: {medium: Memory, sizeLimit: 8Mi}", "hostPath: {path: /}"),
        ("kubernetes.volumes", ", emptyDir: {medium: Memory, sizeLimit: 8Mi}", ""),
        ("kubernetes.volumes", "emptyDir: {medium", "secret: {}, emptyDir: {medium"),
        ("kubernetes.medium", "medium: Memory", "medium: [Memory]"),
        ("kubernetes.volumeMounts", "{name: cache, mountPath", "{name: other, mountPath"),
        ("kubernetes.restartPolicy", "OnFailure", "Sometimes"),
        ("kubernetes.restartPolicy", "OnFailure", "[Always]"),
        ("kubernetes.duplicate", "kind: Pod", "kind: Pod\nkind: Pod"),
        ("kubernetes.yaml", "kind: Pod", "kind: [Pod"),
        ("kubernetes.env", "- name: TOKEN", "- name: GREETING"),
        ("kubernetes.quantity", "memory: 64Mi", f"memory: '{'9' * 5000}Mi'"),
        ("kubernetes.quantity", "cpu: 500m", f"cpu: '{'9' * 5000}m'"),
        ("kubernetes.yaml", "kind: Pod", "kind: !!python/name:os.system"),
        ("kubernetes.yaml", "kind: Pod", "kind: !!bool Pod"),
        ("kubernetes.yaml", "kind: Pod", "kind: !!timestamp Pod"),
        ("kubernetes.yaml", "kind: Pod", "kind: !!int ''"),
        ("kubernetes.yaml", "kind: Pod", "kind: !!map [Pod]"),
        ("kubernetes.yaml", "kind: Pod", 'kind: "\\UFFFFFFFF"'),
        ("kubernetes.yaml", "kind: Pod", f"kind: {'9' * 5000}"),
        ("kubernetes.yaml", "kind: Pod", "{[a]: b}: Pod"),
        ("kubernetes.yaml", "kind: Pod", f"kind: {'[' * 20_000}"),
        ("kubernetes.yaml", "periodSeconds: 3", f"periodSeconds: 0x{'f' * 4000}"),
        ("kubernetes.yaml", "{app: shop}", f"{{app: &a shop, list: [{'*a,' * 33}]}}"),
        ("kubernetes.pod", POD, "- a list"),
    ],
)
def test_what_cannot_be_taken_over_is_refused_by_its_field(reason: str, old: str, new: str) -> None:
    assert old in POD
    with pytest.raises(FormatError) as caught:
        convert(POD.replace(old, new, 1))
    assert caught.value.reason == reason


def test_what_changes_nothing_is_no_reason_to_refuse() -> None:
    said = POD.replace(
        "spec:",
        "spec:\n  hostNetwork: false\n  hostPID: false\n  priority: 0\n"
        "  topologySpreadConstraints: [{maxSkew: 1}]",
        1,
    )
    said = said.replace("runAsUser:", "privileged: false, runAsUser:")
    said = said.replace("kind: Pod", "kind: !!str Pod")
    said = said.replace(
        "    workingDir:",
        "    stdin: false\n    tty: false\n    terminationMessagePolicy: File\n    workingDir:",
    )
    said = said.replace("key: token}", "key: token, optional: false}")
    said = said.replace("secretName: web-tls,", "secretName: web-tls, optional: false,")
    said = said.replace("metadata: {", "metadata: {creationTimestamp: null, uid: 7, ")
    assert said.count("false") == 7
    assert convert(said) == convert()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  initC", "  hostNetwork: true\n  initC"),
        ("  initC", "  hostPID: 0\n  initC"),  # what only looks like false
        ("    workingDir", "    tty: true\n    workingDir"),
        ("runAs", "privileged: true, runAs"),
        ("key: token}", "key: token, optional: true}"),
        ("secretName: web-tls,", "secretName: web-tls, optional: true,"),
    ],
)
def test_the_same_is_refused_if_it_is_asked_for(old: str, new: str) -> None:
    with pytest.raises(FormatError) as caught:
        convert(POD.replace(old, new, 1))
    assert "cannot be taken over: " in caught.value.detail
    assert " (" in caught.value.detail  # and what to do


def test_disks_that_no_guest_could_keep_tags_of_are_refused_by_their_field() -> None:
    disks = [f"  - {{name: d{number}, emptyDir: {{sizeLimit: 8Mi}}}}\n" for number in range(4)]
    assert len(convert(POD + "".join(disks[:3])).volumes) == 5  # one is memory
    with pytest.raises(FormatError) as caught:
        convert(POD + "".join(disks))
    assert caught.value.reason == "kubernetes.emptyDir"
    assert "expected at most 4 disks with the one for images, found 5" in caught.value.detail


def test_variable_without_a_value_is_empty() -> None:
    text = POD.replace(', value: "say \\"hello\\""', "")
    assert text != POD
    assert convert(text).containers[1].env == (("GREETING", ""),)


def test_variable_that_says_its_value_twice_is_refused() -> None:
    twice = "name: TOKEN\n      value: VALUE\n"
    with pytest.raises(FormatError) as caught:
        convert(POD.replace("name: TOKEN\n", twice.replace("VALUE", "x")))
    assert caught.value.reason == "kubernetes.env"
    assert "TOKEN: both value and valueFrom" in caught.value.detail
    assert convert(POD.replace("name: TOKEN\n", twice.replace("VALUE", '""'))) == convert(POD)


def test_words_of_a_probe_may_be_any_text() -> None:
    ready = convert(POD.replace("[/bin/ready, now]", '[/bin/ready, "\U0001f600 \\""]'))
    probe = ready.containers[1].ready
    assert probe is not None
    assert probe.exec == ("/bin/ready", '\U0001f600 "')


def test_port_of_a_probe_may_be_named() -> None:
    named = POD.replace("{containerPort: 80}", "{name: http, containerPort: 8080, protocol: TCP}")
    web = convert(named.replace("port: 80}}", "port: http}}")).containers[1]
    assert web.alive is not None
    assert web.alive.probe.tcp_port == 8080
    with pytest.raises(FormatError) as caught:
        convert(named.replace("port: 80}}", "port: https}}"))
    assert (caught.value.reason, caught.value.detail) == (
        "kubernetes.port",
        "web: ports names no 'https'",
    )


def test_files_of_a_secret_get_the_modes_that_it_says() -> None:
    def modes(old: str = "", new: str = "") -> list[int]:
        secrets = convert(POD.replace(old, new)).secrets
        return [one.mode for one in secrets if isinstance(one, FileSecret)]

    assert modes() == [0o400]
    assert modes("secretName:", "defaultMode: 0440, secretName:") == [0o440]
    assert modes("path: key.pem}", "path: key.pem, mode: 288}") == [0o440]
    both = "defaultMode: 0444, items: [{mode: 0400, "
    assert modes("items: [{", both) == [0o400]
    for wrong in ("01000", "-1", "'0400'", "true"):
        with pytest.raises(FormatError) as caught:
            modes("path: key.pem}", f"path: key.pem, mode: {wrong}}}")
        assert caught.value.reason == "kubernetes.mode"


def test_pod_says_who_its_containers_are_unless_they_say_it_themselves() -> None:
    of_pod = "spec:\n  securityContext: {runAsUser: 7, runAsGroup: 8, runAsNonRoot: true}"
    migrate, web = convert(POD.replace("spec:", of_pod, 1)).containers
    assert (migrate.user, web.user) == ("7:8", "1000:8")


def test_root_is_ruled_out_by_a_number() -> None:
    assert convert(POD.replace("runAsUser:", "runAsNonRoot: true, runAsUser:")) == convert()
    for text, why in (
        ("true", "say a runAsUser"),
        ("true, runAsUser: 0", "say a runAsUser"),
        ("1, runAsUser: 1000", "expected true or false"),
    ):
        with pytest.raises(FormatError, match=why) as caught:
            convert(POD.replace("runAsUser: 1000", f"runAsNonRoot: {text}"))
        assert caught.value.reason == "kubernetes.runAsNonRoot"


def test_group_without_a_user_is_refused() -> None:
    with pytest.raises(FormatError) as caught:
        convert(POD.replace("runAsUser:", "runAsGroup:"))
    assert caught.value.reason == "kubernetes.runAsGroup"


def test_pod_without_a_token_of_its_cluster_is_taken_over() -> None:
    token = "spec:\n  automountServiceAccountToken: false"
    assert convert(POD.replace("spec:", token, 1)) == convert()
    with pytest.raises(FormatError) as caught:
        convert(POD.replace("spec:", token.replace("false", "true"), 1))
    assert caught.value.reason == "kubernetes.automountServiceAccountToken"


def test_what_only_looks_like_a_variable_is_a_shells_and_stays() -> None:
    web = convert(POD.replace('"--port", "80"]', '"-c", "echo $(date) $HOME"]')).containers[1]
    assert web.args == ("/bin/web", "-c", "echo $(date) $HOME")


@pytest.mark.parametrize(("tag", "status"), [(f"@{DIGEST}", 0), (":latest", 1)])
def test_init_takes_images_by_digest_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tag: str, status: int
) -> None:
    source, made = tmp_path / "pod.yaml", tmp_path / "pod.toml"
    source.write_text(POD.replace(f"web@{DIGEST}", f"web{tag}"))
    (tmp_path / "ca.pem").write_text(CA)
    words = ("--kubernetes", source, "--ca", tmp_path / "ca.pem", "--output", made)
    assert run("manifest", "init", *words) == status
    assert made.exists() == (status == 0)
    assert ("[reference." in error_of(capsys)) == (status == 1)
