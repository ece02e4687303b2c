"""Invariant: what `guest-owner manifest check` accepts, `initdata make` makes into a document that
the guest's CONFIG takes and whose keys and certificates its later phases can use; and what it
refuses, one of these refuses, too, with a reason that it has told.

Run as `python -m tests.fuzz.fuzz_both_judges [SECONDS [SEED]]`.
"""

import base64
import random
import ssl
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ccinit.agent.processes.channel import Kind, encode_frame
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.boot.configuration import Configuration, parse_configuration
from ccinit.errors import CcinitError
from ccinit.formats.encoding import wire
from ccinit.formats.encoding.strict_toml import parse_toml
from ccinit.formats.initdata.guest_config import parse_guest_config
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.formats.oci.registries import plan_sources, select_rule
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.formats.sealed_log import BOOT_ID_BYTES, BootId
from ccinit.net.tls import pinned_context, present_certificate
from ccinit.seal.stream import open_stream
from guest_owner.commands.initdata import make_document
from guest_owner.manifest.refusals import find_refusals
from tests.fakes.documents.guest import CONFIG, FULL_POD, LOG_KEY
from tests.fuzz.fuzz_measured_pod import change, list_spots, to_document
from tests.fuzz.trials import Trials, run

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

_BEGIN = "-----BEGIN CERTIFICATE-----"
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fuzzed")])


def certify(key: Key, *, is_authority: bool, days: int = 1) -> str:
    """Return a certificate that the key has made for itself, PEM; an old one ended a day ago."""
    start = datetime.now(UTC) - timedelta(days=2)
    made = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=2 + days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode()


