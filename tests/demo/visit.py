"""What the owner does to a guest that runs, through the host, which learns nothing by it."""

from collections.abc import Iterator

from ccinit.formats.planes.host_rpc import Phase
from ccinit.formats.planes.owner_rpc import ClientRole
from host_runtime.launch.guest import Guest
from tests.chain.life import relaying
from tests.chain.platforms import TrustedPlatform
from tests.chain.show import PartyError, Show
from tests.chain.world import DEBUG_TOOLS_DESCRIPTION, World

Complaint = tuple[str, str]
"""Party and why."""

_WRITE = "import os; open('/proc/1/fd/1', 'w').write(f'this is Linux {os.uname().release}\\n')"
_LOOK = ("/bin/sh", "-c", "echo uid $(id -u), PID 1 is $(cat /proc/1/comm)")
_SEEN = "uid 0, PID 1 is python3.13"


def visit(show: Show, scene: World, guest: Guest) -> tuple[Complaint, ...]:
    """Have the guest prove itself, follow its log, run a program in it, and debug it.

    Returns:
        What went wrong without ending the demo.

    Raises:
        PartyError: a command failed, or did not show what it had to.
    """
    _prove(show, scene, guest)
    _follow(show, scene, guest)
    return tuple(_debug(show, scene, guest))


def _prove(show: Show, scene: World, guest: Guest) -> None:
    """Where nothing is bound, the owner's verifier cannot accept, and says so by the claim."""
    wanted = [] if scene.platform.binds_initdata else ["initdata.digest"]
    with (
        show.step("owner", "have the running guest prove what it is, through the host's relay"),
        relaying(guest) as relay,
    ):
        printed = scene.owner.ask("attest", at=relay, accept=(1,) if wanted else (0,))
        claims, verdict = read_claims(printed)
        refused = [name for name, judged in claims.items() if judged != "ok"]
        if not claims or refused != wanted or verdict.startswith("accepted: ") is bool(wanted):
            raise PartyError(
                "owner", f"attest refused {refused} of {len(claims)} claims: {verdict}"
            )
    told = f"refused for {', '.join(wanted)}: nothing binds the document" if wanted else "accepted"
    show.say("owner", f"attest: {len(claims)} claims, {told}")


def read_claims(printed: str) -> tuple[dict[str, str], str]:
    """Return each claim with its last word, and the verdict, of what `attest` prints."""
    table, _, verdict = printed.partition("\n\n")
    rows = (line.split() for line in table.splitlines()[1:])
    return {row[0]: row[-1] for row in rows if row}, verdict.strip()


def _follow(show: Show, scene: World, guest: Guest) -> None:
    owner, container = scene.owner, scene.canaries.container
    with (
        show.step("owner", "follow its log while a program in the container writes to it"),
        relaying(guest) as relay,
        owner.following(container, at=relay) as lines,
    ):
        first = next(lines, "")
        owner.ask("exec", container, "/usr/bin/python3", "-I", "-c", _WRITE, at=relay)
        said = next((line for line in lines if "this is Linux" in line), "")
        if not first or not said:
            raise PartyError("owner", "logs -f did not show what the container wrote meanwhile")
    show.say("owner", f"logs -f, while exec writes to the service's output: {said.strip()}")


def _debug(show: Show, scene: World, guest: Guest) -> Iterator[Complaint]:
    """Without a register that would show it, the guest refuses."""
    opens = scene.platform is TrustedPlatform.TPM
    words = ("--minutes", "10", "--tools", DEBUG_TOOLS_DESCRIPTION, "--", *_LOOK)
    with (
        show.step("owner", "debug the guest, by a grant of the KBS, through the relay"),
        relaying(guest) as relay,
    ):
        if opens:
            said = scene.owner.ask("debug open", *words, at=relay, role=ClientRole.ADMIN).strip()
        else:
            said = scene.owner.refused("debug open", *words, at=relay, role=ClientRole.ADMIN)
    with guest.client() as client:
        state = client.state()
    if said != (_SEEN if opens else "debug.not_allowed"):
        yield "guest", f"debug: {said}"
    if (state.phase, state.is_debug) != (Phase.RUN, opens):
        yield "guest", f"phase {state.phase.name}, debug is {state.is_debug}, expected {opens}"
    show.say("owner", f"debug: {said if opens else f'refused for {said}: nothing would show it'}")
    show.say("host", f"phase {state.phase.value}, debug bit {state.is_debug:d}")
