"""What takes the place of modules of the library and of wheels: libraries work with it, and less.

Each test runs the same program twice, with the stand-ins and without them, and the second is the
control: it loads what the first leaves out.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPLACED = Path(__file__).resolve().parents[3] / "rootfs-builder/mkosi/replaced"
WHEELS = ("certifi", "httpcore", "httpx", "pyroute2", "zstandard")
LEFT_OUT = shutil.ignore_patterns("_main.py")  # of httpx, as no image has it

Folders = tuple[Path | str, Path]
"""The stand-ins for the library, if there are any, and the wheels."""

BEGIN = """
import sys
library, wheels = sys.argv[1:]
sys.modules["anyio"] = None  # no image has it
sys.path.insert(0, wheels)
if library:
    sys.path.insert(0, library)
    import email, http, urllib
    for package in (email, http, urllib):
        package.__path__.insert(0, library + "/" + package.__name__)
"""
CLIENT = """
import httpcore, httpx
cookies = []
def answer(request):
    cookies.append(request.headers.get("cookie"))
    return httpx.Response(200, headers=[("set-cookie", "a=b; Path=/")], content=request.content)
with httpx.Client(transport=httpx.MockTransport(answer), trust_env=False) as client:
    for content in (b"body", iter([b"bo", b"dy"])):
        assert client.post("https://registry.example/", content=content).content == b"body"
    client.cookies.clear()
httpcore.ConnectionPool().close()
names = "http.client tempfile ast traceback email.header mimetypes pathlib httpcore._async.http11"
print(*cookies, *(name for name in names.split() if name in sys.modules))
"""
QUESTIONS = """
import functools, inspect
def generator(): yield
async def coroutine(): pass
async def stream(): yield
class Kind:
    field: int
    async def method(self): pass
class Awaited:
    def __await__(self): yield
@functools.wraps(generator)
def wrapping(): pass
things = [generator, coroutine, stream, Kind, Kind().method, Awaited(), len, None]
things += [generator(), coroutine(), stream(), functools.partial(generator), wrapping]
for name in "isfunction isgenerator isasyncgen iscoroutine isawaitable iscoroutinefunction".split():
    print(name, *(getattr(inspect, name)(thing) for thing in things))
print(inspect.unwrap(wrapping) is generator, inspect.get_annotations(Kind))
things[9].close()
"""
VALUES = """
import dataclasses
@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 2
assert Point(1) == Point(x=1, y=2) and hash(Point(1)) == hash(Point(1, 2))
print(Point(1), "ast" in sys.modules)
"""
LOOP = """
import asyncio
async def add(first, second):
    await asyncio.sleep(0)
    return first + second
async def main():
    return await asyncio.gather(add(1, 2), asyncio.wait_for(add(3, 4), 60))
print(asyncio.run(main()), "logging.NullHandler" if hasattr(asyncio.log.logger, "root") else "")
"""
LINKS = """
from pyroute2.iproute.linux import IPRoute
with IPRoute() as links:
    print(links.get_links()[0].get_attr("IFLA_IFNAME"))
names = "unittest.case argparse difflib multiprocessing.context pickle"
print(*(name for name in names.split() if name in sys.modules))
"""
DECOMPRESSION = """
import zstandard
decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 20)
print(decompressor.decompressobj().decompress(bytes.fromhex("28b52ffd2004210000626f6479")))
try:
    decompressor.decompressobj().decompress(b"not zstd")
except zstandard.ZstdError:
    print("platform" in sys.modules)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return what nothing takes the place of."""
    wheels = tmp_path_factory.mktemp("own")
    for name in WHEELS:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        shutil.copytree(Path(spec.origin).parent, wheels / name, ignore=LEFT_OUT)
    return "", wheels


@pytest.fixture(scope="module")
def stand_ins(own: Folders, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return the same as the image has it."""
    wheels = tmp_path_factory.mktemp("ours")
    shutil.copytree(own[1], wheels, dirs_exist_ok=True)
    for name in WHEELS:
        shutil.copytree(REPLACED / "wheels" / name, wheels / name, dirs_exist_ok=True)
    return REPLACED / "library", wheels


def run(program: str, folders: Folders) -> str:
    command = (sys.executable, "-S", "-c", BEGIN + program, *folders)
    environment = {"PYTHONPATH": str(Path(pytest.__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_client_keeps_no_cookie_and_loads_no_second_client(stand_ins: Folders) -> None:
    assert run(CLIENT, stand_ins) == "None None\n"


def test_client_with_the_librarys_own_does_both(own: Folders) -> None:
    everything = "http.client tempfile ast traceback email.header mimetypes pathlib"
    assert run(CLIENT, own) == f"None a=b {everything} httpcore._async.http11\n"


def test_stand_in_answers_as_inspect_does(stand_ins: Folders, own: Folders) -> None:
    answers = run(QUESTIONS, own)
    assert answers.count("True") > 10
    assert run(QUESTIONS, stand_ins) == answers


def test_values_of_dataclasses_need_no_source(stand_ins: Folders, own: Folders) -> None:
    assert run(VALUES, stand_ins) == "Point(x=1, y=2) False\n"
    assert run(VALUES, own) == "Point(x=1, y=2) True\n"


def test_asyncio_runs_with_a_logger_that_is_off(stand_ins: Folders, own: Folders) -> None:
    assert run(LOOP, stand_ins) == "[3, 7] \n"
    assert run(LOOP, own) == "[3, 7] logging.NullHandler\n"


def test_zstandard_asks_for_no_platform(stand_ins: Folders, own: Folders) -> None:
    assert run(DECOMPRESSION, stand_ins) == "b'body'\nFalse\n"
    assert run(DECOMPRESSION, own) == "b'body'\nTrue\n"


def test_netlink_brings_no_tests_and_no_worker_processes(stand_ins: Folders, own: Folders) -> None:
    everything = "unittest.case argparse difflib multiprocessing.context pickle"
    assert run(LINKS, stand_ins) == "lo\n\n"
    assert run(LINKS, own) == f"lo\n{everything}\n"
