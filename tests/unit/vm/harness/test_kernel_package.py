"""The test guest's modules: files in an order that loads, and nothing for what is built in."""

import lzma
from pathlib import Path

import pytest

from tests.vm.harness.kernel_package import GuestKernel, plan_modules


@pytest.fixture
def kernel(tmp_path: Path) -> GuestKernel:
    modules = tmp_path / "kernel"
    modules.mkdir()
    for name, needed in (("dm-mod", ""), ("dm-crypt", "dm-mod,xts"), ("brd", "")):
        module = b"\0depends=" + needed.encode() + b"\0"
        (modules / f"{name}.ko.xz").write_bytes(lzma.compress(module))
    (tmp_path / "modules.builtin").write_text("kernel/crypto/xts.ko\nkernel/crypto/sha256.ko\n")
    return GuestKernel(image=tmp_path / "vmlinuz", modules=modules, release="7.3")


def plan(kernel: GuestKernel, *names: str) -> list[str]:
    return [path.name for path in plan_modules(kernel, names)]


def test_what_is_built_in_has_no_file(kernel: GuestKernel) -> None:
    assert plan(kernel, "dm_crypt", "xts", "brd") == ["dm-mod.ko.xz", "dm-crypt.ko.xz", "brd.ko.xz"]


def test_of_several_names_the_first_that_the_kernel_has_is_taken(kernel: GuestKernel) -> None:
    assert plan(kernel, "sha256_ssse3|brd", "sha256_ssse3|sha256") == ["brd.ko.xz"]


def test_what_is_neither_a_file_nor_built_in_is_an_error(kernel: GuestKernel) -> None:
    with pytest.raises(KeyError, match="sha256_ssse3"):
        plan(kernel, "sha256_ssse3")
