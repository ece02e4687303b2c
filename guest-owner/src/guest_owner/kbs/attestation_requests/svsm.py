"""Requests to a vTPM that an SVSM runs: credentials for the keys that a guest names.

That the guest names keys proves nothing: the credential counts only with evidence that the
endorsement key is an SVSM's (`guest_owner.kbs.verifiers.svsm`). So the names of both keys travel
with the sealed secret.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.svsm import (
    NONCE_BYTES,
    PARAMETER,
    SvsmKeys,
    SvsmRequest,
    encode_svsm_request,
    parse_svsm_keys,
)
from ccinit.formats.kbs.rcar import Nonce
from ccinit.formats.tcg.tpm2_keys import (
    AK_TEMPLATE,
    EK_TEMPLATE,
    SECRET_BYTES,
    parse_made_key,
)
from guest_owner.kbs.attestation_requests.credential import make_credential
from guest_owner.kbs.attestation_requests.sealing import seal, unseal
from guest_owner.kbs.references.values import References

_LABEL = b"ccinit/svsm/v1"
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class CredentialSecrets:
    """What only the maker of a request knows.

    Attributes:
        content: of the credential.
        ek, ak: SHA-256 of the TPMT_PUBLIC of each key that the credential is for.
    """

    content: bytes
    ek: bytes
    ak: bytes


def make_svsm_request(keys: SvsmKeys, sealing_key: bytes) -> SvsmRequest:
    """Make a credential for the keys that a guest names.

    Raises:
        FormatError: `svsm.ek`, `svsm.ak`, one of another template; `tpm2.…`.
    """
    ek = parse_made_key(keys.ek, EK_TEMPLATE, "svsm.ek")
    ak = parse_made_key(keys.ak, AK_TEMPLATE, "svsm.ak")
    content = os.urandom(SECRET_BYTES)
    credential = make_credential(ek, ak.name, content)
    names = b"".join(hashlib.sha256(key).digest() for key in (keys.ek, keys.ak))
    return SvsmRequest(
        nonce=os.urandom(NONCE_BYTES),
        blob=credential.blob,
        secret=credential.secret,
        sealed=seal(sealing_key, _LABEL, content + names),
    )


def open_svsm_secrets(sealing_key: bytes | None, sealed: bytes) -> CredentialSecrets:
    """Return the secrets of a request that was made under this key.

    Raises:
        VerificationError: `svsm.request`, it was not.
    """
    size = SECRET_BYTES + 2 * _HASH_BYTES
    opened = unseal(sealing_key, _LABEL, sealed, size, "svsm.request")
    content, names = opened[:SECRET_BYTES], opened[SECRET_BYTES:]
    return CredentialSecrets(content, names[:_HASH_BYTES], names[_HASH_BYTES:])


def make_svsm_nonce(references: References, parameters: JsonValue) -> Nonce:
    """Return the nonce of a handshake: a credential for the keys in the request's parameters.

    Raises:
        VerificationError: `svsm.root`, no vendor is registered for the platform.
        FormatError: `svsm_keys.…`, `svsm.ek`, `svsm.ak`, `tpm2.…`.
    """
    if references.request_key is None:
        raise VerificationError("svsm.root", "no vendor's certificates are registered")
    named = parameters.get(PARAMETER) if isinstance(parameters, Mapping) else None
    if named is None:
        raise FormatError("svsm_keys.members", "the request names no keys")
    request = make_svsm_request(parse_svsm_keys(named), references.request_key)
    return Nonce(encode_svsm_request(request).decode())
