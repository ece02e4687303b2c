"""Secrets in pipes: whole, readable once, and none that a pipe does not hold."""

import os

import pytest

from ccinit.agent.processes.secret_pipes import (
    MAX_PIPED_BYTES,
    fill_pipe,
    open_secret_pipes,
)
from ccinit.errors import LimitExceededError
from ccinit.kernel.descriptor import close_all
from ccinit.kernel.pipes import open_pipes
from ccinit.secret import Secret
from tests.fakes.machine.scarcity import count_descriptors


def test_each_pipe_holds_its_secret_and_then_ends() -> None:
    before = count_descriptors()
    contents = {"key": b"k" * 64, "empty": b"", "longest": bytes(MAX_PIPED_BYTES)}
    pipes = open_secret_pipes({name: Secret(content) for name, content in contents.items()})
    for name, content in contents.items():
        assert os.read(pipes[name], MAX_PIPED_BYTES + 1) == content
        assert os.read(pipes[name], 1) == b""
    close_all(pipes.values())
    assert count_descriptors() == before


def test_secret_longer_than_a_pipe_is_refused_before_anybody_waits_for_it() -> None:
    before = count_descriptors()
    with pytest.raises(LimitExceededError) as refused:
        open_secret_pipes({"key": Secret(b"key"), "long": Secret(bytes(MAX_PIPED_BYTES + 1))})
    assert refused.value.reason == "child.secret"
    assert count_descriptors() == before


def test_secret_for_somebody_who_has_ended_is_nobodys() -> None:
    before = count_descriptors()
    (pipe,) = open_pipes(1)
    os.close(pipe.reader)
    fill_pipe(pipe.writer, Secret(b"key"))
    assert count_descriptors() == before
