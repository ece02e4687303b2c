"""The test guest's modules: files in an order that loads, and nothing for what is built in."""

import lzma
from pathlib import Path

import pytest

from tests.vm.harness.kernel_package import (
    GuestKernel,
    find_kernel,
    list_packages,
    plan_modules,
)


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


OLD = {
    "linux-image-cloud-amd64": ("linux-image-6.12.9-cloud-amd64",),
    "linux-image-6.12.9-cloud-amd64": ("kmod", "linux-base", "initramfs-tools"),
}
NEW = {
    "linux-image-cloud-amd64": (
        "linux-base-cloud-amd64",
        "linux-image-7.3.4-cloud-amd64",
        "linux-modules-cloud-amd64",
    ),
    "linux-image-7.3.4-cloud-amd64": (
        "dracut",
        "linux-base-7.3.4-cloud-amd64",
        "linux-binary-7.3.4-cloud-amd64",
        "linux-modules-7.3.4-cloud-amd64",
    ),
}


def test_kernel_of_one_package_is_that_package() -> None:
    assert list_packages(OLD.__getitem__) == ("linux-image-6.12.9-cloud-amd64",)


def test_kernel_in_parts_is_all_of_them() -> None:
    assert list_packages(NEW.__getitem__) == (
        "linux-image-7.3.4-cloud-amd64",
        "linux-base-7.3.4-cloud-amd64",
        "linux-binary-7.3.4-cloud-amd64",
        "linux-modules-7.3.4-cloud-amd64",
    )


@pytest.mark.parametrize("place", ["boot/vmlinuz-7.3", "usr/lib/modules/7.3/vmlinuz"])
def test_image_is_found_in_either_place(tmp_path: Path, place: str) -> None:
    for folder in ("boot", "usr/lib/modules/7.3/kernel"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / place).write_bytes(b"kernel")
    found = find_kernel(tmp_path)
    assert (found.image, found.release) == (tmp_path / place, "7.3")
    assert found.modules == tmp_path / "usr/lib/modules/7.3/kernel"
