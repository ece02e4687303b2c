"""Invariant: any text given as an administrator's token is the name of the key that signed it or a
`CcinitError`; any body given as an RVPS message is registrations or a `CcinitError`; any policy
file loses exactly the rule that is removed, or is refused. Nothing else is ever raised.

Run as `python -m tests.fuzz.fuzz_kbs_admin [SECONDS [SEED]]`.
"""

import base64
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import encode_base64url
from guest_owner.kbs.administration.token import AdminKey, sign_admin_token, verify_admin_token
from guest_owner.kbs.policy import parse_policy
from guest_owner.kbs.state.policy_text import remove_rule
from guest_owner.kbs.state.rvps import parse_rvps_message
from tests.fuzz.mutation import check_mutated
from tests.fuzz.trials import Trials, run

NOW = 1_790_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEYS = (AdminKey("alice", KEY.public_key()),)
TOKEN = sign_admin_token(KEY, now=NOW, life_seconds=600).encode()
REFERENCE = {
    "version": 1,
    "name": "image",
    "profile": "prod",
    "boot": "direct",
    "pcr": {"4": "11" * 32, "9": "22" * 32},
}
PAYLOAD = base64.b64encode(json.dumps({"ccinit_reference": [REFERENCE]}).encode()).decode()
MESSAGE = json.dumps({"version": "0.1.0", "type": "sample", "payload": PAYLOAD}).encode()
POLICY = b"""\
version = 1
# one
[[rule]]
resources = "a/b/*"
profile = "prod"
initdata = ["shop"]

[[rule]]  # two
resources = "c/d/*"
profile = "prod"
initdata = ["bank"]
"""
SEEDS = (TOKEN, MESSAGE, PAYLOAD.encode(), POLICY)
NOISE = (b"[[rule]]\n", b'"', b"'''", b".", b"=", b"{", b"]", b"\n#", b"\xff", b"\x00", b"1e9")


def check(data: bytes) -> None:
    """Check the three invariants, and the token's once more under a good signature."""
    text = data.decode("utf-8", errors="replace")
    _check_token(text, genuine=data == TOKEN)
    signed = f"{encode_base64url(data)}.{encode_base64url(data)}"
    signature = encode_base64url(KEY.sign(signed.encode()))
    _check_token(f"{signed}.{signature}", genuine=False)
    for body in (data, MESSAGE.replace(PAYLOAD.encode(), base64.b64encode(data))):
        try:
            parse_rvps_message(body)
        except CcinitError:
            continue
    _check_policy(text)


def _check_token(text: str, *, genuine: bool) -> None:
    try:
        name = verify_admin_token(text, KEYS, now=NOW)
    except CcinitError:
        assert not genuine
        return
    assert genuine
    assert name == "alice"


def _check_policy(text: str) -> None:
    try:
        before = parse_policy(text.encode()).rules
        after = parse_policy(remove_rule(text, 1).encode()).rules
    except CcinitError:
        return
    assert after == before[1:]


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    return check_mutated(check, SEEDS, NOISE, Trials(seconds, seed))


if __name__ == "__main__":
    run(main)
