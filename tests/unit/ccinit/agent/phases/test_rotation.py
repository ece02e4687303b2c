"""Rotation: what changes, what is told, and that a refusal changes nothing."""

import errno
import signal
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ccinit.agent.jobs.messages.kbs import Wanted
from ccinit.agent.phases import rotation as module
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.phases.rotation import Rotation
from ccinit.errors import CcinitError, ConfigError, KernelError, PeerError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import KbsUri, parse_resource_uri
from ccinit.formats.pod.container import RotateSignal
from ccinit.formats.pod.secret import FileSecret
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.task import sleep
from ccinit.run.container import ContainerState, Life
from ccinit.run.workload import SecretFile
from ccinit.secret import Secret

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest

TOKEN, CERT, OTHER = (
    parse_resource_uri(f"kbs:///ccinit/shop/{name}") for name in ("token", "cert", "other")
)


def secret(uri: KbsUri, container: str, *, rotate: bool = True) -> FileSecret:
    path = f"/run/s/{uri.path.rpartition('/')[2]}"
    return FileSecret(container=container, uri=uri, path=path, rotate=rotate)


class FakeSupervisor:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.life = Life(state=ContainerState.RUNNING)
        self.contents: dict[str, bytes] = {}
        self.signals: list[int] = []
        self.failure: CcinitError | None = None
        self.has_process = True

    def replace_secrets(self, files: tuple[SecretFile, ...]) -> None:
        if self.failure is not None:
            raise self.failure
        assert all(file.rotates for file in files)
        self.contents |= {file.path: file.content.reveal() for file in files}

    def send_signal(self, number: int) -> None:
        if self.life.state is not ContainerState.RUNNING or not self.has_process:
            raise ConfigError("run.exec", f"web is {self.life.state}")
        self.signals.append(number)


