"""A UKI has the sections that are measured as planned, and no other."""

from pathlib import Path

from measured_boot.image.uki import OS_RELEASE, UkiParts, plan_ukify

PARTS = UkiParts(
    stub=Path("/stub"),
    kernel=Path("/kernel"),
    kernel_release="6.12",
    os_release=Path("/os release"),
    command_line=Path("/line"),
    initrd=Path("/initrd"),
)


def test_command_names_every_section_once() -> None:
    command = plan_ukify(PARTS, Path("/out.efi"))
    assert command[:2] == ("ukify", "build")
    assert sorted(command[2:]) == [
        "--cmdline=@/line",
        "--initrd=/initrd",
        "--linux=/kernel",
        "--os-release=@/os release",
        "--output=/out.efi",
        "--stub=/stub",
        "--uname=6.12",
    ]


def test_os_release_says_nothing_that_changes_with_a_build() -> None:
    assert dict(line.split("=") for line in OS_RELEASE.splitlines()) == {
        "ID": "ccinit",
        "NAME": "ccinit",
        "PRETTY_NAME": "ccinit",
    }
