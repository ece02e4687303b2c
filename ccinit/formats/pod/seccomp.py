"""`[container.seccomp]` of `pod.toml`: how a container's filter differs from the default.

The table states only what it changes of the default profile. An unknown name is refused, since crun
would skip it silently: a call that was meant to be denied would pass.
"""

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.pod.system_calls import FILTERED, FORBIDDEN, KNOWN
from ccinit.values import frozen

_MAX_CALLS = 512
_MAX_CALL_BYTES = 32


@frozen
class Seccomp:
    """Names of system calls, each at most once and in only one of the two.

    Attributes:
        allow: pass, although the default profile refuses them.
        deny: fail with EPERM, although the default profile lets them pass.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


def read_seccomp(fields: Fields) -> Seccomp:
    """Read one table.

    Raises:
        FormatError: `pod.container.seccomp.allow`, `pod.container.seccomp.deny`.
    """
    allow, deny = _read_names(fields, "allow"), _read_names(fields, "deny")
    for name in allow:
        reason = why_forbidden(name)
        if reason:
            raise _refusal("allow", f"no container gets {name}: {reason}")
        if name in deny:
            raise _refusal("deny", f"{name} is allowed, too")
    known = KNOWN.split()
    for key, names in (("allow", allow), ("deny", deny)):
        for name in names:
            if name not in known:
                raise _refusal(key, f"{name!r} is not a system call of x86-64 that is known here")
    return Seccomp(allow=allow, deny=deny)


def why_forbidden(name: str) -> str:
    """Return why no manifest can allow a system call; empty if one can."""
    for reason, names in (*FORBIDDEN, *FILTERED):
        if name in names.split():
            return reason
    return ""


def _read_names(fields: Fields, key: str) -> tuple[str, ...]:
    names = fields.texts(key, max_items=_MAX_CALLS, max_bytes=_MAX_CALL_BYTES)
    if len(set(names)) != len(names):
        raise _refusal(key, "a name appears twice")
    return names


def _refusal(key: str, detail: str) -> FormatError:
    return FormatError(f"pod.container.seccomp.{key}", detail)
