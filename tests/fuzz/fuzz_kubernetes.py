"""Invariant: any text given as a Kubernetes Pod is refused with a `FormatError` in one line, or
becomes a pod.toml that is TOML, has the Pod's containers in their order, and is a manifest or
refused by the guest's own parser for what it says.

Run as `python -m tests.fuzz.fuzz_kubernetes [SECONDS [SEED]]`.
"""

import random
import tomllib
from collections.abc import Mapping
from typing import Any

import yaml

from ccinit.errors import FormatError
from ccinit.formats.pod.manifest import parse_pod_manifest
from guest_owner.kubernetes.pod import convert_pod
from guest_owner.kubernetes.yaml_text import load_yaml
from tests.fuzz.mutation import mutate_text
from tests.fuzz.trials import Trials, run
from tests.unit.guest_owner.kubernetes.pods import CA, POD

LINES = POD.encode().splitlines(keepends=True)
HUGE = 987654321  # stands for a number that Python does not write in digits
NOISE = (
    *LINES[3:],
    *(b"null", b"~", b"true", b"[]", b"{}", b"- ", b"'", b'"', b": ", b"#", b"|\n  ", b"---\n"),
    *(b"\\ud800", b'"\\0"', b"\x85", b"\xe2\x80\xa8", b"\t", b"&a ", b"*a", b"<<: ", b"!!binary "),
    *(b"0x" + b"f" * 5000, b"1e99", b"1e400", b".nan", b"-1", b"2026-11-26", b"1:2:3", b"0o17"),
    *(b"!!bool ", b"!!int ", b"!!float ", b"!!timestamp ", b"!!map ", b"!!str "),
    b"1" + b":00" * 200 + b".0",
)
VALUES: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1 << 62, HUGE, 1.5, float("inf"), "", "x", "\0", "'''", "é"),
    *([], {}, [None], {"name": "x"}, {1: 2}, [[]], "kbs:///a/b/c", "sealed.a.b.c", "$(TOKEN)"),
)


def convert(text: str) -> str | None:
    """Return the pod.toml, None for a refusal."""
    try:
        return convert_pod(text, CA, 1 << 30)
    except FormatError as error:
        refused = error
    assert refused.reason.startswith("kubernetes."), refused
    assert "\n" not in refused.detail
    return None


def check(text: str) -> bool:
    """Check the invariant; return whether the Pod became a manifest."""
    made = convert(text)
    if made is None:
        return False
    document: Any = load_yaml(text)
    spec = document["spec"]
    asked = [one["name"] for key in ("initContainers", "containers") for one in spec.get(key, [])]
    found = [one["name"] for one in tomllib.loads(made).get("container", [])]
    assert found == asked
    try:
        pod = parse_pod_manifest(made)
    except FormatError as error:
        refused = error
    else:
        assert [one.name for one in pod.containers] == asked
        return True
    assert refused.reason.startswith(("pod.", "reference.")), refused
    return False


def mutate_value(source: random.Random) -> str:
    """Change or add one value somewhere, and write the Pod anew."""
    value = yaml.safe_load(POD)
    holder: Any = value
    while True:
        keys = list(holder) if isinstance(holder, Mapping) else range(len(holder))
        key = source.choice(list(keys))
        if not isinstance(holder[key], dict | list) or not holder[key] or not source.randrange(4):
            holder[key] = source.choice(VALUES)
            return yaml.safe_dump(value).replace(str(HUGE), "0x" + "f" * 4000)
        holder = holder[key]


def main(seconds: float, seed: int) -> int:
    """Check texts for a while; return how many."""
    trials = Trials(seconds, seed)
    taken = 0
    assert check(POD)
    for source in trials:
        if source.randrange(2):
            text = mutate_value(source)
        else:
            text = mutate_text(source, POD.encode(), NOISE).decode("utf-8", "replace")
        taken += check(text)
    trials.require(taken, one_in=50)
    return trials.count


if __name__ == "__main__":
    run(main)
