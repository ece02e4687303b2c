"""Limits that documents name are those of the code: where one moves, its page does, too."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from ccinit.agent.phases.evidence import EVIDENCE_SECONDS
from ccinit.agent.phases.memory_store import INODE_BYTES
from ccinit.agent.phases.rollback import _CLOSE_SECONDS
from ccinit.agent.planes import owner_plane, renewal_schedule, workload_plane
from ccinit.agent.platform.measurement import MAX_WORKLOAD_BYTES
from ccinit.attest.patience import AttestLimits
from ccinit.formats.disk import luks2
from ccinit.formats.encoding.fields import MAX_ITEMS, MAX_TEXT_BYTES
from ccinit.formats.planes.host_rpc import METHODS
from ccinit.formats.planes.http_request import MAX_BODY_BYTES, MAX_HEAD_BYTES
from ccinit.formats.pod.probe import START_SECONDS
from ccinit.formats.pod.volume import _MAX_FORMER_SIZES, MIN_FORMER_BYTES
from ccinit.init import sequence
from ccinit.owner.connection import ConnectionLimits
from ccinit.pull.layers.decompress import _MAX_RATIO
from ccinit.pull.registry.sources import _MIRROR
from ccinit.rpc.server import RpcLimits
from ccinit.run.container import MAX_DELAY_SECONDS, STABLE_SECONDS
from ccinit.run.spec import MAX_TERMINALS
from ccinit.workload.connection import REPLY_SECONDS, REQUEST_SECONDS
from guest_owner.kbs import authority, exclusion, minting
from guest_owner.kbs.administration import token
from guest_owner.kbs.limits import DEFAULT_LIMITS as KBS
from host_runtime.cli import _COLLECT_MIB
from host_runtime.vsock.connection import VsockLimits
from rootfs_builder.guest_image.build import MAX_ROOT_BYTES, MAX_STAGE0_BYTES, MAX_UKI_BYTES

ROOT = Path(__file__).resolve().parents[2]
WORDS = {2: "two", 4: "four", 5: "five", 8: "eight", 10: "ten", 16: "sixteen", 30: "thirty"}
PATIENCE, OWNER, VSOCK = AttestLimits(), ConnectionLimits(), VsockLimits()


def word(number: float) -> str:
    """A small number as pages write it."""
    return WORDS[int(number)]


def kib(size: int) -> str:
    return f"{size >> 10} KiB"


def mib(size: int) -> str:
    return f"{size >> 20} MiB"


FIGURES = {
    "README.md": [f"answers {word(len(METHODS))} calls on vsock"],
    "docs/configuration.md": [
        f"at most {MAX_ITEMS} entries, a text {MAX_TEXT_BYTES} bytes",
        f"earlier sizes of its disk, at least {mib(MIN_FORMER_BYTES)} each",
        f"grows to `size_bytes`; at most {_MAX_FORMER_SIZES} |",
        f"up to {MAX_TERMINALS} terminals",
        f"START has {word(sequence.START.seconds / 60)} minutes for all of it",
        f"before the first probe; less than {START_SECONDS} |",
        f"double from 1 s to {MAX_DELAY_SECONDS:.0f} s",
        f"begin anew after {word(STABLE_SECONDS / 60)} good minutes",
    ],
    "docs/host-rpc.md": [
        f"{word(RpcLimits().connections)} connections;",
        f"{word(RpcLimits().request_seconds)} seconds to finish",
    ],
    "docs/owner-rpc.md": [
        f"**Connections**: at most {word(owner_plane.MAX_CONNECTIONS)} clients,",
        f"handshakes: {word(owner_plane.MAX_STRANGERS)} from the pod's own containers",
        f"and {word(owner_plane.MAX_STRANGERS)} from elsewhere.",
        f"{word(OWNER.handshake_seconds).capitalize()} seconds for the handshake",
        f"{word(OWNER.idle_seconds / 60)} minutes without a call",
    ],
    "docs/operations.md": [
        f"with pauses of up to {PATIENCE.max_delay_seconds:.0f} s, for",
        f"`limits.attest_seconds` ({PATIENCE.total_seconds:.0f})",
        f"it waits up to {_CLOSE_SECONDS:.0f} s, then ends",
        f"after {renewal_schedule.MAX_SECONDS / 3600:.0f} h at most",
        f"After a failure it tries again in {renewal_schedule.FIRST_PAUSE_SECONDS:.0f} s",
        f"growing pauses of up to {renewal_schedule.LAST_PAUSE_SECONDS / 60:.0f} min",
        f"the KBS's certificate ({authority.SERVER_LIFE.days} days)",
        f"waits for up to {word(exclusion.WAIT_SECONDS)} seconds",
        f"turns over by itself after {mib(KBS.audit_file_bytes)}",
        f"keeps {KBS.audit_file_bytes * KBS.audit_older_files >> 30} GiB of guests",
        f"{mib(KBS.audit_file_bytes * (KBS.surplus_older_files + 1))} of what single pods add",
        f"add beyond {mib(KBS.pod_day_bytes)} in a day",
        f"{mib(KBS.stranger_file_bytes * (KBS.stranger_older_files + 1))} of strangers",
        f"unpacks to more than {_MAX_RATIO} times its size",
        f"more than {mib(MAX_ROOT_BYTES)} of root",
        f"{mib(MAX_STAGE0_BYTES)} of stage 0, {mib(MAX_UKI_BYTES)} of UKI",
    ],
    "docs/platforms.md": [f"the child that asks has {EVIDENCE_SECONDS:.0f}."],
    "docs/registries.md": [f"gives the manifest within {_MIRROR.total_seconds:.0f} s"],
    "docs/storage.md": [
        f"reads {kib(luks2.COPY_BYTES)} of the disk once",
        f"{luks2.MIN_ITERATIONS} to {luks2.MAX_ITERATIONS:_} iterations".replace("_", " "),
        f"one for each {kib(INODE_BYTES)}",
        f"It has the {word(sequence.UNLOCK.seconds / 60)} minutes of UNLOCK",
    ],
    "docs/workload-api.md": [
        f"at most {kib(MAX_HEAD_BYTES)} of head and {kib(MAX_BODY_BYTES)} of body",
        f"{word(REQUEST_SECONDS)} seconds to send it and {word(REPLY_SECONDS)} to take",
        f"{word(workload_plane.MAX_CONNECTIONS_EACH)} connections at a time for each container",
        f"{word(workload_plane.MAX_CONNECTIONS)} for all",
        f"all containers together have {kib(MAX_WORKLOAD_BYTES)}",
    ],
    "guest-owner/README.md": [
        f"Of {KBS.connections} connections",
        f"tokens for {word(KBS.token_seconds / 60)} minutes",
        f"goes on in a new file after {mib(KBS.audit_file_bytes)}",
        f"the {KBS.audit_older_files + 2}th file is removed",
        f"{KBS.stranger_older_files + 1} of {mib(KBS.stranger_file_bytes)}, so that nobody",
        f"more than {mib(KBS.pod_day_bytes)} in a day",
        f"{KBS.surplus_older_files + 1} of {mib(KBS.audit_file_bytes)}.",
    ],
    "host-runtime/README.md": [
        f"than `--limit-mib` ({_COLLECT_MIB})",
        f"({VSOCK.connections} connections, {kib(VSOCK.receive_bytes)} each",
        f"{VSOCK.pending_resets} waiting resets)",
    ],
}


@pytest.mark.parametrize("page", FIGURES)
def test_limits_are_those_that_the_code_has(page: str) -> None:
    text = re.sub(r"\s+", " ", (ROOT / page).read_text())
    assert [figure for figure in FIGURES[page] if figure not in text] == []


def test_lives_that_documents_call_by_a_name_are_those_of_the_code() -> None:
    assert timedelta(days=3650) == authority.AUTHORITY_LIFE  # "ten years"
    assert timedelta(weeks=1).total_seconds() == minting.MAX_LIFE_SECONDS
    assert timedelta(days=1).total_seconds() == token.MAX_LIFE_SECONDS
