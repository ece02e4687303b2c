import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from ccinit.errors import ConfigError
from host_runtime.machine.tee import IdentityBlock, SnpGuest, TdxGuest, plan_tee_object

SNP = SnpGuest(host_data=bytes(range(32)), cpu_model="EPYC-Milan")
HOST_DATA = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
IDENTITY = IdentityBlock(block=b"b" * 96, authentication=b"a" * 4096)


def test_plan_snp_object_is_unchanged() -> None:
    assert plan_tee_object(SNP) == (
        "sev-snp-guest,id=tee,cbitpos=51,reduced-phys-bits=1,policy=0x30000,kernel-hashes=on,"
        f"host-data={HOST_DATA}"
    )


def test_plan_snp_object_with_identity_block() -> None:
    block = base64.b64encode(b"b" * 96).decode()
    authentication = base64.b64encode(b"a" * 4096).decode()
    suffix = f",id-block={block},id-auth={authentication},author-key-enabled="
    guest = replace(SNP, identity=IDENTITY)
    assert plan_tee_object(guest) == f"{plan_tee_object(SNP)}{suffix}off"
    author = replace(SNP, identity=replace(IDENTITY, has_author_key=True))
    assert plan_tee_object(author) == f"{plan_tee_object(SNP)}{suffix}on"


def test_plan_snp_object_has_the_hosts_numbers_and_the_policy() -> None:
    guest = replace(SNP, policy=0xB0000 & ~(1 << 19), encryption_bit=47, lost_address_bits=5)
    assert "cbitpos=47,reduced-phys-bits=5,policy=0x30000," in plan_tee_object(guest)


def test_plan_tdx_object_is_unchanged() -> None:
    text = plan_tee_object(TdxGuest(mrconfigid=bytes(48)))
    assert json.loads(text) == {
        "qom-type": "tdx-guest",
        "id": "tee",
        "mrconfigid": "A" * 64,
        "quote-generation-socket": {"type": "vsock", "cid": "2", "port": "4050"},
    }
    assert " " not in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"host_data": bytes(31)}, "tee.host_data"),
        ({"host_data": bytes(48)}, "tee.host_data"),
        ({"policy": 0x10000}, "tee.policy"),
        ({"policy": 0xB0000}, "tee.policy"),
        ({"policy": 0x70000}, "tee.policy"),
        ({"policy": 1 << 64 | 0x30000}, "tee.policy"),
    ],
)
def test_snp_guest_refuses(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        replace(SNP, **changes)
    assert error.value.reason == reason


@pytest.mark.parametrize("changes", [{"block": b"b" * 95}, {"authentication": b"a" * 4097}])
def test_identity_block_of_another_size_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        replace(IDENTITY, **changes)
    assert error.value.reason == "tee.identity"


def test_tdx_guest_refuses_another_algorithms_digest() -> None:
    with pytest.raises(ConfigError) as error:
        TdxGuest(mrconfigid=bytes(32))
    assert error.value.reason == "tee.mrconfigid"