def key_text(key: Key) -> str:
    """Return a private key, PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


KEYS: tuple[Key, ...] = (
    ec.generate_private_key(ec.SECP256R1()),
    ed25519.Ed25519PrivateKey.generate(),
    rsa.generate_private_key(65537, 1024),  # noqa: S505  # what the guest's TLS refuses
)
ROOTS = tuple(certify(key, is_authority=True) for key in KEYS)
LEAVES = tuple(certify(key, is_authority=False) for key in KEYS)
KEY_OF = {text: key_text(key) for text, key in zip((*ROOTS, *LEAVES), KEYS * 2, strict=True)}
OLD = certify(KEYS[0], is_authority=True, days=-1)
PEMS = (
    *(*ROOTS, *LEAVES, OLD, OLD + ROOTS[0], ROOTS[0] + OLD, ROOTS[0] + LEAVES[0]),
    *(f"a root:\n{ROOTS[0]}", f"\u00e9\n{ROOTS[0]}", ROOTS[0].replace("\n", "\r\n")),
    *(ROOTS[0].replace("MII", "MIJ"), ROOTS[0].strip(), ROOTS[0][:-20], _BEGIN),
    *(KEY_OF[ROOTS[0]], ROOTS[0].replace("CERTIFICATE", "TRUSTED CERTIFICATE"), ROOTS[0] + _BEGIN),
)
LOG_KEYS = (
    *(LOG_KEY, bytes(1216), b"\xff" * 1216, LOG_KEY[:-1], LOG_KEY + b"x"),
    *(bytes(1184) + bytes((point,)) + bytes(31) for point in (0, 1, 2)),
)
REGISTRY = f"""
[[registry]]
prefix = "certified.example"
ca = '''
{ROOTS[0]}'''
certificate = '''
{ROOTS[0]}'''
key = "kbs:///ccinit/demo/client-key"
"""


def exchange(source: random.Random, table: dict[str, Any]) -> None:
    """Put another certificate in the place of one, or another log key."""
    spots = [
        (holder, key)
        for holder, key in list_spots(table)
        if isinstance(holder[key], str) and (_BEGIN in holder[key] or key == "public_key")
    ]
    if spots:
        holder, key = source.choice(spots)
        is_key = key == "public_key"
        holder[key] = (
            base64.b64encode(source.choice(LOG_KEYS)).decode() if is_key else source.choice(PEMS)
        )


def owner_refuses(config_toml: str, pod_toml: str) -> set[str]:
    """Return the reasons that `manifest check` tells."""
    reasons, texts = set(), ((parse_pod_manifest, pod_toml), (parse_guest_config, config_toml))
    for parse, text in texts:
        try:
            parse(text)
        except CcinitError as error:
            reasons.add(error.reason)
    if reasons:
        return reasons
    found = find_refusals(parse_pod_manifest(pod_toml), parse_guest_config(config_toml))
    return {reason for reason, _detail in found}


def guest_refuses(config_toml: str, pod_toml: str) -> set[str]:
    """Return the reasons of CONFIG, or else of the phases that use keys and certificates."""
    try:
        document = make_document(config_toml, pod_toml)
        taken = parse_configuration(document)
    except CcinitError as error:
        return {error.reason}
    frame = encode_frame(Kind.RESULT, taken)
    assert len(frame) <= RIGHTS[Role.CONFIG].reply_bytes
    assert wire.decode(Configuration, wire.encode(taken)) == taken
    return set(find_later(taken))


def find_later(taken: Configuration) -> Iterator[str]:
    config, pod = taken.config, taken.manifest
    roots = [config.kbs.ca_pem]
    for image in pod.images:
        reference = parse_image_reference(image.reference)
        sources = plan_sources(select_rule(pod.registries, reference), reference, image.ca_pem)
        roots += [source.access.ca_pem for source in sources]
        roots.append(image.ca_pem)
    accesses = [one.access for rule in pod.registries for one in (rule.location, *rule.mirrors)]
    roots += [access.ca_pem for access in accesses if access.ca_pem]
    if config.owner is not None:
        roots.append(config.owner.client_ca_pem)
    for pem in roots:
        try:
            context = pinned_context(pem, check_time=True)
        except CcinitError as error:
            yield error.reason
        else:
            yield from _judge_dates(context)
    for access in accesses:
        if access.certificate_pem:
            yield from _judge_client(access.certificate_pem)
    try:
        open_stream(config.log.public_key, BootId(bytes(BOOT_ID_BYTES)))
    except CcinitError as error:
        yield error.reason


def _judge_dates(context: ssl.SSLContext) -> Iterator[str]:
    """Stand for the handshake, in which the guest's TLS compares a root's dates with its clock."""
    now = datetime.now(UTC).timestamp()
    ends = [ssl.cert_time_to_seconds(str(root["notAfter"])) for root in context.get_ca_certs()]
    if max(ends) < now:
        yield "net.certificate_time"


def _judge_client(pem: str) -> Iterator[str]:
    """Have the guest present the certificate with the key that its owner would have registered."""
    key = next((key for text, key in KEY_OF.items() if text.strip() in pem), key_text(KEYS[0]))
    try:
        present_certificate(
            pinned_context(ROOTS[0], check_time=True),
            f"{pem}\n{key}".encode(),
            "net.client_certificate",
        )
    except CcinitError as error:
        yield error.reason


def main(seconds: float, seed: int) -> int:
    """Check changes for a while; return how many."""
    trials, accepted = Trials(seconds, seed), 0
    texts = f"{CONFIG}\n[owner]\nclient_ca = '{_BEGIN}'\n", f"{FULL_POD}{REGISTRY}"
    whole = [parse_toml(text.encode(), "toml") for text in texts]
    for table in whole:
        for holder, key in list_spots(table):
            if isinstance(holder[key], str) and _BEGIN in holder[key]:
                holder[key] = ROOTS[0]
    for source in trials:
        config, pod = deepcopy(whole)
        for _ in range(source.randrange(3)):
            chosen = source.choice((config, pod))
            source.choice((change, exchange, exchange))(source, chosen)
        both = to_document(config), to_document(pod)
        told, met = owner_refuses(*both), guest_refuses(*both)
        accepted += not told
        assert told & met or not told | met, (told, met, *both)
    trials.require(accepted, one_in=20)
    return trials.count


if __name__ == "__main__":
    run(main)
