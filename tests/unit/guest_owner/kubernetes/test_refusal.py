"""What is refused of a Kubernetes Pod: the text says where it is, and what takes its place."""

import pytest

from ccinit.errors import FormatError
from tests.unit.guest_owner.kubernetes.pods import POD, convert


def detail_of(old: str, new: str) -> str:
    """Say how the Pod is refused once `old` is `new` in it."""
    assert old in POD
    with pytest.raises(FormatError) as caught:
        convert(POD.replace(old, new, 1))
    return caught.value.detail


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("    workingDir:", "    startupProbe: {}\n    workingDir:", "web: cannot"),
        ('value: "say \\"hello\\""', "value: 1", "web: GREETING: expected text"),
        ("{secretKeyRef: {name: api, key: token}}", "{fieldRef: {a: b}}", "web: TOKEN: cannot"),
        ("emptyDir: {medium: Memory, sizeLimit: 8Mi}", "hostPath: {}", "cache: cannot"),
        ("memory: 64Mi", "memory: 64MB", "web: '64MB' is not a quantity"),
        ("[/bin/ready, now]", "[cat, /tmp/ready]", "web: an absolute path in the image: 'cat'"),
        ("kind: Pod", "kind: Deployment", "write its spec.template as one"),
    ],
)
def test_refusal_says_where_it_is(old: str, new: str, where: str) -> None:
    assert where in detail_of(old, new)


@pytest.mark.parametrize(
    ("hint", "old", "new"),
    [
        ("configMap (its texts are [[file]]s", "emptyDir: {medium: Memory", "configMap: {name: x"),
        (
            "(a [[volume]] of kind persistent",
            "emptyDir: {medium: Memory",
            "persistentVolumeClaim: {a: b",
        ),
        ("httpGet (the guest reads nothing", "{exec: {", "{httpGet: {"),
        ("imagePullSecrets (auth of an", "  initC", "  imagePullSecrets: []\n  initC"),
    ],
)
def test_refusal_says_what_takes_the_fields_place(hint: str, old: str, new: str) -> None:
    assert hint in detail_of(old, new)


def test_refusal_tells_of_all_volumes_at_once() -> None:
    """Else each run of the command tells of one more."""
    more = "  - {name: conf, configMap: {name: x}}\n  - {name: data, persistentVolumeClaim: {}}\n"
    with pytest.raises(FormatError) as caught:
        convert(POD + more)
    assert caught.value.reason == "kubernetes.volumes"
    conf, data = caught.value.detail.split("; ")
    assert conf.startswith("conf: cannot be taken over: configMap (")
    assert data.startswith("data: cannot be taken over: persistentVolumeClaim (")
