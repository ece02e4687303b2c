"""Invariant: a policy, signature manifest, list of referrers, log entry, bundle or payload,
whatever its bytes, gives a value or a `CcinitError` of its own kind; and with anything of a signed
image changed, the job either refuses it with such an error, or what it accepts is the same image.

Run as `python -m tests.fuzz.fuzz_signatures [SECONDS [SEED]]`.
"""

import json
import random

from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.errors import CcinitError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.oci.artifact import parse_referrers, parse_signature_manifest
from ccinit.formats.oci.docker_reference import parse_docker_reference, parse_name_prefix
from ccinit.formats.signature.image_policy import parse_image_policy
from ccinit.formats.signature.in_toto import parse_statement
from ccinit.formats.signature.rekor import parse_body, parse_set
from ccinit.formats.signature.sigstore_bundle import parse_bundle
from ccinit.formats.signature.simple_signing import parse_simple_signing
from ccinit.pull.messages.fetch import (
    AttachedManifest,
    FoundSignatures,
    SignaturePolicy,
    SignatureRequest,
)
from ccinit.pull.signature.judge import signature_job
from tests.fakes.images import signatures as fake
from tests.fakes.images.registry import make_image
from tests.fuzz.mutation import mutate_json
from tests.fuzz.trials import Trials, run

IMAGE = make_image([b"tar"])
NAME = "registry.team.example:5000/team/app"
KEY = ec.generate_private_key(ec.SECP256R1())
LOG, FULCIO = fake.Log(), fake.Authority()
CERTIFICATE = FULCIO.issue(KEY)
PAYLOAD = fake.payload_of(IMAGE.digest, f"{NAME}:v1")
LAYER = fake.classic_layer(
    PAYLOAD,
    KEY,
    log=LOG,
    certificate=CERTIFICATE,
    chain=(FULCIO.intermediate, FULCIO.root),
)
CLASSIC = fake.classic(LAYER)
STATEMENT = fake.statement_of(IMAGE.digest, NAME)
BUNDLE = fake.envelope_bundle(STATEMENT, KEY, log=LOG, certificate=CERTIFICATE)
POLICY = json.dumps(
    {
        "default": [{"type": "reject"}],
        "transports": {
            "docker": {
                NAME: [
                    {
                        "type": "sigstoreSigned",
                        "fulcio": {
                            "caData": fake.b64(fake.pem(FULCIO.root).encode()),
                            "oidcIssuer": fake.ISSUER,
                            "subjectEmail": fake.SUBJECT,
                        },
                        "rekorPublicKeyData": fake.b64(fake.public_pem(LOG.key)),
                    }
                ]
            }
        },
    }
).encode()
ENTRY = LAYER[1]["dev.sigstore.cosign/bundle"].encode()
SEEDS = (
    POLICY,
    CLASSIC.manifest,
    fake.referrers(fake.bundle_artifact(IMAGE.manifest, BUNDLE)),
    ENTRY,
    fake.hashedrekord(PAYLOAD, b"signature", fake.public_pem(KEY)),
    fake.dsse_entry(PAYLOAD, b"signature", fake.public_pem(KEY)),
    BUNDLE,
    STATEMENT,
    PAYLOAD,
    f"{NAME}:v1@{IMAGE.digest}".encode(),
)
READERS = (
    parse_image_policy,
    parse_signature_manifest,
    parse_referrers,
    parse_set,
    parse_body,
    parse_bundle,
    parse_statement,
    parse_simple_signing,
)


def check(data: bytes) -> None:
    """Check the first half of the invariant."""
    for read in READERS:
        try:
            read(data)
        except CcinitError:
            continue
    text = data.decode("utf-8", "replace")
    try:
        parsed = parse_docker_reference(text, "fuzz")
        assert parse_docker_reference(parsed.text, "fuzz") == parsed
        assert parse_name_prefix(parsed.name, "fuzz") == parsed.name
    except CcinitError:
        return


def judge(policy: bytes, manifest: bytes, blob: bytes) -> bool:
    """Check the second half; return whether the image was accepted."""
    reference = f"{NAME}@{IMAGE.digest}"
    found = FoundSignatures(
        documents=(IMAGE.manifest,),
        manifests=(AttachedManifest(manifest=manifest, blobs=(blob,)),),
    )
    request = SignatureRequest(
        reference=reference, policy=SignaturePolicy(document=policy, keys=()), found=found
    )
    try:
        accepted = signature_job(request, None)
    except CcinitError:
        return False
    assert accepted.documents == (parse_digest(IMAGE.digest),)
    return True


def mutate(source: random.Random, seed: bytes) -> bytes:
    """Flip, cut, or change by value."""
    if source.random() < 0.4:
        return mutate_json(source, seed, (b"{}", b"[]", b"null"))
    data = bytearray(seed)
    spot = source.randrange(len(data))
    if source.random() < 0.2:
        del data[spot:]
    else:
        data[spot] ^= 1 << source.randrange(8)
    return bytes(data)


def main(seconds: float, seed: int) -> int:
    """Check changed texts for a while; return how many."""
    assert judge(POLICY, CLASSIC.manifest, PAYLOAD)
    trials = Trials(seconds, seed)
    for source in trials:
        check(mutate(source, source.choice(SEEDS)))
        changed = mutate(source, CLASSIC.manifest)
        judge(POLICY, changed, PAYLOAD)
        assert not judge(POLICY, CLASSIC.manifest, PAYLOAD + b" ")
    return trials.count


if __name__ == "__main__":
    run(main)
