"""The owner plane, its calls, its handlers and its document say the same."""

from ccinit.agent.planes.owner_service import HANDLERS
from ccinit.formats.planes.owner_rpc import METHODS
from ccinit.owner.messages import CALLS
from ccinit.values import fields
from tests.architecture.owner_rpc_document import DOCUMENT, render


def test_every_method_has_exactly_one_call_and_one_handler() -> None:
    assert set(HANDLERS) == set(METHODS) == set(CALLS)


def test_every_call_has_its_methods_parameters() -> None:
    for name, method in METHODS.items():
        assert [field.name for field in fields(CALLS[name])] == [
            field.name for field in method.params
        ]


def test_document_is_generated_from_the_schema() -> None:
    assert DOCUMENT.read_text() == render(), "run `python -m tests.architecture.owner_rpc_document`"
