"""Our reading and replay of event logs against `tpm2_eventlog`.

The recorded boots keep 96 bytes of each event's data. What was longer is logged here as plain text,
because the other program parses it; digests and registers are the recorded ones. Needs the tools
tree (`CCINIT_TOOLS`, or build/tools).
"""

import json
import os
import re
from pathlib import Path

import pytest

from measured_boot.event_log import read_firmware_log
from measured_boot.prediction import UkiBoot, predict
from measured_boot.tdx.registers import rtmr_of
from measured_boot.tpm.boot_events import EXITS
from rootfs_builder.tools_tree import ToolsTree
from tests.fakes.platforms.event_logs import SHA1, SHA256, SHA384, log_event, log_header
from tests.fakes.published.pe_images import uki_image

TREE = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")))
VECTORS = Path("tests/vectors/measured_boot")
KEPT_BYTES = 96
TEXT = 0xD
PREDICTED = predict(UkiBoot(uki=uki_image())).events
SHA384_NAME, SHA256_NAME = "sha384", "sha256"


def recorded_log(name: str) -> bytes:
    rows = json.loads((VECTORS / f"{name}.json").read_text())["events"]
    log = log_header()
    for register, kind, digest, data in rows:
        is_whole = len(bytes.fromhex(data)) < KEPT_BYTES
        digests = {SHA1: bytes(20), SHA256: bytes.fromhex(digest)}
        log += log_event(
            register, digests, kind if is_whole else TEXT, bytes.fromhex(data) if is_whole else b"x"
        )
    return log


def read_with_the_other_program(folder: Path, log: bytes, bank: str) -> tuple[list[str], list[str]]:
    """Return "REGISTER DIGEST" of each event, and "REGISTER VALUE" of each register."""
    (folder / "log").write_bytes(log)
    printed = TREE.run(("tpm2_eventlog", str(folder / "log")), directories=(folder,)).decode()
    events, registers = printed.split("\npcrs:\n")
    digest = rf"  - AlgorithmId: {bank}\n +Digest: \"([0-9a-f]+)\""
    blocks = events.split("- EventNum: ")[2:]  # the first record extends nothing
    pattern = re.compile(rf"PCRIndex: (\d+)\n(?:.*\n)*{digest}")
    found = [" ".join(row) for block in blocks for row in pattern.findall(block)]
    values = registers.split(f"{bank}:\n")[1].split("  sha")[0]
    rows = re.findall(r"^    (\d+) +: 0x([0-9a-f]+)", values, re.MULTILINE)
    return found, [" ".join(row) for row in rows]


@pytest.mark.parametrize("name", ["uki", "all_sections", "direct"])
def test_recorded_logs_are_read_and_replayed_alike(tmp_path: Path, name: str) -> None:
    log = recorded_log(name)
    events, registers = read_with_the_other_program(tmp_path, log, SHA256_NAME)
    ours = read_firmware_log(log)
    assert [f"{row.register} {row.digest.hex()}" for row in ours.log.events] == events
    assert [f"{key[3:]} {value.hex()}" for key, value in ours.replay().items()] == registers
    quoted = json.loads((VECTORS / f"{name}.json").read_text())["pcr"]
    assert {row.split()[0]: row.split()[1] for row in registers}.items() <= quoted.items()


def test_startup_locality_is_in_pcr_0_alike(tmp_path: Path) -> None:
    digests = {SHA1: bytes(20), SHA256: bytes(32)}
    first = log_event(0, digests, 3, b"StartupLocality\0\3")
    log = log_header() + first + recorded_log("uki")[len(log_header()) :]
    _, registers = read_with_the_other_program(tmp_path, log, SHA256_NAME)
    replayed = read_firmware_log(log).replay()
    assert [f"{key[3:]} {value.hex()}" for key, value in replayed.items()] == registers
    assert replayed["pcr0"] != read_firmware_log(recorded_log("uki")).replay()["pcr0"]


def test_a_confidential_vms_log_is_read_and_replayed_alike(tmp_path: Path) -> None:
    rows = ((rtmr_of(row.register) + 1, row.wide_digest) for row in (*PREDICTED, *EXITS))
    log = log_header(((SHA384, 48),)) + b"".join(
        log_event(register, {SHA384: digest}, TEXT) for register, digest in rows
    )
    events, registers = read_with_the_other_program(tmp_path, log, SHA384_NAME)
    ours = read_firmware_log(log)
    assert [f"{row.register} {row.digest.hex()}" for row in ours.log.events] == events
    assert [value.hex() for value in ours.replay().values()] == [
        row.split()[1] for row in registers
    ]
