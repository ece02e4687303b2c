"""The owner debugs a pod that runs, through the host's relay: refused first, then granted.

All of one guest's cases, at the end of its life: nothing of the pod is there afterwards. Nothing is
judged here.
"""

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ccinit.formats.disk.verity import RootHash
from ccinit.formats.kbs.debug_grant import (
    MAX_GRANT_SECONDS,
    DebugGrant,
    encode_debug_grant,
)
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.planes.owner_rpc import DEBUG_CONTAINER, ClientRole
from guest_owner.debug_tools import parse_debug_tools
from guest_owner.kbs.minting import DebugOrder
from guest_owner.kbs.state.store import Store
from host_runtime.launch.guest import Guest
from host_runtime.launch.launcher import GuestConfig
from host_runtime.plane.rpc_client import GuestState
from tests.chain import pod
from tests.chain.life import owner_address, relaying
from tests.chain.parties import BIN, Owner
from tests.chain.world import DEBUG_TOOLS_DESCRIPTION, World
from tests.vm.owner_copies import CopyEnd, copying

LOOK = (
    "id -u; cat /proc/1/comm; ls /proc/1/root/run/ccinit; "
    "touch /no-way 2>/tmp/refused || cat /tmp/refused; "
    "dmesg >/tmp/log && echo kernel log; ls /sys/class/tpm; exit 9"
)
GRANT_URI = parse_resource_uri(pod.DEBUG_GRANT_URI)
OTHER_TOOLS = RootHash(b"\xab" * 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugVisit:
    """What came of it.

    Attributes:
        refusals: by case, the guest's reason.
        audited: by case, why the KBS gave nothing; empty if it gave something.
        spared: what the pod and the platform said after the refusals.
        before, after: what the host was told.
        opened: exit status, output and messages of the command that opened it.
        claims: of an attestation afterwards, with its exit status.
        shell: output of a second program, on pipes with input.
        late: reasons of what is refused once debug is open.
        copies: how those ended that were under way.
    """

    refusals: dict[str, str]
    audited: dict[str, str]
    spared: tuple[str, str]
    before: GuestState
    after: GuestState
    opened: tuple[int, str, str]
    claims: tuple[int, str]
    shell: str
    late: dict[str, str]
    copies: dict[str, CopyEnd]


def visit_debug(scene: World, guest: Guest, config: GuestConfig) -> DebugVisit:
    """Try without a grant and with each that must be refused, then open debug and look around."""
    owner, name, at = scene.owner, scene.canaries.container, owner_address(config)
    tools = ("--tools", DEBUG_TOOLS_DESCRIPTION)
    refusals = {"role": owner.refused("debug open", "--granted", at=at)}
    audited = {}
    store = Store(owner.state)
    for case, leave in _REFUSED.items():
        leave(store)
        refusals[case] = owner.refused("debug open", "--granted", at=at, role=ClientRole.ADMIN)
        audited[case] = str(owner.audit()[-1].get("reason", ""))
        if store.has_resource(GRANT_URI):
            store.delete_resource(GRANT_URI)
    spared = (
        owner.ask("exec", name, "/usr/bin/python3", "-I", "-c", "print('still here')", at=at),
        owner.ask("attest", at=at),
    )
    before = _host_state(guest)
    with copying(scene, at, "/data") as copies, relaying(guest) as relay:
        opened = _run(
            owner, relay, ClientRole.ADMIN, "debug", "open", *tools, "--minutes", "10",
            "--", "/bin/sh", "-c", LOOK,
        )  # fmt: skip
        after = _host_state(guest)
        shell = _run(
            owner, relay, ClientRole.ADMIN, "exec", "-i", DEBUG_CONTAINER, "/bin/sh",
            stdin="cat /proc/mounts\n",
        )  # fmt: skip
        claims = _run(owner, relay, ClientRole.LOGS, "attest")
        late = {
            "again": owner.refused("debug open", *tools, at=relay, role=ClientRole.ADMIN),
            "pod": owner.refused("exec", name, "/usr/bin/python3", at=relay),
            "role": owner.refused("exec", DEBUG_CONTAINER, "/bin/sh", at=relay),
        }
        ends = copies.finish()
    return DebugVisit(
        refusals=refusals,
        audited=audited,
        spared=spared,
        before=before,
        after=after,
        opened=(opened.returncode, opened.stdout, opened.stderr),
        claims=(claims.returncode, claims.stdout),
        shell=shell.stdout,
        late=late,
        copies=ends,
    )


def _leave_forged(store: Store, kind: EnvelopeKind = EnvelopeKind.DEBUG_GRANT) -> None:
    """Store a grant that looks right and is for a key that no guest has."""
    grant = DebugGrant(
        evidence_key=bytes(32), expires_s=1 << 40, tools_root=_tools_root(), keep_pod=False
    )
    envelope = Envelope(uri=GRANT_URI, kind=kind, data=encode_debug_grant(grant))
    store.write_resource(GRANT_URI, encode_envelope(envelope))


def _leave_order(store: Store, *, tools: RootHash | None = None, seconds: int = 600) -> None:
    """Have the KBS make grants: for whoever attests, so their key is always the right one."""
    order = DebugOrder(
        expires_s=int(time.time()) + seconds, tools_root=tools or _tools_root(), keep_pod=False
    )
    store.write_order(GRANT_URI, order)


def _tools_root() -> RootHash:
    return parse_debug_tools(DEBUG_TOOLS_DESCRIPTION.read_bytes()).root_hash


_REFUSED: Mapping[str, Callable[[Store], None]] = {
    "absent": lambda _store: None,
    "key": _leave_forged,
    "kind": lambda store: _leave_forged(store, EnvelopeKind.FILE),
    "tools": lambda store: _leave_order(store, tools=OTHER_TOOLS),
    "ended": lambda store: _leave_order(store, seconds=-1),
    "too long": lambda store: _leave_order(store, seconds=MAX_GRANT_SECONDS + 600),
}
"""What the KBS has in the place of a grant."""


def _host_state(guest: Guest) -> GuestState:
    with guest.client() as client:
        return client.state()


def _run(
    owner: Owner, at: str, role: ClientRole, *words: object, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run a command of the owner plane, whatever comes of it."""
    path = 2 if words[0] == "debug" else 1
    command = (
        *(BIN / "guest-owner", *words[:path], "--connect", at, "--pod", "demo"),
        *("--client", owner.client(role), "--state", owner.state, *words[path:]),
    )
    return subprocess.run(
        [str(word) for word in command],
        input=stdin, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
