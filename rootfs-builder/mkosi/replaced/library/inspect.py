"""Stands in for inspect: libraries ask it what kind of thing they were given.

httpx and asyncio do, and `dataclasses`, for the annotations of a class and for the docstrings that
it writes where there is none. The library's own reads source texts besides, of which no guest has
any, with ast, dis and tokenize for it.
"""

from collections.abc import Awaitable, Callable
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType
from typing import Any

_CO_COROUTINE = 0x80  # of `__code__.co_flags`


def isfunction(value: object) -> bool:
    """Return whether it is a function that was written in Python."""
    return isinstance(value, FunctionType)


def isgenerator(value: object) -> bool:
    """Return whether it is a running generator."""
    return isinstance(value, GeneratorType)


def isasyncgen(value: object) -> bool:
    """Return whether it is a running asynchronous generator."""
    return isinstance(value, AsyncGeneratorType)


def iscoroutine(value: object) -> bool:
    """Return whether it is a running coroutine."""
    return isinstance(value, CoroutineType)


def isawaitable(value: object) -> bool:
    """Return whether it can be waited for; generators that were made so are not among them."""
    return isinstance(value, Awaitable)


def iscoroutinefunction(value: object) -> bool:
    """Return whether a call of it makes a coroutine."""
    function = getattr(value, "__func__", value)
    return isfunction(function) and bool(function.__code__.co_flags & _CO_COROUTINE)


def unwrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what stands at the end of `functools.wraps`."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def get_annotations(kind: type) -> dict[str, Any]:
    """Return a class's own annotations."""
    return dict(kind.__dict__.get("__annotations__", {}))  # noqa: RUF063  # this is it


def signature(_value: object) -> str:
    """Return no text: it would be for a docstring that nobody reads."""
    return ""
