"""The image's bytes depend on the tree alone."""

from pathlib import Path

from rootfs_builder.guest_image.erofs import erofs_command


def test_command_fixes_everything_that_could_vary() -> None:
    command = erofs_command(Path("/tree"), Path("/image"))
    assert command[-2:] == ("/image", "/tree")
    fixed = {"--workers=1", "--all-root", "-T0", "-x-1"}
    assert fixed <= set(command)
    assert sum(argument.startswith("-U") for argument in command) == 1
