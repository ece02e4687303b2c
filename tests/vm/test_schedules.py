"""One guest that is left to its clock: secrets that rotate by themselves, a grant that ends.

The pod watches its secret file all the time and says whenever what it sees has changed. Meanwhile
the owner changes the secret, takes the KBS away and brings it back; a container tries to attest in
the guest's place; at last debug is opened beside the pod, and nobody stops the guest.
"""

import json
import re
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from ccinit.formats.encoding.strict_json import encode_base64url
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.formats.planes.owner_rpc import ClientRole
from ccinit.formats.planes.workload_api import report_data
from host_runtime.launch.guest import EndReason, Guest
from host_runtime.launch.launcher import GuestConfig
from host_runtime.plane.rpc_client import GuestState
from tests.chain import pod, world
from tests.chain.host_view import HostView, look
from tests.chain.life import Life, live, owner_address, write_stream
from tests.chain.owner_log import OwnerLog, read_log
from tests.chain.show import Show
from tests.chain.world import DEBUG_TOOLS_DESCRIPTION, World, make_world
from tests.integration.kbs.harness import StockClient, booted_tpm
from tests.vm.direct_boot import DirectImage
from tests.vm.harness.boots import record_boot
from tests.vm.owner_visit import PYTHON

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(2400)]

EVERY_SECONDS = 60
ATTEST_SECONDS = 60
"""How long the guest goes on asking a KBS that is not there."""
WAIT_SECONDS = 400.0
GRANT_SECONDS = 60
SECOND, THIRD = b"the second secret, 81c4e0a9", b"the third secret, 5be27f13"
ROTATED = "rotation: 1 of 1 files have changed"
KEPT = "rotation: failed: "

