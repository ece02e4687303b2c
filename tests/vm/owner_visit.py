"""What the owner does to a pod that runs, by commands that a user would type; and by the relay.

All of one guest's cases, so that they share a boot. Nothing is judged here.
"""

from dataclasses import dataclass

from ccinit.formats.planes.owner_rpc import ClientRole
from host_runtime.launch.guest import Guest
from host_runtime.launch.launcher import GuestConfig
from tests.chain import pod
from tests.chain.life import owner_address, relaying
from tests.chain.parties import Owner
from tests.chain.world import World

PYTHON = "/usr/bin/python3"
WORDS = b"words from outside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What the commands printed.

    Attributes:
        refusals: exit of a command that must be refused, by case: the guest's reason, or nothing.
        copied: a file that went in and came out again.
        rotated: what `rotate` said, twice, and then the container of its secret.
        relayed: through the host's relay.
    """

    attest: str
    metrics: str
    top: str
    rotated: tuple[str, str, str]
    logs: str
    events: str
    executed: str
    copied: bytes
    relayed: str
    refusals: dict[str, str]


def visit_pod(scene: World, guest: Guest, config: GuestConfig) -> Visit:
    """Make every call of the owner plane."""
    owner, at, name = scene.owner, owner_address(config), scene.canaries.container
    code = (
        "import os, sys; words = sys.stdin.read()\n"
        "with open('/data/words', 'w') as file: file.write(words)\n"
        "os.sync()\n"
        "print(os.getuid(), words[::-1]); sys.exit(7)"
    )
    command = ("-i", name, PYTHON, "-I", "-c", code)
    executed = owner.ask("exec", *command, at=at, stdin=WORDS, accept=(7,))
    owner.ask("signal", name, "CONT", at=at)
    with relaying(guest) as relay:
        relayed = owner.ask("exec", name, PYTHON, "-I", "-c", "print(6 * 7)", at=relay)
    return Visit(
        attest=owner.ask("attest", at=at, role=ClientRole.LOGS),
        metrics=owner.ask("metrics", at=at, role=ClientRole.LOGS),
        top=owner.ask("top", "--once", at=at, role=ClientRole.LOGS),
        rotated=_rotate(scene, at),
        logs=owner.ask("logs", "--container", name, at=at, role=ClientRole.LOGS),
        executed=executed,
        copied=_copy(owner, at, name),
        relayed=relayed,
        refusals={
            "role": owner.refused("exec", name, PYTHON, at=at, role=ClientRole.LOGS),
            "container": owner.refused("exec", "no-such-container", PYTHON, at=at),
        },
        events=owner.ask("events", "--json", at=at, role=ClientRole.LOGS),
    )


def _rotate(scene: World, at: str) -> tuple[str, str, str]:
    """Give the KBS another secret, have the guest take it, twice, and the first one again."""
    owner, canaries = scene.owner, scene.canaries
    owner.register_resource(pod.SECRET_URI, WORDS, "file")
    told = [owner.ask("rotate", at=at, role=ClientRole.ADMIN) for _ in range(2)]
    code = f"print(open('/run/secrets/{canaries.file_name}').read())"
    seen = owner.ask("exec", canaries.container, PYTHON, "-I", "-c", code, at=at)
    owner.register_resource(pod.SECRET_URI, canaries.secret.encode(), "file")
    owner.ask("rotate", at=at, role=ClientRole.ADMIN)
    return told[0], told[1], seen


def _copy(owner: Owner, at: str, name: str) -> bytes:
    there, back = owner.folder / "there", owner.folder / "back"
    there.write_bytes(WORDS * 10_000)
    owner.ask("cp", there, f"{name}:/dev/shm/file", at=at)
    owner.ask("cp", f"{name}:/dev/shm/file", back, at=at)
    return back.read_bytes()
