import pytest

from ccinit.errors import VerificationError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.oci.image import Descriptor
from ccinit.pull.blob import BlobVerifier, verify_blob

DATA = b"a blob"
EXPECTED = Descriptor(media_type="x/y", digest=sha256_digest(DATA), size=len(DATA))


def test_verifier_accepts_the_blob_in_any_pieces() -> None:
    verifier = BlobVerifier(EXPECTED)
    for byte in DATA:
        verifier.feed(bytes([byte]))
    assert verifier.missing_bytes == 0
    verifier.finish()


def test_verifier_refuses_a_longer_stream_before_it_ends() -> None:
    verifier = BlobVerifier(EXPECTED)
    verifier.feed(DATA)
    with pytest.raises(VerificationError) as refused:
        verifier.feed(b"x")
    assert refused.value.reason == "pull.blob_size"


@pytest.mark.parametrize(
    ("data", "reason"), [(DATA[:-1], "pull.blob_size"), (b"A blob", "pull.blob_digest")]
)
def test_verifier_refuses_another_blob_at_its_end(data: bytes, reason: str) -> None:
    verifier = BlobVerifier(EXPECTED)
    verifier.feed(data)
    with pytest.raises(VerificationError) as refused:
        verifier.finish()
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (DATA[:-1], "pull.blob_size"),
        (DATA + b"x", "pull.blob_size"),
        (b"A blob", "pull.blob_digest"),
    ],
)
def test_blob_in_memory_that_differs_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(VerificationError) as refused:
        verify_blob(data, EXPECTED)
    assert refused.value.reason == reason
    assert verify_blob(DATA, EXPECTED) == DATA
