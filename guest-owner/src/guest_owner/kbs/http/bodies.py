"""Bodies of requests, read under a deadline and under caps on each and on all together.

Anyone may send one, and evidence may be large. If the bodies being read take more memory than is
allowed, the largest is given up. A guest's has some ten thousand bytes, so it has to be sent again
only if it is itself the largest.
"""

import asyncio

from starlette.requests import ClientDisconnect, Request

from guest_owner.kbs.limits import Limits
from guest_owner.kbs.refusal import KbsRefusedError, Variant


class Bodies:
    """The bodies that one server is reading."""

    def __init__(self, limits: Limits) -> None:
        """Nothing is read yet."""
        self._limits = limits
        self._sizes: dict[asyncio.Timeout, int] = {}

    async def read(self, request: Request, max_bytes: int) -> bytes:
        """Return a request's whole body.

        Raises:
            KbsRefusedError: 413, too large; 408, too slow, or the largest when memory ran out; cut
                short.
        """
        body = bytearray()
        deadline = asyncio.timeout(self._limits.body_seconds)
        try:
            async with deadline:
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > max_bytes:
                        raise KbsRefusedError(
                            Variant.ATTESTATION_ERROR, f"body over {max_bytes} bytes", status=413
                        )
                    self._hold(deadline, len(body))
        except TimeoutError as error:
            raise KbsRefusedError(Variant.ATTESTATION_ERROR, "body too slow", status=408) from error
        except ClientDisconnect as error:
            raise KbsRefusedError(Variant.ATTESTATION_ERROR, "body cut short") from error
        finally:
            self._sizes.pop(deadline, None)
        return bytes(body)

    def _hold(self, deadline: asyncio.Timeout, size_bytes: int) -> None:
        self._sizes[deadline] = size_bytes
        if sum(self._sizes.values()) <= self._limits.bodies_bytes:
            return
        largest = max(self._sizes, key=self._sizes.__getitem__)
        del self._sizes[largest]
        if not largest.expired():
            largest.reschedule(asyncio.get_running_loop().time())
