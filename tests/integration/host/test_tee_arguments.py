"""Objects of confidential guests, as the installed QEMU reads them.

There is no such hardware here. QEMU reads all properties of an object before it looks for any, so
what it complains of tells whether it knows them. Needs the tools tree (`CCINIT_TOOLS`).
"""

import os
import re
from pathlib import Path

import pytest

from ccinit.errors import ChildError, ConfigError
from host_runtime.commands.tee_options import require_emulator
from host_runtime.machine.tee import IdentityBlock, SnpGuest, TdxGuest, plan_tee_object
from host_runtime.programs import process
from host_runtime.programs.tools import Tools

TOOLS = Tools(tree=Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute())
IDENTITY = IdentityBlock(block=bytes(96), authentication=bytes(4096), has_author_key=True)
SNP_GUEST = SnpGuest(host_data=bytes(32), cpu_model="EPYC-Milan", identity=IDENTITY)
TDX_GUEST = TdxGuest(mrconfigid=bytes(48))
SNP = plan_tee_object(SNP_GUEST)
# Of every object of SEV, and not in QEMU's list because they belong to its instances.
UNLISTED = {"cbitpos", "reduced-phys-bits"}


def qemu(*arguments: str) -> str:
    """Return what QEMU prints or complains of."""
    command = (*TOOLS.command("qemu-system-x86_64"), *arguments)
    try:
        return process.run(command, environment=TOOLS.environment()).decode()
    except ChildError as error:
        return error.detail


def start_with(object_value: str) -> str:
    machine = (
        "-machine",
        "q35,confidential-guest-support=tee",
        "-accel",
        "tcg",
        "-display",
        "none",
    )
    return qemu("-nodefaults", "-S", *machine, "-object", object_value)


def test_every_property_of_snp_is_in_qemus_list() -> None:
    listed = re.findall(r"^  ([a-z-]+)=<", qemu("-object", "sev-snp-guest,help"), re.MULTILINE)
    used = {word.partition("=")[0] for word in SNP.split(",")[1:]} - {"id"}
    assert used - UNLISTED <= set(listed)
    assert "kernel-hashes" in listed


def test_object_of_snp_is_read_to_the_end() -> None:
    assert "KVM required" in start_with(SNP)


@pytest.mark.parametrize("property_name", ["cbitpos", "host-data", "kernel-hashes", "policy"])
def test_a_property_that_qemu_does_not_know_is_named(property_name: str) -> None:
    complaint = start_with(SNP.replace(f"{property_name}=", f"x{property_name}="))
    assert "KVM required" not in complaint
    assert property_name in complaint


@pytest.mark.parametrize("model", ["EPYC-Milan", "EPYC-Genoa", "EPYC-v4"])
def test_processor_models_are_qemus(model: str) -> None:
    assert re.search(rf"^  {model} ", qemu("-cpu", "help"), re.MULTILINE)


def test_a_qemu_without_tdx_is_refused_before_it_is_started() -> None:
    assert "tdx-guest" in start_with(plan_tee_object(TDX_GUEST))  # it complains of the type
    with pytest.raises(ConfigError) as error:
        require_emulator(TDX_GUEST, TOOLS)
    assert error.value.reason == "tee.emulator"
    require_emulator(SNP_GUEST, TOOLS)
