"""What takes the place of modules of the standard library: httpx works with it, without cookies."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = ROOT / "rootfs-builder/mkosi/replaced/library"
CLIENT = """
import http, sys, urllib
for folder in sys.argv[1:]:
    for package in (http, urllib):
        package.__path__.insert(0, folder + "/" + package.__name__)
import httpx
cookies = []
def answer(request):
    cookies.append(request.headers.get("cookie"))
    return httpx.Response(200, headers=[("set-cookie", "a=b; Path=/")], text="body")
with httpx.Client(transport=httpx.MockTransport(answer), trust_env=False) as client:
    for _ in range(2):
        assert client.get("https://registry.example/").text == "body"
    client.cookies.clear()
print(*cookies, "http.client" in sys.modules, "tempfile" in sys.modules)
"""


def run_client(*folders: Path) -> str:
    done = subprocess.run(
        (sys.executable, "-c", CLIENT, *folders), capture_output=True, text=True, check=True
    )
    return done.stdout


def test_client_keeps_no_cookie_and_loads_no_second_client() -> None:
    assert run_client(LIBRARY) == "None None False False\n"


def test_client_with_the_librarys_own_does_both() -> None:
    assert run_client() == "None a=b True True\n"
