"""Unit tests touch nothing outside their process."""

import socket
import subprocess
from typing import Never

import pytest
from hypothesis import settings

settings.register_profile("ours", deadline=None)  # no test is about how busy the machine is
settings.load_profile("ours")


@pytest.fixture(autouse=True)
def _no_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_keywords: object) -> Never:
        raise AssertionError("a unit test reached for the network or a process")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "bind", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
