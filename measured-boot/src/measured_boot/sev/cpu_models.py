"""Processor models of QEMU, by the signature that a launch under SEV-ES and SEV-SNP measures.

A processor begins with its CPUID signature in RDX, which is why the digest of one image differs
between models. Only models with a fixed signature are here: `host` and `max` have none.

Specification: AMD CPUID Specification 25481, function 0000_0001 EAX; QEMU, `target/i386/cpu.c`
(`builtin_x86_defs`).
"""

from typing import Final, NewType

from ccinit.errors import ConfigError

CpuSignature = NewType("CpuSignature", int)
"""Family, model and stepping as CPUID packs them."""


def pack_signature(family: int, model: int, stepping: int) -> CpuSignature:
    """Return the signature of a processor; AMD's families all use the extended fields."""
    return CpuSignature(
        (family - 0xF) << 20 | (model >> 4) << 16 | 0xF << 8 | (model & 0xF) << 4 | stepping
    )


_NAPLES: Final = pack_signature(23, 1, 2)
_ROME: Final = pack_signature(23, 49, 0)
_MILAN: Final = pack_signature(25, 1, 1)
_GENOA: Final = pack_signature(25, 17, 0)
_TURIN: Final = pack_signature(26, 0, 0)

CPU_MODELS: Final = {
    "EPYC": _NAPLES,
    "EPYC-v1": _NAPLES,
    "EPYC-v2": _NAPLES,
    "EPYC-v3": _NAPLES,
    "EPYC-v4": _NAPLES,
    "EPYC-v5": _NAPLES,
    "EPYC-IBPB": _NAPLES,
    "EPYC-Rome": _ROME,
    "EPYC-Rome-v1": _ROME,
    "EPYC-Rome-v2": _ROME,
    "EPYC-Rome-v3": _ROME,
    "EPYC-Rome-v4": _ROME,
    "EPYC-Rome-v5": _ROME,
    "EPYC-Milan": _MILAN,
    "EPYC-Milan-v1": _MILAN,
    "EPYC-Milan-v2": _MILAN,
    "EPYC-Milan-v3": _MILAN,
    "EPYC-Milan-v4": _MILAN,
    "EPYC-Genoa": _GENOA,
    "EPYC-Genoa-v1": _GENOA,
    "EPYC-Genoa-v2": _GENOA,
    "EPYC-Genoa-v3": _GENOA,
    "EPYC-Turin": _TURIN,
    "EPYC-Turin-v1": _TURIN,
    "EPYC-Turin-v2": _TURIN,
}


def find_signature(model: str) -> CpuSignature:
    """Return the signature of a model by QEMU's name for it.

    Raises:
        ConfigError: `cpu_model.unknown`: the signature is not known, so nothing is predicted.
    """
    signature = CPU_MODELS.get(model)
    if signature is None:
        known = ", ".join(CPU_MODELS)
        raise ConfigError("cpu_model.unknown", f"{model[:80]!r} is not known; known: {known}")
    return signature
