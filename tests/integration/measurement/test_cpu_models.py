"""Processor models and their signatures as the installed QEMU has them.

Needs the tools tree (`CCINIT_TOOLS`, or build/tools).
"""

import json
import os
from pathlib import Path
from typing import Any

from measured_boot.sev.cpu_models import CPU_MODELS, pack_signature
from rootfs_builder.tools_tree import ToolsTree

TREE = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")))
QEMU = ("qemu-system-x86_64", *("-machine", "none", "-nodefaults", "-display", "none"))


def ask_qemu(*commands: dict[str, Any]) -> list[Any]:
    """Return what QEMU's machine protocol returns for each command."""
    lines = [{"execute": "qmp_capabilities"}, *commands, {"execute": "quit"}]
    asked = "".join(json.dumps(line) + "\n" for line in lines)
    printed = TREE.run((*QEMU, "-qmp", "stdio"), input_data=asked.encode())
    answers = [json.loads(line) for line in printed.splitlines() if line.strip()]
    return [answer["return"] for answer in answers if "return" in answer][1:-1]


def signature_in_qemu(name: str) -> int:
    expand = {"type": "full", "model": {"name": name}}
    (answer,) = ask_qemu({"execute": "query-cpu-model-expansion", "arguments": expand})
    found = answer["model"]["props"]
    return pack_signature(found["family"], found["model"], found["stepping"])


def test_every_epyc_of_qemu_is_known_by_its_signature() -> None:
    (definitions,) = ask_qemu({"execute": "query-cpu-definitions"})
    names = {definition["name"] for definition in definitions}
    epycs = {name for name in names if name.startswith("EPYC")}
    assert {"EPYC-Milan", "EPYC-Genoa-v1"} <= epycs
    known = {name: CPU_MODELS.get(name, 0) for name in epycs}
    assert known == {name: signature_in_qemu(name) for name in epycs}
