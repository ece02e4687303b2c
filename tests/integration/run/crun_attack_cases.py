"""Images that try to get hold of what `crun` has open while it makes a container: for `crun_cases`.

Every number of a descriptor is tried: which ones crun has open depends on its version.
"""

from pathlib import Path

from ccinit.values import replace
from tests.vm.guest.containers import IMAGE, container, supervise, workload

NUMBERS = range(3, 24)
PLACES = ("/proc/self/fd/{}", "/proc/self/task/1/fd/{}", "/links/{}")


async def directories(work: Path) -> dict[str, object]:
    """Begin in a directory that crun may have open, by its path and by a link of the image.

    A descriptor of a directory outside the root would lead there (CVE-2024-21626, of runc).
    """
    links = work / "layer/links"
    links.mkdir(parents=True)
    for number in NUMBERS:
        (links / str(number)).symlink_to(f"/proc/self/fd/{number}")
    paths = [place.format(number) for place in PLACES for number in NUMBERS]
    seen: dict[str, object] = {}
    for path in (*paths, "/tmp"):
        given = workload(
            container("import os; print(os.getcwd())"),
            work,
            image=replace(IMAGE, working_dir=path),
            lowers=(str(work / "layer"), "/"),
            scratch=f"{work}/scratch-{len(seen)}",
        )
        report = await supervise(given, work)
        seen[path] = report["stdout"], report["events"]
    return report | {"seen": seen}
