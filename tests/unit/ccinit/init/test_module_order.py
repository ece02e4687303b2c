"""Modules are loaded by as many processes as may be, each group in its own order."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ccinit.errors import ChildError, FormatError, KernelError
from ccinit.init import module_order
from ccinit.init.module_order import (
    MAX_GROUPS,
    ModuleGroup,
    ModuleLine,
    load_modules,
    parse_module_order,
)

Load = Callable[[str, str], None]


def test_order_is_groups_of_files_and_parameters() -> None:
    assert parse_module_order(b"dm-mod.ko.xz\nbrd.ko.xz rd_nr=4 max_part=0\n\nx.ko\n") == (
        (
            ModuleLine(file="dm-mod.ko.xz", parameters=""),
            ModuleLine(file="brd.ko.xz", parameters="rd_nr=4 max_part=0"),
        ),
        (ModuleLine(file="x.ko", parameters=""),),
    )
    assert parse_module_order(b"") == ()
    assert len(parse_module_order(b"\n".join([b"x.ko\n"] * MAX_GROUPS))) == MAX_GROUPS


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"dm-mod.ko.xz", id="no-newline"),
        pytest.param(b"dm-mod.ko.xz\n\n", id="empty-line-behind"),
        pytest.param(b"\ndm-mod.ko.xz\n", id="empty-line-before"),
        pytest.param(b"x.ko\n\n\ndm-mod.ko.xz\n", id="empty-lines"),
        pytest.param(b"\n", id="empty-line"),
        pytest.param(b"../dm-mod.ko.xz\n", id="path"),
        pytest.param(b"dm-mod\n", id="no-module"),
        pytest.param(b" brd.ko.xz\n", id="leading-space"),
        pytest.param("bräd.ko.xz\n".encode(), id="not-ascii"),
        pytest.param(b"\n".join([b"x.ko\n"] * (MAX_GROUPS + 1)), id="more-than-tickets"),
    ],
)
def test_order_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError) as error:
        parse_module_order(data)
    assert error.value.reason == "modules.order"


def group(*files: str) -> ModuleGroup:
    return tuple(ModuleLine(file=file, parameters="") for file in files)


GROUPS = (group("sha.ko"), group("dm.ko", "crypt.ko"), group("vsock.ko"), group("loop.ko"))


class Kernel:
    """Notes who loads what, in a file, since several processes do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def load(self, path: str, _parameters: str) -> None:
        with self._path.open("a") as file:
            file.write(f"{os.getpid()} {Path(path).name}\n")

    @property
    def loaded(self) -> list[tuple[int, str]]:
        lines = (line.split() for line in self._path.read_text().splitlines())
        return [(int(process), file) for process, file in lines]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(tmp_path / "loaded")
    monkeypatch.setattr(module_order, "load_module", kernel.load)
    return kernel


def test_one_process_loads_all_in_the_order_of_the_list(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fork")
    load_modules(GROUPS, "/modules", 1)
    assert [file for _, file in kernel.loaded] == [
        *("sha.ko", "dm.ko", "crypt.ko", "vsock.ko", "loop.ko")
    ]


def open_descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("processes", [2, 3, 200])
def test_others_load_groups_whole_and_behind_the_first(kernel: Kernel, processes: int) -> None:
    descriptors = open_descriptors()
    load_modules(GROUPS, "/modules", processes)
    assert kernel.loaded[0] == (os.getpid(), "sha.ko")
    assert sorted(file for _, file in kernel.loaded) == [
        *("crypt.ko", "dm.ko", "loop.ko", "sha.ko", "vsock.ko")
    ]
    by = {file: process for process, file in kernel.loaded}
    assert by["dm.ko"] == by["crypt.ko"]
    files = [file for _, file in kernel.loaded]
    assert files.index("dm.ko") < files.index("crypt.ko")
    assert len(set(by.values())) <= min(processes, 3)
    assert open_descriptors() == descriptors
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_another_process_could_not_load_is_a_failure(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    this = os.getpid()
    met, meet = os.pipe()

    def load(path: str, parameters: str) -> None:
        kernel.load(path, parameters)
        if os.getpid() != this:
            os.write(meet, b".")
            raise KernelError(errno.EKEYREJECTED, "finit_module", path)
        if path != "/modules/sha.ko":
            os.read(met, 1)  # this process has work until the other has failed

    monkeypatch.setattr(module_order, "load_module", load)
    with pytest.raises(ChildError) as failed:
        load_modules((GROUPS[0], *GROUPS[2:]), "/modules", 2)
    assert failed.value.reason == "modules.load"
    assert {process for process, _ in kernel.loaded} > {this}
    os.close(met)
    os.close(meet)


def test_driver_without_its_device_is_no_failure_and_anything_else_is(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = errno.ENODEV

    def load(path: str, parameters: str) -> None:
        kernel.load(path, parameters)
        raise KernelError(refused, "finit_module", path)

    monkeypatch.setattr(module_order, "load_module", load)
    load_modules(GROUPS, "/modules", 1)
    assert len(kernel.loaded) == 5
    refused = errno.EKEYREJECTED
    with pytest.raises(KernelError, match=r"sha\.ko"):
        load_modules(GROUPS, "/modules", 1)
    assert len(kernel.loaded) == 6