class Bench:
    """Two containers: `web` has two secrets and wants HUP, `db` shares one and wants nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now: dict[KbsUri, bytes] = {TOKEN: b"old token", CERT: b"old cert"}
        self.failure: Exception | None = None
        self.asked: list[tuple[Wanted, ...]] = []
        self.events: list[str] = []
        self.fetched: list[Secret] = []
        self.web, self.db = FakeSupervisor(), FakeSupervisor()
        self.old = {uri: Secret(data) for uri, data in (self.now | {OTHER: b"other"}).items()}
        self.grants: dict[KbsUri, Grant] = {
            uri: Grant(secret=one, create=False) for uri, one in self.old.items()
        }
        self.loop = EventLoop()
        self.manifest = SimpleNamespace(
            images=(),
            secrets=(
                secret(TOKEN, "web"),
                secret(CERT, "web"),
                secret(TOKEN, "db"),
                secret(OTHER, "db", rotate=False),
            ),
            containers=(
                SimpleNamespace(name="web", rotate_signal=RotateSignal.HUP),
                SimpleNamespace(name="db", rotate_signal=None),
            ),
        )
        self.containers = {"web": self.web, "db": self.db}
        guest = SimpleNamespace(containers=self.containers, event=self.events.append)
        monkeypatch.setattr(module, "fetch_grants", self.fetch)
        configured, attested = SimpleNamespace(manifest=self.manifest), Attested(grants=self.grants)
        self.rotation, self.scheduled = (
            Rotation(cast("Guest", guest), cast("Any", configured), attested) for _ in range(2)
        )

    async def fetch(
        self, _guest: object, _configured: object, wanted: tuple[Wanted, ...]
    ) -> dict[KbsUri, Grant]:
        self.asked.append(wanted)
        await sleep(0)
        if self.failure is not None:
            raise self.failure
        grants = {one.uri: Grant(secret=Secret(self.now[one.uri]), create=False) for one in wanted}
        self.fetched += [grant.secret for grant in grants.values()]
        return grants

    def rotate(self) -> int:
        changed: int = self.loop.run(self.rotation.rotate())
        return changed

    def run(self, body: Coroutine[object, None, Any]) -> None:
        self.loop.run(body)

    def require_untouched(self) -> None:
        assert self.grants[TOKEN].secret.reveal() == b"old token"
        assert (self.web.contents, self.db.contents, self.web.signals) == ({}, {}, [])


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_only_what_may_rotate_is_asked_for_once(bench: Bench) -> None:
    assert bench.rotate() == 0
    (wanted,) = bench.asked
    assert wanted == tuple(Wanted(uri=uri, kind=EnvelopeKind.FILE) for uri in (TOKEN, CERT))
    bench.require_untouched()


def test_keys_that_an_image_policy_names_are_not_fetched_again(bench: Bench) -> None:
    """They were for the pull. The owner may have changed the document meanwhile."""
    bench.manifest.images = (SimpleNamespace(policy=TOKEN),)
    bench.rotate()
    (wanted,) = bench.asked
    assert [one.is_policy for one in wanted] == [False, False]


def test_owner_and_schedule_take_turns(bench: Bench) -> None:
    """Or what was fetched first could be written last."""

    async def rotate() -> int:
        changed: int = await bench.rotation.rotate()
        assert len(bench.asked) == 1
        return changed

    async def main() -> None:
        bench.now[TOKEN] = b"new token"
        first = bench.loop.start(rotate(), "owner")
        second = bench.loop.start(bench.scheduled.rotate(), "schedule")
        assert (await first.join(), await second.join()) == (2, 0)

    bench.run(main())


def test_changed_files_are_replaced_and_their_containers_told(bench: Bench) -> None:
    bench.now[TOKEN] = b"new token"
    assert bench.rotate() == 2
    assert bench.web.contents == {"/run/s/token": b"new token"}
    assert bench.db.contents == {"/run/s/token": b"new token"}
    assert (bench.web.signals, bench.db.signals) == ([signal.SIGHUP], [])
    assert bench.events == ["rotation: 2 of 3 files have changed"]


def test_new_file_reaches_only_containers_that_have_it(bench: Bench) -> None:
    bench.now[CERT] = b"new cert"
    assert bench.rotate() == 1
    assert bench.web.contents == {"/run/s/cert": b"new cert"}
    assert bench.db.contents == {}


def test_later_readers_find_the_new_and_the_old_is_wiped(bench: Bench) -> None:
    bench.now[TOKEN] = b"new token"
    bench.rotate()
    assert bench.grants[TOKEN].secret.reveal() == b"new token"
    assert bench.grants[CERT].secret.reveal() == b"old cert"
    assert (len(bench.old[TOKEN]), len(bench.old[OTHER])) == (0, 5)


def test_kbs_that_refuses_changes_nothing(bench: Bench) -> None:
    bench.now[TOKEN] = b"new token"
    bench.failure = PeerError("kbs.policy_deny", "no")
    with pytest.raises(PeerError):
        bench.rotate()
    bench.require_untouched()
    assert bench.events == ["rotation: failed: kbs.policy_deny: no"]  # whoever asked for it


def test_file_that_cannot_be_replaced_is_tried_again(bench: Bench) -> None:
    bench.now[CERT] = b"new cert"
    bench.web.failure = KernelError(28, "write_secret", "/run/s")
    with pytest.raises(KernelError):
        bench.rotate()
    bench.require_untouched()
    assert bench.grants[CERT].secret.reveal() == b"old cert"
    assert [len(one) for one in bench.fetched] == [0, 0]  # nobody has what was not put in place


def test_rotation_that_fails_half_way_is_made_good_even_by_the_old_content(bench: Bench) -> None:
    async def main() -> None:
        bench.now[TOKEN] = b"new token"
        bench.db.failure = KernelError(28, "write_secret", "/run/s")
        with pytest.raises(KernelError):
            await bench.rotation.rotate()
        assert bench.web.contents == {"/run/s/token": b"new token"}
        assert bench.grants[TOKEN].secret.reveal() == b"old token"
        bench.now[TOKEN], bench.db.failure = b"old token", None
        assert await bench.scheduled.rotate() == 2
        assert bench.web.contents == bench.db.contents == {"/run/s/token": b"old token"}
        assert await bench.rotation.rotate() == 0

    bench.run(main())


@pytest.mark.parametrize(
    ("state", "replaced", "told"),
    [
        (ContainerState.RETRYING, True, False),
        (ContainerState.DONE, False, False),
        (ContainerState.RUNNING, True, True),
    ],
)
def test_container_that_does_not_run_is_not_signalled(
    bench: Bench,
    state: ContainerState,
    replaced: bool,  # noqa: FBT001
    told: bool,  # noqa: FBT001
) -> None:
    bench.now[CERT] = b"new cert"
    bench.web.life = Life(state=state)
    bench.rotate()
    assert bool(bench.web.contents) is replaced
    assert bool(bench.web.signals) is told


def test_program_that_has_just_ended_keeps_nobody_from_the_new_files(bench: Bench) -> None:
    """Its container is RUNNING until crun has deleted it."""
    bench.now[TOKEN] = b"new token"
    bench.web.has_process = False
    assert bench.rotate() == 2
    assert bench.web.contents == bench.db.contents == {"/run/s/token": b"new token"}
    assert bench.web.signals == []
    assert bench.grants[TOKEN].secret.reveal() == b"new token"


def test_pod_that_was_stopped_meanwhile_gets_no_new_secrets(bench: Bench) -> None:
    bench.now[TOKEN] = b"new token"

    async def main() -> None:
        with pytest.raises(ConfigError) as refused:
            await bench.rotation.rotate()
        assert refused.value.reason == "rotate.ended"

    async def stop() -> None:
        bench.containers.clear()

    async def both() -> None:
        rotating = bench.loop.start(main(), "rotation")
        bench.loop.start(stop(), "debug")
        await rotating.join()

    bench.run(both())
    assert [len(one) for one in bench.fetched] == [0, 0]
    bench.require_untouched()


def test_manifest_in_which_nothing_rotates_asks_nobody(bench: Bench) -> None:
    bench.manifest.secrets = (secret(OTHER, "db", rotate=False),)
    with pytest.raises(ConfigError) as refused:
        bench.rotate()
    assert refused.value.reason == "rotate.none"
    assert bench.asked == []


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (PeerError("kbs.unreachable", "gone"), "kbs.unreachable: gone"),
        (OSError(errno.EMFILE, "no descriptor is free"), "kernel.call: "),
    ],
)
def test_schedule_goes_on_after_a_rotation_that_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: Exception, told: str
) -> None:
    """It goes on for as long as the guest lives, which a moment's scarcity must not end."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)
        if len(pauses) == 2:
            bench.failure = None
            bench.now[CERT] = b"new cert"
        if len(pauses) == 3:
            raise KeyError

    monkeypatch.setattr(module, "sleep", pause)
    bench.failure = failure
    with pytest.raises(KeyError):
        bench.run(bench.rotation.keep(3600))
    assert pauses == [3600, 3600, 3600]
    failed, rotated = bench.events
    assert failed.startswith(f"rotation: failed: {told}")
    assert rotated == "rotation: 1 of 3 files have changed"
