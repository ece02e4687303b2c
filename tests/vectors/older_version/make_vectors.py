"""Make what a version leaves behind: its KBS's state, used by a guest, and its volumes' tables.

Run with the modules of that version (README.md). Keys in it are for tests only.
"""

import hashlib
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from ccinit.formats.kbs.rollback_counter import CounterAdvance, encode_counter_advance
from ccinit.secret import Secret
from ccinit.unlock.integrity import plan_disk_layout
from ccinit.unlock.profile import plan_aead_target
from ccinit.unlock.volume import JOURNAL_BYTES
from ccinit.unlock.volume_key import derive_encryption_key, derive_seal_key
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.state.store import Store
from tests.fakes.documents.guest import CONFIG, POD
from tests.integration.kbs import harness

VOLUME = """
[[volume]]
name = "data"
kind = "persistent"
size_bytes = 16777216
key = "kbs:///ccinit/shop/volume-key-data"
rollback = "kbs-counter"
"""
SNP = """version = 1
report_version = 3
[[product]]
name = "Milan"
bootloader = 4
tee = 0
snp = 24
microcode = 219
[policy]
allow = ["smt"]
"""
RELEASED = bytes(range(100, 164))
SIZES = tuple(mib << 20 for mib in (64, 100, 1024, 1 << 20))
NAMES = ("file-password", "volume-key-data", "log-psk", "by-call")


def main(root: Path, roots: Path) -> None:
    """Make the vectors in `root`, which is not there; `roots` are certificates of AMD's."""
    root.mkdir()
    state = harness.make_state(root)
    document = make_document(CONFIG, POD + VOLUME)
    harness.DOCUMENT = document  # what its guests are started with
    Store(state).add_initdata("shop", document)
    _register(root, state, roots)
    _visit(root, state)
    for name in ("ak.der", "secret", "reference.json", "key", "psk", "snp.toml", "changes.lock"):
        (root / name).unlink(missing_ok=True)
        (state / name).unlink(missing_ok=True)
    (root / "volumes.json").write_text(json.dumps(describe_volumes(), indent=2) + "\n")


def _register(root: Path, state: Path, roots: Path) -> None:
    def owner(*words: object) -> None:
        harness.run(*words, "--state", state)

    (root / "key").write_bytes(RELEASED)
    (root / "psk").write_bytes(bytes(range(32)))
    (root / "snp.toml").write_text(SNP)
    owner("client-ca", "init")
    owner("admin", "new-key", root / "admin.pem", "--name", "bob")
    for kind, name, file in (
        ("volume-key", "volume-key-data", "key"),
        ("log-psk", "log-psk", "psk"),
    ):
        uri = f"kbs:///ccinit/shop/{name}"
        owner("register", "resource", "--kind", kind, "--envelope", uri, root / file)
    owner("register", "tls-identity", "kbs:///ccinit/shop/tls-identity")
    owner("register", "rollback-counter", "shop", "data")
    owner("register", "root", "--platform", "snp", "--name", "amd", roots)
    owner("register", "requirements", "--platform", "snp", root / "snp.toml")
    owner("policy", "allow", "ccinit/bank/*", "--initdata", "bank", "--reference", "image-1")


def _visit(root: Path, state: Path) -> None:
    """A guest that gets what it asks for, one that is refused, and an administrator's call."""
    with harness.running_kbs(state) as kbs:
        guest = kbs.client()
        guest.auth()
        guest.attest()
        advance = encode_counter_advance(CounterAdvance(to=1, holder=bytes(16)))
        guest.http.post("/kbs/v0/rollback-counter/shop/data", content=advance)
        said = io.StringIO()
        with redirect_stdout(said):
            harness.run("admin", "token", root / "admin.pem")
        header = {"authorization": f"Bearer {said.getvalue().strip()}"}
        guest.http.post("/kbs/v0/resource/ccinit/shop/by-call", content=b"by call", headers=header)
        got = {}
        for name in NAMES:
            got[name] = hashlib.sha256(guest.open(guest.get(f"ccinit/shop/{name}"))).hexdigest()
        guest.get("ccinit/bank/pin")
        other = kbs.client()
        other.auth()
        other.attest(document="another")
    (root / "released.json").write_text(json.dumps(got, indent=2) + "\n")


def describe_volumes() -> dict[str, object]:
    """Return keys of a volume and, by its size, its superblock's digest and its tables."""
    tables = {}
    for size in SIZES:
        layout = plan_disk_layout(size, JOURNAL_BYTES)
        crypt = plan_aead_target(layout.provided_bytes, "/dev/INTEGRITY", ":96:logon:KEY")
        tables[str(size)] = [
            hashlib.sha256(layout.to_superblock()).hexdigest(),
            *(
                f"{target.length_sectors} {target.kind} {target.parameters}"
                for target in (layout.to_target("/dev/DISK"), crypt)
            ),
        ]
    return {
        "encryption": derive_encryption_key(Secret(RELEASED), "shop", "data").reveal().hex(),
        "seal": derive_seal_key(Secret(RELEASED), "shop", "data").reveal().hex(),
        "tables": tables,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
