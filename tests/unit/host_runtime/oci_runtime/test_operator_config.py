"""The operator's file is read whole or refused."""

import pytest

from ccinit.errors import CcinitError
from host_runtime.oci_runtime.operator_config import Cgroup, Choice, parse_operator_config
from tests.fakes.documents.oci_bundles import operator_toml


def test_file_is_read() -> None:
    config = parse_operator_config(operator_toml().encode())
    assert [image.name for image in config.images] == ["prod", "snp"]
    assert config.image("prod").boot[:2] == ("--uki", "/srv/prod.efi")
    assert config.allow.choices == frozenset(Choice)
    assert (config.defaults.memory_mib, config.defaults.vcpus) == (1024, 1)
    assert config.stop_grace_seconds == 7
    assert config.cgroup is Cgroup.CALLER
    text = f'cgroup = "bundle"\n{operator_toml()}'
    assert parse_operator_config(text.encode()).cgroup is Cgroup.BUNDLE


def test_little_is_enough_and_allows_nothing() -> None:
    config = parse_operator_config(
        b'version = 1\nlog_folder = "/log"\n[[image]]\nname = "a"\nboot = ["--uki", "/u"]\n'
        b'[defaults]\nimage = "a"\n[allow]\nscratch_bytes = 0\n'
    )
    assert config.allow.choices == frozenset()
    assert config.allow.folders == ()
    assert config.allow.all_sealed_logs_bytes == 64 * config.allow.sealed_log_bytes


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("version = 1", "version = 2", "runtime.version"),
        ("stop_grace_seconds", "stop_grace", "runtime.unknown"),
        ("version = 1", 'version = 1\ncgroup = "pod"', "runtime.cgroup"),
        ('image = "prod"', 'image = "none"', "runtime.image"),
        ('name = "snp"', 'name = "prod"', "runtime.image.twice"),
        ('name = "snp"', 'name = "snp"\nuki = "x"', "runtime.image.unknown"),
        ('"vcpus", ', '"cpus", ', "runtime.allow.annotations"),
        ('log_folder = "/srv/sealed"', 'log_folder = "sealed"', "runtime.log_folder"),
        ('folders = ["/srv/allowed"]', 'folders = ["allowed"]', "runtime.allow.folders"),
        ("scratch_bytes = 2147483648\n", "", "runtime.allow.scratch_bytes"),
        (
            "scratch_bytes = 2147483648\n",
            "scratch_bytes = 1\nall_sealed_logs_bytes = 268435455\n",  # less than one may have
            "runtime.allow.all_sealed_logs_bytes",
        ),
        ('"--tpm", "/srv/tpm"', '"--tmp", "/srv/tpm"', "runtime.image.boot"),
        ('"--tpm", "/srv/tpm"', '"--tpm", "/srv/tpm", "more"', "runtime.image.boot"),
        ('"--network", "open"', '"--network", "any"', "runtime.image.boot"),
        ('"--network", "open"', '"--memory", "64"', "runtime.image.boot"),
        ('"--network", "open"', '"--disk", "/x"', "runtime.image.boot"),
        ('"--network", "open"', '"--print"', "runtime.image.boot"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, reason: str) -> None:
    text = operator_toml()
    assert old in text
    with pytest.raises(CcinitError) as error:
        parse_operator_config(text.replace(old, new).encode())
    assert error.value.reason == reason
