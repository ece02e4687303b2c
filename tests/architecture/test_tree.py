"""Rules of the tree that no linter knows."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.fakes.documents.coco import AA, BARE_CONFIG, BARE_POD, CDH, document_of

ROOT = Path(__file__).resolve().parents[2]
NEVER_IN_PID1 = {
    *("_hashlib", "asyncio", "base64", "dataclasses", "gzip", "httpx", "inspect", "logging"),
    *("pyroute2", "ssl", "string", "subprocess", "threading", "tomllib", "typing_extensions"),
    *("ipaddress", "json", "random", "ccinit.formats.kbs.rcar", "ccinit.formats.tcg.tpm_commands"),
    "ccinit.formats.initdata.coco_config",
    "cryptography.hazmat.backends.openssl.backend",
    "cryptography.hazmat.primitives.ciphers",
}
PACKAGES = (
    ROOT / "ccinit",
    ROOT / "guest-owner/src",
    ROOT / "host-runtime/src",
    ROOT / "measured-boot/src",
    ROOT / "rootfs-builder/src",
)
SOURCES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def source_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_sources_to_check() -> None:
    assert len(SOURCES) > 50


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [path for path in SOURCES if path.stem in VAGUE_NAMES] == []


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_source_is_small_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no module docstring"
    assert text.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=source_id)
def test_verify_functions_return_what_they_verified(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("verify_"):
            assert ast.unparse(node.returns or ast.Constant(None)) != "bool", node.name


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.name == "__init__.py"], ids=source_id
)
def test_package_file_holds_a_docstring_only(path: Path) -> None:
    assert len(ast.parse(path.read_text()).body) == 1


def test_layers_within_a_package_leave_no_module_out() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    within = [each for each in contracts if each["type"] == "layers" and "containers" in each]
    assert len(within) > 8
    assert [each["name"] for each in within if not each.get("exhaustive")] == []


def test_error_tree_is_drawn_as_it_is() -> None:
    text = (ROOT / "ccinit/errors.py").read_text()
    tree = ast.parse(text)
    drawn = set(re.findall(r"\w+Error\b", (ast.get_docstring(tree) or "").split("Every")[0]))
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert drawn - {"OSError"} == classes


def test_nothing_unfinished_and_no_machine_path_is_committed() -> None:
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    marks = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")
    found = []
    for name in filter(None, files):
        path = ROOT / name
        if not path.is_file() or path.suffix in {".lock", ".bin", ".txt"}:
            continue
        text = path.read_text(errors="replace")
        if marks.search(text) or str(ROOT) + "/" in text:
            found.append(name)
    assert found == []


def test_pid1_imports_no_heavy_library_before_its_phase() -> None:
    loaded = modules_loaded_by(
        "from ccinit.__main__ import main\n"
        "sys.argv[1:] = []\n"
        "try: main()\n"
        "except SystemExit as end: assert 'is PID 1' in end.code\n"
    )
    assert "ccinit.rpc.server" in loaded
    later = {"ccinit.agent.processes.children", "contextlib", "cryptography", "typing"}
    assert loaded & (NEVER_IN_PID1 | later) == set()


@pytest.mark.parametrize("role", ["index", "inspect", "layers", "reaper", "tree", "user"])
def test_child_whose_libraries_need_no_typing_goes_without(role: str) -> None:
    loaded = modules_loaded_by(
        "from ccinit.agent.processes.child import load_code\n"
        "from ccinit.agent.processes.roles import RIGHTS, Role\n"
        f"load_code(RIGHTS[Role({role!r})])\n"
    )
    assert "ccinit.annotations" in loaded
    assert "typing" not in loaded


def test_child_that_each_container_waits_for_loads_two_modules_of_its_own() -> None:
    base = "from ccinit.agent.processes.child import load_code\n"
    base += "from ccinit.agent.processes.roles import RIGHTS, Role\n"
    loaded = modules_loaded_by(f"{base}load_code(RIGHTS[Role.USER])\n")
    form = {"ccinit.formats.oci", "ccinit.formats.oci.user"}
    assert loaded - modules_loaded_by(base) == {"ccinit.run", "ccinit.run.users"} | form


def test_pid1_never_imports_what_reads_for_its_children() -> None:
    """With all phases' modules, and a log that is open: what is loaded late is loaded, too."""
    phases = ast.parse((ROOT / "ccinit/init/phases.py").read_text())
    names = {node.module for node in ast.walk(phases) if isinstance(node, ast.ImportFrom)}
    assert "ccinit.agent.phases.pod" in names
    keys = "".join(
        key.generate().public_key().public_bytes_raw().hex()
        for key in (MLKEM768PrivateKey, X25519PrivateKey)
    )
    loaded = modules_loaded_by(
        "from ccinit.init.lean import disable_libraries\n"
        "disable_libraries()\n"
        + "".join(f"import {name}\n" for name in sorted(filter(None, names)))
        + "log = ccinit.seal.log.SealedLog()\n"
        + f"log.open(bytes.fromhex('{keys}'), bytes(16))\n"
        "log.bind(b'evidence')\n"
        "log.sign()\n"
        "library = sys.modules['cryptography.hazmat.bindings._rust']\n"
        "assert not library.openssl._legacy_provider_loaded\n"
    )
    assert "ccinit.seal.stream" in loaded
    assert loaded & NEVER_IN_PID1 == set()


