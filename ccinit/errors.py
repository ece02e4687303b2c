"""The exception tree: one root, and one family for each party that can be at fault.

    CcinitError
    ├── FormatError             bytes are malformed, whoever sent them
    │   └── LimitExceededError  well-formed so far, but larger than its cap
    ├── VerificationError       well-formed, but not trusted (digest, signature, name, policy)
    ├── PeerError               a peer (KBS, registry, host) broke its protocol or said no
    ├── ConfigError             the measured configuration cannot be honoured
    ├── ChildError              a child process of ours ended without a result
    ├── DeadlineError           no result in time
    └── KernelError             the kernel said no (also an OSError: carries errno)

Every error has a *reason*, a stable dotted name (`config.digest`, `pull.blob_digest`) that the
guest's owner can search for and test against, and a *detail* for people. Only the owner sees them,
in the sealed log and on the owner plane; the host gets a number from
`ccinit.formats.planes.host_rpc.Code`. Neither may hold a secret.

Calling things in the wrong order is `RuntimeError`: a bug, not an input.
"""

from errno import errorcode


class CcinitError(Exception):
    """Root of all errors that inputs, peers or the kernel can cause."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class FormatError(CcinitError):
    """Untrusted bytes do not have the form that their specification gives."""


class LimitExceededError(FormatError):
    """Untrusted input is larger, deeper or longer than its cap."""


class VerificationError(CcinitError):
    """A well-formed value is not the one that a digest, key, name or policy asks for."""


class PeerError(CcinitError):
    """A peer broke its protocol, refused, or could not be reached."""


class ConfigError(CcinitError):
    """The measured configuration contradicts itself or what the guest has."""


class ChildError(CcinitError):
    """A child process ended without delivering its result."""


class DeadlineError(CcinitError):
    """An operation did not end before its deadline."""


class KernelError(CcinitError, OSError):
    """The kernel refused a call.

    Attributes:
        errno: the kernel's error number.
    """

    def __init__(self, errno: int, operation: str, target: str) -> None:
        CcinitError.__init__(self, f"kernel.{operation}", f"{target}: {errno_text(errno)}")
        self.errno = errno


def errno_text(number: int | None) -> str:
    """Return an error number with its name, as people look it up: `errno 111 (ECONNREFUSED)`."""
    name = errorcode.get(number or 0)
    return f"errno {number}" if name is None else f"errno {number} ({name})"


def as_known(error: BaseException) -> CcinitError:
    """Return `error` if it is of this tree, else one that names the error's class and origin."""
    if isinstance(error, CcinitError):
        return error
    if isinstance(error, OSError):
        return KernelError(error.errno or 0, "call", describe_stray(error))
    return ChildError("internal", describe_stray(error))


def describe_stray(error: BaseException) -> str:
    """Name an error's class, our innermost line and, if that is another, the innermost of all.

    A stray exception's message may contain anything, even a secret; these cannot.
    """
    ours = last = "?"
    trace = error.__traceback__
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        last = f"{path.rpartition('/')[2]}:{trace.tb_lineno}"
        if "/ccinit/" in path:
            ours = last
        trace = trace.tb_next
    where = last if last == ours else f"{ours} in {last}"
    return f"{type(error).__name__} at {where}"
