"""Every fuzzer: a second from a fixed seed in each run, a minute from a new one in the long run."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import (
    fuzz_azure,
    fuzz_compression,
    fuzz_debug_grant,
    fuzz_difference,
    fuzz_event_log,
    fuzz_firmware,
    fuzz_guest_files,
    fuzz_host_view,
    fuzz_http,
    fuzz_jwe,
    fuzz_kbs_admin,
    fuzz_kbs_replies,
    fuzz_kubernetes,
    fuzz_launch,
    fuzz_layer_encryption,
    fuzz_luks2,
    fuzz_oci,
    fuzz_owner_wire,
    fuzz_passports,
    fuzz_pe,
    fuzz_rcar,
    fuzz_se,
    fuzz_sealed_log,
    fuzz_signatures,
    fuzz_snp,
    fuzz_snp_verifier,
    fuzz_svsm,
    fuzz_tar,
    fuzz_tdx,
    fuzz_tdx_verifier,
    fuzz_tpm2,
    fuzz_vsock_device,
    fuzz_workload_api,
)

FUZZERS = (
    fuzz_azure,
    fuzz_compression,
    fuzz_debug_grant,
    fuzz_difference,
    fuzz_event_log,
    fuzz_firmware,
    fuzz_guest_files,
    fuzz_host_view,
    fuzz_http,
    fuzz_jwe,
    fuzz_kbs_admin,
    fuzz_kbs_replies,
    fuzz_kubernetes,
    fuzz_launch,
    fuzz_layer_encryption,
    fuzz_luks2,
    fuzz_oci,
    fuzz_owner_wire,
    fuzz_passports,
    fuzz_pe,
    fuzz_rcar,
    fuzz_se,
    fuzz_sealed_log,
    fuzz_signatures,
    fuzz_snp,
    fuzz_snp_verifier,
    fuzz_svsm,
    fuzz_tar,
    fuzz_tdx,
    fuzz_tdx_verifier,
    fuzz_tpm2,
    fuzz_vsock_device,
    fuzz_workload_api,
)
each_fuzzer = pytest.mark.parametrize(
    "fuzz",
    [module.main for module in FUZZERS],
    ids=[module.__name__.rpartition("fuzz_")[2] for module in FUZZERS],
)


def test_every_fuzzer_is_in_the_list_and_states_its_invariant() -> None:
    files = {path.stem for path in Path(__file__).parent.glob("fuzz_*.py")}
    assert {module.__name__.rpartition(".")[2] for module in FUZZERS} == files
    for module in FUZZERS:
        assert (module.__doc__ or "").startswith("Invariant")


@each_fuzzer
def test_fuzzer_finds_nothing_from_a_fixed_seed(fuzz: Callable[[float, int], int]) -> None:
    # A finding raises; the number is how much was tried.
    assert fuzz(1, 7) > 0


@pytest.mark.long
@each_fuzzer
def test_fuzzer_finds_nothing_in_a_minute(fuzz: Callable[[float, int], int]) -> None:
    seed = secrets.randbelow(1 << 32)
    print(f"seed {seed}")
    assert fuzz(60, seed) > 0
