"""Make the chain anew: `python -m tests.vectors.tdx_sim.make_chain`; see the README beside."""

import base64
import textwrap
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from tests.fakes.platforms.tdx_quote import FakePck, FakeTdx, p256_key

ATTESTATION_KEY = "simulated attestation key"


def main() -> None:
    """Write the root, and print what belongs into the module."""
    pck = FakePck(root="simulated root", days=7300)
    domain = FakeTdx(pck=pck, attestation_key=ATTESTATION_KEY)
    root = pck.root_certificate.public_bytes(Encoding.PEM)
    Path(__file__).with_name("root.pem").write_bytes(root)
    print(f"_KEY = {p256_key(ATTESTATION_KEY).private_numbers().private_value:#066x}")
    text = base64.urlsafe_b64encode(domain.certification()).decode()
    for line in textwrap.wrap(text, 94, break_on_hyphens=False):
        print(f'    "{line}"')


if __name__ == "__main__":
    main()
