"""The host plane, its handlers and its document say the same."""

import re
from pathlib import Path

import ccinit.init as init_package
from ccinit.agent.host_service import HANDLERS
from ccinit.formats.planes.host_rpc import METHODS, RESERVED_CODES, Code
from tests.architecture.host_rpc_document import DOCUMENT, render


def test_every_method_has_exactly_one_handler() -> None:
    assert set(HANDLERS) == set(METHODS)


def test_every_code_is_given_by_the_guest_and_no_reserved_number_is_one() -> None:
    init = "".join(path.read_text() for path in Path(init_package.__file__).parent.glob("*.py"))
    assert set(re.findall(r"\bCode\.([A-Z_]+)", init)) == {code.name for code in Code}
    assert not RESERVED_CODES & set(Code)


def test_document_is_generated_from_the_schema() -> None:
    assert DOCUMENT.read_text() == render(), "run `python -m tests.architecture.host_rpc_document`"
