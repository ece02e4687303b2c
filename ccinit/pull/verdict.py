"""What the owner's policy has accepted of an image, as PID 1 remembers it.

The `registry` child asks before it downloads layers, but could then continue with another image. So
another child answers, and the documents that the pull ends with must be those that were accepted,
byte for byte.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from ccinit.errors import ChildError, VerificationError
from ccinit.formats.encoding.digest import Digest, sha256_digest
from ccinit.pull.messages.fetch import (
    AcceptedImage,
    FoundSignatures,
    SignaturePolicy,
    SignatureRequest,
)

Decide: TypeAlias = Callable[[FoundSignatures], Awaitable[AcceptedImage]]
Judge: TypeAlias = Callable[[SignatureRequest], Awaitable[AcceptedImage]]


class Verdict:
    """The verdict on one image; without a policy, its digest in the manifest suffices."""

    def __init__(self, reference: str, policy: SignaturePolicy | None, judge: Judge) -> None:
        """Args: reference: as the owner wrote it; judge: runs `signature.judge.signature_job`."""
        self._reference = reference
        self._policy = policy
        self._judge = judge
        self._accepted: tuple[Digest, ...] = ()

    async def decide(self, found: FoundSignatures) -> AcceptedImage:
        """Answer the registry child's question.

        Raises:
            CcinitError: the policy does not accept the image.
        """
        if self._policy is None:
            raise ChildError("child.protocol", "signatures that nobody has asked for")
        request = SignatureRequest(reference=self._reference, policy=self._policy, found=found)
        accepted = await self._judge(request)
        self._accepted = accepted.documents
        return accepted

    def verify_documents(self, documents: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return the documents that a pull ended with, if they are the accepted ones.

        Raises:
            VerificationError: `signature.documents`.
        """
        digests = tuple(sha256_digest(document) for document in documents)
        if self._policy is not None and digests != self._accepted:
            raise VerificationError("signature.documents", "not what the policy has accepted")
        return documents
