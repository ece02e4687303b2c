"""The host plane, its handlers and its document say the same."""

from ccinit.agent.host_service import HANDLERS
from ccinit.formats.planes.host_rpc import METHODS
from tests.architecture.host_rpc_document import DOCUMENT, render


def test_every_method_has_exactly_one_handler() -> None:
    assert set(HANDLERS) == set(METHODS)


def test_document_is_generated_from_the_schema() -> None:
    assert DOCUMENT.read_text() == render(), "run `python -m tests.architecture.host_rpc_document`"
