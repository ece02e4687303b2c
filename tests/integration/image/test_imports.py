"""Stage 0's imports succeed, whatever the lists exclude: tried in a real interpreter."""

import os
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from rootfs_builder.guest_image.python_modules import GuestModule, _require_imports
from rootfs_builder.tools_tree import ToolsTree

TOOLS = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute())
REPLACED = Path("rootfs-builder/mkosi/replaced/library").absolute()


def try_imports(folder: Path, *names: str) -> None:
    (folder / "first.py").write_text("import second\n")
    (folder / "second.py").write_text("try:\n    import third\nexcept ImportError:\n    pass\n")
    (folder / "third.py").touch()
    modules = tuple(GuestModule(name=name, target="", file=folder) for name in names)
    _require_imports(TOOLS, folder, ("first",), [str(folder)], modules)


def test_module_that_another_misses_is_named(tmp_path: Path) -> None:
    """A newer interpreter may import what the lists exclude; such a guest is reset unheard."""
    try_imports(tmp_path, "first", "second", "third")
    try_imports(tmp_path, "first", "second")  # the third is missed by nobody
    with pytest.raises(ConfigError, match=r"first: .*No module named 'second'") as error:
        try_imports(tmp_path, "first", "third")
    assert error.value.reason == "python.import"


def test_ctypes_does_without_the_librarys_sysconfig_and_threading() -> None:
    """Python 3.13.18 imports the one for it, and so the other, which stage 0 has not."""
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(REPLACED)!r})
        import sysconfig
        assert sysconfig.__file__.startswith({str(REPLACED)!r})
        import ctypes
        assert sysconfig.get_config_var("LDLIBRARY") is None
        assert "threading" not in sys.modules
    """
    TOOLS.run(("python3.13", "-I", "-S", "-B", "-c", code), directories=(REPLACED,))
