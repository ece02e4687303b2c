"""Every limit of the KBS in one value: an unauthenticated peer can cost no more than this."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps in bytes, seconds and counts.

    Attributes:
        request_bytes: body of `auth`; a few hundred bytes in practice.
        attestation_bytes: body of `attest`; Trustee's default (2 MiB).
        admin_bytes: body of an administrator's call, read only after the token was verified.
        bodies_bytes: all bodies being read at a time; beyond it the largest is given up.
        head_bytes: request line and headers; a token of ours has about 6 KiB.
        head_seconds: of a TLS handshake; from a request's first byte to the end of its headers.
        body_seconds: from the end of the headers to the end of the body.
        reply_seconds: for a peer to take what it was sent.
        session_seconds: life of a session, from `auth` on; `attest` does not extend it.
        token_seconds: life of a token.
        sessions: open sessions; a random one that never attested makes room for a new one or,
            where these are at most half of all, the oldest one of the pod that has most.
        connections: open connections, TLS handshakes included; a new one pushes out another.
        audit_file_bytes: one file of the audit log; the next record begins a new one.
        audit_older_files: files kept beside the newest; the oldest is removed, with a record.
        pod_day_bytes: what the guests of one pod may add to these files in a day; what exceeds it
            goes into separate files of the same size.
        surplus_older_files: how many of those are kept beside the newest.
        stranger_file_bytes, stranger_older_files: the same for records that anybody can cause.
    """

    request_bytes: int = 64 * 1024
    attestation_bytes: int = 2 * 1024 * 1024
    admin_bytes: int = 2 * 1024 * 1024
    bodies_bytes: int = 64 * 1024 * 1024
    head_bytes: int = 64 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    reply_seconds: float = 20.0
    session_seconds: int = 300
    token_seconds: int = 300
    sessions: int = 4096
    connections: int = 256
    audit_file_bytes: int = 16 * 1024 * 1024
    audit_older_files: int = 64
    pod_day_bytes: int = 4 * 1024 * 1024
    surplus_older_files: int = 15
    stranger_file_bytes: int = 4 * 1024 * 1024
    stranger_older_files: int = 15


DEFAULT_LIMITS = Limits()
