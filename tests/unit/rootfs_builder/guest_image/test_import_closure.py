"""The closure holds what imports can reach, and stops where it is told to."""

from pathlib import Path

import pytest

from rootfs_builder.guest_image.import_closure import SearchRoot, compute_closure, imported_names


def write(root: Path, files: dict[str, str]) -> SearchRoot:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return SearchRoot(path=root)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b, c", {"a.b", "c"}),
        ("from a import b", {"a", "a.b"}),
        ("from . import b", {"p.q", "p.q.b"}),
        ("from ..r import s", {"p.r", "p.r.s"}),
        ("try:\n import a\nexcept ImportError:\n import b", {"a", "b"}),
        ("class C:\n import a", {"a"}),
        ("if TYPE_CHECKING:\n import a\nelse:\n import b", {"b"}),
        ("if typing.TYPE_CHECKING:\n import a", set()),
        ("if __name__ == '__main__':\n import a", set()),
        ("'import a'", set()),
    ],
)
def test_names_of_each_form_of_import_are_found(source: str, names: set[str]) -> None:
    assert imported_names(source, "p.q", nested=True) == names


def test_imports_inside_functions_count_only_if_asked_for() -> None:
    source = "def f():\n import a\nasync def g():\n import b\n"
    assert imported_names(source, "p", nested=True) == {"a", "b"}
    assert imported_names(source, "p", nested=False) == set()


def test_closure_follows_packages_relatives_and_cycles(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "main.py": "import pack.one",
            "pack/__init__.py": "",
            "pack/one.py": "from . import two",
            "pack/two.py": "import main, missing",
            "pack/three.py": "",
            "other.py": "",
        },
    )
    closure = compute_closure(["main"], [root], frozenset())
    assert sorted(closure) == ["main", "pack", "pack.one", "pack.two"]
    assert closure["pack"].path == tmp_path / "pack/__init__.py"


def test_closure_finds_shared_libraries(tmp_path: Path) -> None:
    root = write(tmp_path, {"main.py": "import fast", "fast.cpython-313-x86_64-linux-gnu.so": ""})
    assert compute_closure(["main"], [root], frozenset())["fast"].path.suffix == ".so"


def test_closure_of_a_starred_entry_is_the_whole_package(tmp_path: Path) -> None:
    root = write(
        tmp_path, {"pack/__init__.py": "", "pack/a.py": "", "pack/sub/__init__.py": "import x"}
    )
    assert sorted(compute_closure(["pack.**"], [root], frozenset())) == [
        "pack",
        "pack.a",
        "pack.sub",
    ]


def test_closure_stops_at_excluded_names_and_below_them(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {"main.py": "import pdb.sub, good", "pdb/__init__.py": "import bad", "pdb/sub.py": "",
         "good.py": "", "bad.py": ""},
    )  # fmt: skip
    assert sorted(compute_closure(["main"], [root], frozenset({"pdb"}))) == ["good", "main"]


def test_first_root_wins_and_each_has_its_own_depth(tmp_path: Path) -> None:
    ours = write(tmp_path / "ours", {"main.py": "def f():\n import library", "library.py": ""})
    theirs = SearchRoot(
        path=write(
            tmp_path / "theirs", {"library.py": "", "deep.py": "def f():\n import main"}
        ).path,
        nested=False,
    )
    closure = compute_closure(["main", "deep"], [ours, theirs], frozenset())
    assert closure["library"].root == tmp_path / "ours"
    alone = compute_closure(["deep"], [theirs, ours], frozenset())
    assert sorted(alone) == ["deep"]


@pytest.mark.parametrize("entry", ["nowhere", "nowhere.**"])
def test_entry_that_does_not_exist_is_an_error(tmp_path: Path, entry: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        compute_closure([entry], [write(tmp_path, {"a.py": ""})], frozenset())
