"""What a pod's host says of its guest comes to each container, whatever is in it."""

from pathlib import Path

import pytest

from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.pod_log import copied_pod_log, pod_log

NO_UNICODE = "no file x\udce9"  # as Python names one whose name is no UTF-8


def test_every_line_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("host_runtime.oci_runtime.pod_log.say", said.append)
    container = Container(folder=tmp_path)
    with pod_log(container) as say:
        say("phase NET")
        say(NO_UNICODE)
        assert said == ["phase NET", NO_UNICODE]
        with copied_pod_log(container):
            say("ended")
    assert said[2:] == ["ended", "phase NET", r"no file x\udce9", "ended"]