@pytest.mark.parametrize("role", ["config", "inspect", "signature", "unwrap", "workload"])
def test_child_that_may_read_json_has_the_library_before_it_gives_up_files(role: str) -> None:
    loaded = modules_loaded_by(
        "from ccinit.agent.processes.child import load_code\n"
        "from ccinit.agent.processes.roles import RIGHTS, Role\n"
        f"load_code(RIGHTS[Role({role!r})])\n"
    )
    assert {"ccinit.formats.encoding.strict_json", "json", "json.decoder"} <= loaded


@pytest.mark.parametrize("role", ["registry", "kbs", "endorse", "unpack"])
def test_decompressors_are_with_no_child_that_has_a_network(role: str) -> None:
    loaded = modules_loaded_by(
        "from ccinit.agent.processes.child import load_code\n"
        "from ccinit.agent.processes.roles import RIGHTS, Role\n"
        f"load_code(RIGHTS[Role({role!r})])\n"
    )
    has_network = "httpx" in loaded
    assert has_network == (role != "unpack")
    assert loaded.isdisjoint({"isal", "zstandard"}) == has_network


@pytest.mark.parametrize("preload", ["kept", "dropped"])
def test_child_that_parses_the_configuration_needs_no_more_files(preload: str) -> None:
    """By the time it is given the document it cannot open any."""
    files = {"ccinit.toml": BARE_CONFIG, "pod.toml": BARE_POD, "aa.toml": AA, "cdh.toml": CDH}
    rights = (
        "RIGHTS[Role.CONFIG]" if preload == "kept" else "replace(RIGHTS[Role.CONFIG], preload=())"
    )
    code = (
        "from ccinit.agent.processes.child import load_code\n"
        "from ccinit.agent.processes.roles import RIGHTS, Role\n"
        "from ccinit.values import replace\n"
        f"run, request = load_code({rights})\n"
        "sys.meta_path.clear()\n"
        f"assert run(request(document={document_of(files)!r}), None).manifest.name == 'shop'"
    )
    if preload == "kept":
        assert "ccinit.formats.initdata.coco_config" in modules_loaded_by(code)
        return
    with pytest.raises(subprocess.CalledProcessError) as caught:
        modules_loaded_by(code)
    assert "ModuleNotFoundError" in caught.value.stderr


def modules_loaded_by(code: str) -> set[str]:
    """Return what a fresh interpreter has imported once it ran `code`.

    It has the guest's stand-in for sysconfig: from Python 3.13.18 on, `ctypes` imports that module,
    and the library's own brings threading with it.
    """
    replaced = str(ROOT / "rootfs-builder/mkosi/replaced/library")
    start = f"import sys\nsys.path.insert(0, {replaced!r})\nimport sysconfig\n"
    start += f"sys.path[:1] = {sys.path}\n"
    report = "\nprint(*(name for name, module in sys.modules.items() if module))"
    command = [sys.executable, "-S", "-c", f"{start}{code}{report}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_distribution_is_not_the_stranger_of_the_public_index() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "ccinit-guest"
    assert "Private :: Do Not Upload" in project["classifiers"]
    spec = find_spec("ccinit")
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).parent == ROOT / "ccinit"


def test_requirement_files_hold_hashes_and_no_address() -> None:
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text()
        assert "://" not in text, path.name
        assert text.count("==") > 0, path.name
        assert text.count("--hash=sha256:") >= text.count("=="), path.name
