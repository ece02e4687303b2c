"""Real podman and conmon with `ccinit-runtime` in runc's place: what works, what is refused how.

Needs root and the tools tree (`CCINIT_TOOLS`, or build/tools). The machines run nothing; whole
guests are `tests/vm/test_podman_guests`'.
"""

import json
import tarfile
from collections.abc import Iterator

import pytest

from tests.fakes.documents.oci_bundles import INITDATA, encode_annotation, make_document
from tests.integration.host.podman import Podman, podman_in
from tests.integration.host.silent_machine import silent_operator
from tests.integration.leftovers import short_folder

IMAGE = "nothing"
DOCUMENT = ("--annotation", f"{INITDATA}={encode_annotation(make_document())}")


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """One that has an image of a single empty file."""
    with short_folder() as folder:
        (folder / "file").touch()
        with tarfile.open(folder / "image.tar", "w") as tar:
            tar.add(folder / "file", "file")
        operator = silent_operator(folder, "initdata", "image", "disks")
        with podman_in(folder, operator) as podman:
            podman("import", "--quiet", folder / "image.tar", IMAGE)
            yield podman


def containers(podman: Podman) -> list[str]:
    return [path.name for path in (podman.folder / "state").iterdir()]


def status(podman: Podman, name: str) -> str:
    (found,) = podman("ps", "--all", "--filter", f"name={name}", "--format",
                      "{{.Status}}").splitlines()  # fmt: skip
    return found


def test_container_lives_as_podman_wishes(podman: Podman) -> None:
    # What engines send is taken: limits, mounts, another command than any pod's.
    # So is a signal to stop by that no guest knows, as of an image that has a web server's.
    sent = (
        *("--memory", "64m", "--volume", f"{podman.folder}:/host", "--network", "none"),
        *("--stop-signal", "SIGWINCH"),
    )
    podman("run", "--detach", "--name", "a", *sent, *DOCUMENT, IMAGE, "/bin/sh", "-c", "exit 1")
    assert status(podman, "a").startswith("Up")
    refused = podman.run("exec", "a", "true")
    assert refused.returncode
    assert "[command.refused]" in refused.stderr
    assert "[container.signal]" in podman.run("kill", "--signal", "HUP", "a").stderr
    assert podman.state("a", "Status") == "running"

    podman("stop", "--time", "1", "a")  # nobody listens in there, so podman ends it
    assert status(podman, "a").startswith("Exited (137)")
    podman("start", "a")
    before = podman.state("a", "Pid")
    podman("restart", "--time", "0", "a")
    assert podman.state("a", "Pid") != before
    assert len(containers(podman)) == 1

    podman("rm", "--force", "--time", "0", "a")
    assert podman("ps", "--all", "--quiet") == ""
    assert containers(podman) == []
    assert list(podman.sealed_logs.iterdir()) == []  # of three boots that had nothing to say


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "annotation.initdata"),
        (("--annotation", f"{INITDATA}=AAAA"), "initdata.gzip"),
        ((*DOCUMENT, "--tty"), "bundle.terminal"),
        ((*DOCUMENT, "--device", "/dev/zero"), "bundle.devices"),
        ((*DOCUMENT, "--privileged"), "bundle.devices"),
        ((*DOCUMENT, "--annotation", "org.ccinit.image=other"), "runtime.image"),
        ((*DOCUMENT, "--annotation", "org.ccinit.memory_mib=64"), "annotation.denied"),
        ((*DOCUMENT, "--annotation", "org.ccinit.disks=/etc/passwd"), "annotation.folder"),
        ((*DOCUMENT, "--annotation", "org.ccinit.kernel=/k"), "annotation.unknown"),
    ],
)
def test_container_that_no_guest_can_be_is_refused_in_words(
    podman: Podman, options: tuple[str, ...], reason: str
) -> None:
    created = ("run", "--detach", "--name", "bad", "--network", "host", *options, IMAGE, "/pod")
    done = podman.run(*created)
    podman("rm", "bad")
    assert done.returncode == 126
    assert "OCI runtime error" in done.stderr
    assert f"[{reason}]" in done.stderr
    assert containers(podman) == []


def test_hook_of_the_engine_is_refused(podman: Podman) -> None:
    hooks = podman.folder / "hooks"
    hooks.mkdir()
    hook = {
        "version": "1.0.0",
        "hook": {"path": "/usr/bin/true"},
        "when": {"always": True},
        "stages": ["createRuntime"],
    }
    (hooks / "any.json").write_text(json.dumps(hook))
    created = ("run", "--detach", "--name", "hooked", "--network", "host", *DOCUMENT, IMAGE, "/pod")
    done = podman.run("--hooks-dir", hooks, *created)
    podman("rm", "hooked")
    assert done.returncode == 126
    assert "[bundle.hooks]" in done.stderr


def test_update_that_is_refused_is_taken_back_by_the_old_value_or_a_new_start(
    podman: Podman,
) -> None:
    """podman writes down what it asks for before it asks, and asks for it again each time."""
    options = ("--memory", "64m", "--network", "none")
    podman("run", "--detach", "--name", "updated", *options, *DOCUMENT, IMAGE, "/bin/sh")
    for undoing in (("update", "--memory", "64m"), ("restart", "--time", "0")):
        assert "[command.refused]" in podman.run("update", "--memory", "128m", "updated").stderr
        later = ("update", "--restart", "no", "updated")
        assert "[command.refused]" in podman.run(*later).stderr
        podman(*undoing, "updated")
        podman(*later)
    podman("rm", "--force", "--time", "0", "updated")
