"""Make the chain anew: `python -m tests.vectors.snp_sim.make_chain`; see the README beside."""

import base64
import hashlib
import textwrap
from pathlib import Path

from ccinit.attest.simulated.snp import CHIP_ID
from tests.fakes.platforms.snp import Chain, der_of


def main() -> None:
    """Write the certificates, and print what belongs into the module."""
    assert hashlib.sha512(b"ccinit simulated processor").digest() == CHIP_ID
    chain = Chain(hwid=CHIP_ID)
    Path(__file__).with_name("ask_ark.pem").write_bytes(chain.pem)
    secret = chain.leaf_key.private_numbers().private_value
    print(f"_KEY = {secret:#098x}")
    for line in textwrap.wrap(base64.b64encode(der_of(chain.leaf)).decode(), 96):
        print(line)


if __name__ == "__main__":
    main()
