"""What a registry's refusal says: its status, and the codes in its body.

distribution-spec v1.1, "Error Codes": a body may be `{"errors": [{"code", …}]}`, or anything else.
Only the codes are told; the texts beside them are a stranger's, of any length.
"""

from collections.abc import Mapping
from typing import Final

from ccinit.errors import FormatError, PeerError
from ccinit.formats.encoding.alphabet import UPPERCASE
from ccinit.formats.encoding.strict_json import JsonValue, parse_json
from ccinit.net.http import HttpReply

_MAX_BODY_BYTES: Final = 64 * 1024
_MAX_CODES: Final = 4
_MAX_CODE_BYTES: Final = 32
_CODE: Final = frozenset(UPPERCASE + "_")


def describe_status(reply: HttpReply) -> str:
    """Return `status 400 (NAME_INVALID)`, or only the status if there is no code."""
    codes = _read_codes(reply.body)
    return f"status {reply.status}" + (f" ({', '.join(codes)})" if codes else "")


def refusal(reply: HttpReply, known: str, place: str) -> PeerError:
    """Return what a reply means that is no success, and that asking again does not change.

    Args:
        reply: whose body is read as far as it has codes.
        known: what the registry was shown; see `registry.unauthorized` in docs/operations.md.
        place: where it was asked.
    """
    said = describe_status(reply)
    match reply.status:
        case 401 | 403:
            return PeerError("registry.unauthorized", f"{place}: {said} to {known}")
        case 404:
            detail = f"{place}: the registry does not have it: {said}"
            return PeerError("registry.not_found", detail)
        case _:
            return PeerError("registry.status", f"{place}: {said}")


def _read_codes(body: bytes) -> tuple[str, ...]:
    try:
        value = parse_json(body, "registry.error", _MAX_BODY_BYTES)
    except FormatError:
        return ()
    errors = value.get("errors") if isinstance(value, Mapping) else None
    if not isinstance(errors, list):
        return ()
    return tuple(filter(_is_code, map(_code_of, errors[:_MAX_CODES])))


def _code_of(error: JsonValue) -> str:
    code = error.get("code") if isinstance(error, Mapping) else None
    return code if isinstance(code, str) else ""


def _is_code(text: str) -> bool:
    return 0 < len(text) <= _MAX_CODE_BYTES and _CODE.issuperset(text)
