"""The host, as tests have it act on the guest's disks; see `tests.vm.harness.hostile_host`."""

import json
from pathlib import Path

from tests.vm.guest.disks import drop_caches

_PORT_NAME = "ccinit.host"


class Host:
    """A line to the host. What it does, it does before a call returns."""

    def __init__(self) -> None:
        (port,) = (
            path
            for path in Path("/sys/class/virtio-ports").iterdir()
            if (path / "name").read_text().strip() == _PORT_NAME
        )
        self._stream = Path(f"/dev/{port.name}").open("r+b", buffering=0)  # noqa: SIM115

    def close(self) -> None:
        """Leave the port to the next test, and the disk working."""
        self.heal()
        self._stream.close()

    def heal(self) -> int:
        """Have the disk work; return how many requests were answered otherwise."""
        hits = self.do("heal")
        assert isinstance(hits, int)
        return hits

    def do(self, name: str, **arguments: object) -> object:
        """Have the host do something; the page cache is empty then."""
        self._stream.write(json.dumps({"do": name, **arguments}).encode() + b"\n")
        answer = json.loads(self._stream.readline())
        assert "failed" not in answer, answer
        drop_caches()
        return answer["done"]