WATCH = """
import hashlib, os, signal, sys, time

def look():
    with open(os.environ["SECRET_FILE"], "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
        return f"{digest} in file {os.fstat(file.fileno()).st_ino}"

def say(*words):
    os.write(1, (" ".join(words) + chr(10)).encode())

def stop(*_):
    say("stopped")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGHUP, lambda *_: say("told of", look()))
seen = ""
while True:
    if (now := look()) != seen:
        say("sees", seen := now)
    time.sleep(0.002)
"""
ASK_FOR_EVIDENCE = (
    "import sys, urllib.request; "
    "print(urllib.request.urlopen('http://127.0.0.1:8006' + sys.argv[1]).read().decode())"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What became of evidence that a container asked for, and of the guest's own.

    Attributes:
        digest: report data of the container's own session.
        claims: that did not hold, by the KBS's audit log: name, expected, got.
    """

    status: int
    digest: bytes
    claims: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Debugged:
    """While debug was open beside the pod.

    Attributes:
        pod: what a program in the pod's container printed.
        shell: what one in the debug environment printed.
        seconds: from the order of the grant until the guest began to end.
    """

    before: GuestState
    after: GuestState
    pod: str
    shell: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """The guest's life from both sides."""

    scene: World
    life: Life
    log: OwnerLog
    view: HostView
    refusal: Refusal
    away: str
    debugged: Debugged

    def events(self) -> list[str]:
        return [entry.text for entry in self.log.entries if entry.kind == "event"]

    def said(self) -> list[str]:
        """Entries of the log; one may hold several lines."""
        return list(self.log.workload_lines(self.scene.canaries.container))

    def looks(self, verb: str) -> list[tuple[str, str]]:
        """Digest and file number of what the pod saw, or was told of."""
        return re.findall(rf"{verb} (\w{{64}}) in file (\d+)", " ".join(self.said()))


@contextmanager
def watching_world(folder: Path) -> Iterator[World]:
    """The chain's world with a pod of its own: its program, its schedule, its rights."""

    def watch(text: str, canaries: pod.Canaries) -> str:
        args = json.dumps([PYTHON, "-I", "-c", WATCH])
        text = text.replace("[allow]\n", f'[allow]\nevidence = ["{canaries.container}"]\n')
        text = text.replace(
            'image = "counter"\n', f'image = "counter"\nargs = {args}\nrotate_signal = "HUP"\n'
        )
        return f"{text}\n[rotate]\nevery_seconds = {EVERY_SECONDS}\n"

    def hurry(text: str, _canaries: pod.Canaries) -> str:
        return text.replace("attest_seconds = 180", f"attest_seconds = {ATTEST_SECONDS}")

    with make_world(folder, Show(), edit_pod=watch, edit_config=hurry) as scene:
        yield scene


class Owner:
    """What the owner does while the guest runs."""

    def __init__(self, scene: World) -> None:
        self._scene = scene

    def visit(self, guest: Guest, config: GuestConfig) -> tuple[Refusal, str, Debugged]:
        """Go through everything, in the order of the module's first lines."""
        owner, at = self._scene.owner, owner_address(config)
        self._wait_until_seen(at, self._scene.canaries.secret.encode())
        refusal = self._attest_as_the_guest(at)
        owner.register_resource(pod.SECRET_URI, SECOND, "file")
        self._wait_for(at, ROTATED, 1)
        self._scene.kbs.close()
        owner.register_resource(pod.SECRET_URI, THIRD, "file")
        self._wait_for(at, KEPT, 1)
        away = self._read_secret(at)
        self._scene.kbs.enter_context(owner.serving(self._scene.kbs_port))
        self._wait_for(at, ROTATED, 2)
        return refusal, away, self._debug(guest, at)

    def _events(self, at: str) -> list[str]:
        lines = self._scene.owner.ask("events", "--json", at=at, role=ClientRole.LOGS).splitlines()
        return [json.loads(line)["text"] for line in lines]

    def _wait_for(self, at: str, head: str, count: int) -> None:
        _eventually(lambda: sum(text.startswith(head) for text in self._events(at)) >= count)

    def _wait_until_seen(self, at: str, secret: bytes) -> None:
        words, digest = ("logs", "--container", self._scene.canaries.container), _digest(secret)
        _eventually(lambda: digest in self._scene.owner.ask(*words, at=at, role=ClientRole.LOGS))

    def _exec(self, at: str, code: str, *arguments: str) -> str:
        container = self._scene.canaries.container
        return self._scene.owner.ask("exec", container, PYTHON, "-I", "-c", code, *arguments, at=at)

    def _read_secret(self, at: str) -> str:
        return self._exec(at, "import os; print(open(os.environ['SECRET_FILE']).read(), end='')")

    def _attest_as_the_guest(self, at: str) -> Refusal:
        """Hold a session from outside, with evidence that a container has been given for it."""
        scene = self._scene
        tls = ssl.create_default_context(cafile=scene.owner.state / "ca.pem")
        tls.check_hostname = False  # its name is the one that guests use
        url = f"https://localhost:{self._scene.kbs_port}"
        with httpx.Client(base_url=url, verify=tls, trust_env=False) as http:
            client = StockClient(http=http, tpm=booted_tpm())
            assert client.auth().status_code == 200
            digest = client.report_data()
            query = urllib.parse.urlencode(
                {"runtime_data": encode_base64url(digest), "encoding": "base64"}
            )
            evidence = json.loads(self._exec(at, ASK_FOR_EVIDENCE, f"/aa/evidence?{query}"))
            document = scene.initdata.read_text()
            reply = client.attest(evidence=evidence, document=document)
        records = [one for one in scene.owner.audit() if one["decision"] == "refused"]
        claims: Any = records[-1]["claims"]
        return Refusal(
            status=reply.status_code,
            digest=digest,
            claims=tuple(
                (claim["name"], claim["expected"], claim["got"])
                for claim in claims
                if not claim["holds"]
            ),
        )

    def _debug(self, guest: Guest, at: str) -> Debugged:
        """Open debug beside the pod, look at both, and wait until the guest ends by itself."""
        owner = self._scene.owner
        with guest.client() as client:
            before = client.state()
            began = time.monotonic()
            shell = owner.run(
                *("debug", "open", "--connect", at, "--pod", pod.POD, "--state", owner.state),
                *("--client", owner.client(ClientRole.ADMIN), "--tools", DEBUG_TOOLS_DESCRIPTION),
                *("--keep-pod", "--minutes", str(GRANT_SECONDS // 60)),
                *("--", "/bin/sh", "-c", "id -u; ls /proc/1/root/run/ccinit"),
            )
            after = client.state()
            inside = self._exec(at, "print('still here')")
            state = after
            while state.phase is Phase.RUN and time.monotonic() - began < WAIT_SECONDS:
                state = client.wait(state.sequence, 1000)
        return Debugged(
            before=before,
            after=after,
            pod=inside,
            shell=shell,
            seconds=time.monotonic() - began,
        )


def _digest(secret: bytes) -> str:
    return sha256(secret).hexdigest()


def _eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(5)


@pytest.fixture(scope="module")
def lived(prod_image: DirectImage, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    assert prod_image  # built, and with it the UKI
    folder = tmp_path_factory.mktemp("schedules")
    with watching_world(folder) as scene:
        owner = Owner(scene)
        config = scene.guest("guest", uki=world.IMAGES / "ccinit-prod.efi")
        began = time.monotonic()
        visits: list[tuple[Refusal, str, Debugged]] = []
        life = live(config, Show(), visit=lambda guest: visits.append(owner.visit(guest, config)))
        record_boot("schedules: rotation and the end of a grant", time.monotonic() - began)
        log = read_log(scene.owner, write_stream(life, folder / "stream"))
        secrets = {"second secret": SECOND, "third secret": THIRD}
        view = look(config, {**scene.canaries.by_name(), **secrets})
        refusal, away, debugged = visits[0]
        return Lived(
            scene=scene,
            life=life,
            log=log,
            view=view,
            refusal=refusal,
            away=away,
            debugged=debugged,
        )


def test_secret_is_replaced_whole_by_schedule_and_the_pod_is_told(lived: Lived) -> None:
    """A reader that looks all the time sees each content once, in a file of its own."""
    secrets = (lived.scene.canaries.secret.encode(), SECOND, THIRD)
    seen = lived.looks("sees")
    assert [digest for digest, _ in seen] == [_digest(secret) for secret in secrets]
    assert len({file for _, file in seen}) == len(secrets)
    assert lived.looks("told of") == seen[1:]
    assert lived.events().count(ROTATED) == 2


def test_rotation_without_a_kbs_changes_nothing_and_the_owner_is_told(lived: Lived) -> None:
    assert lived.away == SECOND.decode()
    events = lived.events()
    kept = [number for number, text in enumerate(events) if text.startswith(KEPT)]
    reason = events[kept[0]].removeprefix(KEPT).partition(":")[0]
    assert reason in {"kbs.unreachable", "child.late"}
    first, second = (number for number, text in enumerate(events) if text == ROTATED)
    assert first < kept[0] < second


def test_evidence_for_a_containers_own_session_is_refused_by_the_kbs(lived: Lived) -> None:
    """Of all that the KBS looks at, only whom the evidence was made for is wrong."""
    name, digest = lived.scene.canaries.container, lived.refusal.digest
    expected = ("quote.report_data", digest.hex(), report_data(name, digest).hex())
    assert (lived.refusal.status, lived.refusal.claims) == (401, (expected,))


def test_pod_goes_on_while_debug_is_open_if_the_grant_says_so(lived: Lived) -> None:
    debugged = lived.debugged
    assert debugged.pod == "still here\n"
    assert {"0", "debug", "volumes"} <= set(debugged.shell.split())
    before, after = debugged.before, debugged.after
    assert (before.phase, before.is_debug) == (Phase.RUN, False)
    assert (after.phase, after.code, after.is_debug) == (Phase.RUN, Code.OK, True)
    assert after.sequence == before.sequence + 1


def test_guest_ends_with_the_grant_and_in_order(lived: Lived) -> None:
    assert GRANT_SECONDS - 2 < lived.debugged.seconds < GRANT_SECONDS + 30
    assert "debug: the grant has ended, and with it the guest" in lived.events()
    assert lived.said()[-1] == "stopped"  # the pod was asked to
    assert lived.life.last[1] is Code.OK
    assert lived.life.end is EndReason.RESET


def test_host_saw_none_of_the_secrets(lived: Lived) -> None:
    assert lived.view.complaints() == ()
