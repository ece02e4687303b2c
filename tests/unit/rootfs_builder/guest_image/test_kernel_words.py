"""A word that a kernel does not know does nothing, and the kernel boots as if all were well."""

import struct

import pytest

from ccinit.errors import ConfigError
from rootfs_builder.guest_image.kernel_words import require_words
from tests.fakes.published.kernel_images import CODE, PARAMETERS, SETUPS, kernel_elf

LINE = "console=ttynull quiet random.trust_cpu=on no-kvmclock panic=-1 8250.nr_uarts=0"
KERNEL = kernel_elf(
    setups=(*SETUPS, "random.trust_cpu", "no-kvmclock"),
    parameters=(*PARAMETERS, "8250.nr_uarts", "random.ratelimit_disable"),
)


def require(line: str = LINE, kernel: bytes = KERNEL) -> None:
    require_words(kernel, line)


def test_words_of_both_kinds_are_known_with_their_values() -> None:
    require()


def test_hyphen_and_underscore_are_the_same_to_the_kernel() -> None:
    require("no_kvmclock")


@pytest.mark.parametrize(
    "word",
    [
        "bogus",
        "bogus=1",
        "quie",
        "quiets",
        "random.trust_cp=on",  # the kernel has others of this prefix
        "8250.nr_uart=0",
    ],
)
def test_word_that_the_kernel_does_not_know_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=f"does not know {word}, ") as error:
        require(f"{LINE} {word}")
    assert error.value.reason == "cmdline.word"


def test_all_unknown_words_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match="does not know one=1, two, and"):
        require(f"one=1 {LINE} two")


def test_word_that_is_only_a_text_in_the_kernel_is_refused() -> None:
    """The kernel's strings hold many a short word."""
    kernel = kernel_elf(("vsyscall",))
    with pytest.raises(ConfigError) as error:
        require("vsyscall=none", kernel)
    assert error.value.reason == "cmdline.word"
    require("vsyscall=none", kernel_elf(setups=(*SETUPS, "vsyscall")))


def test_arrays_are_read_on_both_sides_of_the_element_that_they_are_found_by() -> None:
    kernel = kernel_elf(
        setups=("first", *SETUPS, "last"), parameters=("one", "two", *PARAMETERS, "ten")
    )
    require("first quiet last one two panic ten", kernel)


@pytest.mark.parametrize("fields", [(7, 7), (0, 7), (7, 1), (CODE, CODE)])
def test_what_lies_beside_an_array_is_none_of_its_elements(fields: tuple[int, int]) -> None:
    """Though it begins with the address of a text: its other fields are not those of either."""
    kernel = kernel_elf(("bogus",), beside=("bogus", *fields))
    require("quiet panic", kernel)
    with pytest.raises(ConfigError) as error:
        require("bogus", kernel)
    assert error.value.reason == "cmdline.word"
    require("bogus", kernel_elf(setups=(*SETUPS, "bogus")))


def test_word_with_a_dot_has_to_be_known_if_another_of_its_module_is() -> None:
    """And a module's own words are all with dots: `random` says nothing about `random.more`."""
    kernel = kernel_elf(setups=(*SETUPS, "random"))
    require("random random.more", kernel)
    with pytest.raises(ConfigError):
        require("random.more", kernel_elf(setups=(*SETUPS, "random", "random.trust_cpu")))


def test_parameter_of_a_module_that_is_not_built_in_does_not_matter() -> None:
    require("efi_pstore.pstore_disable=1")
    with pytest.raises(ConfigError):
        require(
            "efi_pstore.pstore_disable=1",
            kernel_elf(parameters=(*PARAMETERS, "efi_pstore.record_size")),
        )


def test_word_that_x86_code_looks_for_by_itself_is_known() -> None:
    require("tsx=off nokaslr")


@pytest.mark.parametrize("name", ["acpi.poweroff_on_fatal", "damon_stat.enabled"])
def test_kernel_that_does_of_itself_what_no_guest_wants_has_to_be_told(name: str) -> None:
    kernel = kernel_elf(parameters=(*PARAMETERS, name))
    require(f"quiet {name}=0", kernel)
    require("quiet", kernel_elf((name,)))  # a kernel that cannot do it
    for line in ("quiet", f"quiet {name}=1", f"quiet {name}"):
        with pytest.raises(ConfigError, match=f"needs {name}=0") as error:
            require(line, kernel)
        assert error.value.reason == "cmdline.needed"


@pytest.mark.parametrize(
    "kernel",
    [
        kernel_elf(setups=("quiet",)),
        kernel_elf(parameters=("panic",)),
        b"\x7fELF",
        b"\x7fELF".ljust(56) + struct.pack("<H", 1) + b"  ",
    ],
    ids=["no setups", "no parameters", "too short", "no segment"],
)
def test_kernel_whose_words_cannot_be_told_is_refused(kernel: bytes) -> None:
    with pytest.raises(ConfigError) as error:
        require("quiet", kernel)
    assert error.value.reason == "kernel.words"
