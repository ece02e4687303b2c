"""Write the vectors of the sealed log: `stream.bin` and what a reader must find in it.

Everything but the HPKE message is a function of the fixed keys below, so the message is kept in
`header.hex` and the rest is made again; a test compares the result with the files, byte by byte.
`header_hpke_js.hex` has the same seed for the same boot, sealed by another implementation: the npm
packages @hpke/core 1.9.0 and @hpke/hybridkem-x-wing 0.7.0, which open `header.hex`, too.
The keys are for tests only.
"""

import json
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ccinit.formats.sealed_log import Kind, Record, SizeClass, parse_header
from ccinit.seal.stream import SealedStream
from ccinit.secret import Secret

FOLDER: Final = Path(__file__).parent
OWNER_SEED: Final = bytes(range(32))
STREAM_SEED: Final = bytes(range(32, 64))
SIGNING_SEED: Final = bytes(range(64, 96))
SHARED_KEY: Final = b"shared key of the vectors"


def make_stream(header_file: str = "header.hex") -> bytes:
    """Return a whole stream with every size class, a mix and three signatures."""
    header = parse_header(bytes.fromhex((FOLDER / header_file).read_text(encoding="ascii")))
    stream = SealedStream(
        header=header,
        seed=Secret(STREAM_SEED),
        signing_key=Ed25519PrivateKey.from_private_bytes(SIGNING_SEED),
    )
    small, medium, large = SizeClass
    parts = [
        stream.header,
        stream.evidence_records(b"evidence", boottime_us=1_000_000, dropped=0),
        stream.record(_record(Kind.CODE, "", b"\x07\x00"), small),
        stream.signature_record(boottime_us=1_100_000, dropped=1),
        stream.mix_record(Secret(SHARED_KEY), boottime_us=1_200_000, dropped=1),
        stream.record(_record(Kind.EVENT, "ccinit", "grüße\n".encode()), small),
        stream.record(_record(Kind.STDOUT, "web", b"a" * 4000, more=True), medium),
        stream.signature_record(boottime_us=1_300_000, dropped=1),
        stream.record(_record(Kind.STDOUT, "web", b"b" * 100), small),
        stream.record(_record(Kind.STDERR, "web", bytes(range(256)) * 250), large),
        stream.end_records(boottime_us=2_000_000, dropped=1),
    ]
    return b"".join(parts)


def _record(kind: Kind, source: str, data: bytes, *, more: bool = False) -> Record:
    return Record(boottime_us=1_050_000, kind=kind, source=source, dropped=1, data=data, more=more)


def describe() -> str:
    """Return the keys as JSON, for readers in other languages."""
    return json.dumps(
        {
            "owner_seed": OWNER_SEED.hex(),
            "stream_seed": STREAM_SEED.hex(),
            "signing_seed": SIGNING_SEED.hex(),
            "shared_key": SHARED_KEY.hex(),
            "entries": [
                {"index": 1, "kind": 6, "source": "", "bytes": 40},
                {"index": 2, "kind": 1, "source": "", "bytes": 2},
                {"index": 4, "kind": 8, "source": "", "bytes": 0},
                {"index": 5, "kind": 2, "source": "ccinit", "bytes": 8},
                {"index": 6, "kind": 3, "source": "web", "bytes": 4100},
                {"index": 9, "kind": 4, "source": "web", "bytes": 64000},
                {"index": 10, "kind": 11, "source": "", "bytes": 0},
            ],
            "records": 11,
        },
        indent=1,
    )


if __name__ == "__main__":
    (FOLDER / "stream.bin").write_bytes(make_stream())
    (FOLDER / "stream.json").write_text(describe() + "\n", encoding="ascii")
