"""Binding the initdata digest: one extend from zero or one launch field, and each refusal."""

import hashlib

import pytest

from ccinit.errors import VerificationError
from ccinit.measure.initdata import bind_initdata, compare_initdata
from ccinit.measure.register import Pcr
from ccinit.measure.tpm_pcr import TpmPcr
from tests.fakes.platforms.tpm_device import SimulatedDevice, SimulatedTpm
from tests.fakes.platforms.tpm_quote import FakeTpm, rsa_key

DIGEST = hashlib.sha256(b"document").digest()
BOUND = hashlib.sha256(bytes(32) + DIGEST).digest()


class Register:
    """A register that may forget, or extend with something else."""

    def __init__(self, value: bytes = bytes(32), *, forgets: bool = False) -> None:
        self.value = value
        self.extends = 0
        self._forgets = forgets

    def extend(self, digest: bytes) -> None:
        self.extends += 1
        if not self._forgets:
            self.value = hashlib.sha256(self.value + digest).digest()

    def read(self) -> bytes:
        return self.value


def refused_reason(register: Register, digest: bytes) -> str:
    with pytest.raises(VerificationError) as refused:
        bind_initdata(register, digest)
    return refused.value.reason


def test_register_holds_one_extend_from_zero() -> None:
    register = Register()
    bind_initdata(register, DIGEST)
    assert (register.extends, register.value) == (1, BOUND)


def test_tpm_register_8_is_bound_and_no_other() -> None:
    tpm = SimulatedTpm(tpm=FakeTpm(key=rsa_key(0)))
    bind_initdata(TpmPcr(SimulatedDevice(tpm), Pcr.INITDATA), DIGEST)
    assert [pcr for pcr in range(24) if tpm.tpm.pcrs[pcr] != bytes(32)] == [8]
    assert tpm.tpm.pcrs[8] == BOUND


@pytest.mark.parametrize("length", [0, 20, 31, 33, 48])
def test_digest_of_another_length_is_refused_untouched(length: int) -> None:
    register = Register()
    assert refused_reason(register, bytes(length)) == "config.digest"
    assert register.extends == 0


def test_register_that_was_extended_before_is_refused_untouched() -> None:
    register = Register()
    bind_initdata(register, DIGEST)
    assert refused_reason(register, DIGEST) == "config.register_used"
    assert register.extends == 1


def test_register_that_does_not_read_back_is_refused() -> None:
    assert refused_reason(Register(forgets=True), DIGEST) == "config.mismatch"


@pytest.mark.parametrize(
    ("digest", "field"),
    [
        pytest.param(DIGEST, DIGEST, id="HOSTDATA"),
        pytest.param(DIGEST + bytes(16), DIGEST + bytes(16), id="MRCONFIGID"),
        pytest.param(DIGEST + b"x" * 16, DIGEST + b"x" * 16 + bytes(16), id="personalization"),
    ],
)
def test_launch_field_that_holds_the_digest_passes(digest: bytes, field: bytes) -> None:
    compare_initdata(field, digest, len(field))


@pytest.mark.parametrize(
    ("field", "digest", "reason"),
    [
        pytest.param(bytes(32), DIGEST, "config.unbound", id="nobody set it"),
        pytest.param(bytes(32), bytes(32), "config.unbound", id="zeros equal zeros"),
        pytest.param(DIGEST[:-1] + b"\0", DIGEST, "config.mismatch", id="one byte"),
        pytest.param(DIGEST[::-1], DIGEST, "config.mismatch", id="reversed"),
        pytest.param(DIGEST + bytes(16), DIGEST, "config.digest", id="long field"),
        pytest.param(DIGEST[:31], DIGEST, "config.digest", id="short field"),
        pytest.param(DIGEST, DIGEST + bytes(16), "config.digest", id="long digest"),
        pytest.param(DIGEST, DIGEST[:31], "config.digest", id="short digest"),
    ],
)
def test_r04_r05_launch_field_that_does_not_hold_the_digest_is_refused(
    field: bytes, digest: bytes, reason: str
) -> None:
    with pytest.raises(VerificationError) as refused:
        compare_initdata(field, digest, 32)
    assert refused.value.reason == reason
