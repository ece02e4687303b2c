"""Invariant: any bytes given as an OCI bundle's `config.json`, as an operator's file or as a record
are a value or a `CcinitError`, and of what is accepted the guest is one that the operator allows,
the paths can be opened, and a record is read again as the same.

Run as `python -m tests.fuzz.fuzz_bundle [SECONDS [SEED]]`.
"""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from ccinit.errors import CcinitError
from host_runtime.oci_runtime.bundle import Bundle, parse_bundle
from host_runtime.oci_runtime.container_state import (
    ContainerRecord,
    Status,
    encode_record,
    encode_state,
    parse_record,
)
from host_runtime.oci_runtime.guest_choice import choose_guest, read_scratch_sizes
from host_runtime.oci_runtime.operator_config import parse_operator_config
from host_runtime.oci_runtime.pod_member import require_member, require_same_guest
from tests.fakes.documents.oci_bundles import encode_annotation, make_document, operator_toml
from tests.fuzz.mutation import mutate_json, mutate_text
from tests.fuzz.trials import Trials, run

FILE = operator_toml().encode()
OPERATOR = parse_operator_config(FILE)
ANNOTATIONS = {
    "org.ccinit.initdata": encode_annotation(make_document()),
    "org.ccinit.image": "snp",
    "org.ccinit.memory_mib": "2048",
    "org.ccinit.vcpus": "2",
    "org.ccinit.disks": "/srv/allowed/a,/srv/allowed/b:ro",
}
CRI = "io.kubernetes.cri."
CONFIGS = tuple(
    json.dumps(
        {
            "ociVersion": "1.2.0",
            "process": {"terminal": False, "args": ["x"]},
            "root": {"path": "rootfs"},
            "hooks": {"prestart": []},
            "linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/n"}]},
            "annotations": annotations,
        }
    ).encode()
    for annotations in (
        ANNOTATIONS,
        {"org.ccinit.initdata_file": "/srv/allowed/initdata.toml"},
        {
            f"{CRI}container-type": "container",
            f"{CRI}sandbox-id": "a",
            f"{CRI}container-name": "web",
        },
    )
)
RECORD = ContainerRecord(id="a", bundle="/b", annotations=ANNOTATIONS, created="now", pid=7)
WORDS = (
    *(b"\\ud800", b"\\u0000", b"\\n", b"null", b"true", b"-1", b"1e400", b"{}", b"[]", b'"', b","),
    *(b"/../", b"//", b":ro", b"..", b"\\u001b[2J", b"org.ccinit.x", b"9" * 5000, b"[" * 5000),
)


def check_config(data: bytes) -> bool:
    """Read a bundle and what follows from it; return whether it chooses a guest."""
    with contextlib.suppress(CcinitError):
        bundle = parse_bundle(data)
        check_bundle(bundle)
        choice = choose_guest(bundle.annotations, OPERATOR)
        assert choice.memory_mib <= OPERATOR.allow.memory_mib
        assert choice.vcpus <= OPERATOR.allow.vcpus
        for path in [disk.path for disk in choice.disks] + [choice.document]:
            if isinstance(path, Path):
                assert Path(os.path.normpath(path)).is_relative_to("/srv/allowed")
            else:
                read_scratch_sizes(path)
        return True
    return False


def check_bundle(bundle: Bundle) -> None:
    """Do what a runtime does with a bundle besides."""
    os.fsencode(bundle.network_namespace or "")
    record = ContainerRecord(id="a", bundle="/b", annotations=bundle.annotations, created="now")
    assert parse_record(encode_record(record)) == record
    assert json.loads(encode_state(record, Status.CREATED))["annotations"] == bundle.annotations
    if bundle.part is not None:
        with contextlib.suppress(CcinitError):
            require_member(bundle.part.member, make_document())
    with contextlib.suppress(CcinitError):
        require_same_guest(bundle.annotations, ANNOTATIONS)


def check(read: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(CcinitError):
        read(data)


def main(seconds: float, seed: int) -> int:
    """Check texts for a while; return how many."""
    record = encode_record(RECORD).encode()
    assert check_config(CONFIGS[0])
    assert parse_record(record) == RECORD
    trials = Trials(seconds, seed)
    chosen = 0
    for source in trials:
        config = source.choice(CONFIGS)
        if source.randrange(2):
            chosen += check_config(mutate_json(source, config, WORDS))
        else:
            chosen += check_config(mutate_text(source, config, WORDS))
        check(parse_operator_config, mutate_text(source, FILE, WORDS))
        check(parse_record, mutate_text(source, record, WORDS))
        check(parse_record, mutate_json(source, record, WORDS))
    trials.require(chosen, one_in=20)
    return trials.count


if __name__ == "__main__":
    run(main)
