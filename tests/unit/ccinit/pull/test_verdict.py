"""What a pull ends with is what the owner's policy has accepted, byte for byte."""

import pytest

from ccinit.errors import CcinitError, VerificationError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.kernel.event_loop import EventLoop
from ccinit.pull.messages.fetch import (
    AcceptedImage,
    FoundSignatures,
    SignaturePolicy,
    SignatureRequest,
)
from ccinit.pull.verdict import Verdict

REFERENCE = "registry.example/web@sha256:" + "ab" * 32
INDEX, MANIFEST, OTHER = b"index", b"manifest", b"other"
FOUND = FoundSignatures(documents=(INDEX, MANIFEST), manifests=())
POLICY = SignaturePolicy(document=b"{}", keys=())


class Judge:
    """The signature child: accepts what it is shown, or raises."""

    def __init__(self) -> None:
        self.asked: list[SignatureRequest] = []
        self.failure: CcinitError | None = None

    async def __call__(self, request: SignatureRequest) -> AcceptedImage:
        self.asked.append(request)
        if self.failure is not None:
            raise self.failure
        documents = tuple(sha256_digest(document) for document in request.found.documents)
        return AcceptedImage(documents=documents, reasons=("a key of the owner's",))


@pytest.fixture
def judge() -> Judge:
    return Judge()


def decide(verdict: Verdict) -> AcceptedImage:
    accepted: AcceptedImage = EventLoop().run(verdict.decide(FOUND))
    return accepted


def refusal(verdict: Verdict, *documents: bytes) -> str:
    with pytest.raises(VerificationError) as refused:
        verdict.verify_documents(documents)
    return refused.value.reason


def test_documents_that_were_accepted_are_returned(judge: Judge) -> None:
    verdict = Verdict(REFERENCE, POLICY, judge)
    assert decide(verdict).reasons == ("a key of the owner's",)
    assert judge.asked == [SignatureRequest(reference=REFERENCE, policy=POLICY, found=FOUND)]
    assert verdict.verify_documents((INDEX, MANIFEST)) == (INDEX, MANIFEST)


@pytest.mark.parametrize(
    "documents",
    [
        pytest.param((), id="none"),
        pytest.param((MANIFEST,), id="fewer"),
        pytest.param((INDEX, MANIFEST, OTHER), id="more"),
        pytest.param((INDEX, OTHER), id="another"),
        pytest.param((MANIFEST, INDEX), id="order"),
    ],
)
def test_any_other_documents_are_refused(judge: Judge, documents: tuple[bytes, ...]) -> None:
    verdict = Verdict(REFERENCE, POLICY, judge)
    decide(verdict)
    assert refusal(verdict, *documents) == "signature.documents"


def test_child_that_never_asked_has_nothing_accepted(judge: Judge) -> None:
    verdict = Verdict(REFERENCE, POLICY, judge)
    assert refusal(verdict, INDEX, MANIFEST) == "signature.documents"


def test_image_that_the_policy_refuses_has_nothing_accepted(judge: Judge) -> None:
    verdict = Verdict(REFERENCE, POLICY, judge)
    judge.failure = VerificationError("signature.none", "nobody signed it")
    with pytest.raises(VerificationError) as refused:
        decide(verdict)
    assert refused.value.reason == "signature.none"
    assert refusal(verdict, INDEX, MANIFEST) == "signature.documents"


def test_without_a_policy_nobody_is_asked_and_the_digest_is_enough(judge: Judge) -> None:
    verdict = Verdict(REFERENCE, None, judge)
    with pytest.raises(CcinitError) as refused:
        decide(verdict)
    assert refused.value.reason == "child.protocol"
    assert judge.asked == []
    assert verdict.verify_documents((OTHER,)) == (OTHER,)
