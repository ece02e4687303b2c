"""What PID 1 and a child `workload` say to each other: values of `ccinit.formats.encoding.wire`.

The questions are the calls of `ccinit.formats.planes.workload_api`. The child is not told who the
caller is: PID 1 knows, and answers for that container only.
"""

from enum import StrEnum

from ccinit.values import field, frozen


class MediaType(StrEnum):
    """Of a reply's body."""

    BYTES = "application/octet-stream"
    JSON = "application/json"
    TEXT = "text/plain"


@frozen
class WorkloadRequest:
    """Serve the one request on the connection."""


@frozen
class WorkloadAnswer:
    """PID 1's answer to a call; `status` is HTTP's."""

    status: int
    media_type: MediaType
    body: bytes = field(repr=False)


@frozen
class WorkloadEnd:
    """The connection has ended; `why` is empty if a reply was sent."""

    why: str
