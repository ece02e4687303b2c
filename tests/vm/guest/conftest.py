"""Both halves of the in-guest tests: collected on the host, run in a guest, reported on the host.

On the host the first of these items boots one guest for all that are selected, or two: what lies in
`under_systemd` runs in a guest whose PID 1 is systemd. Each item then replays the reports that came
out of its guest. Inside the guest the same items run as they are. The modules here are imported on
the host too, so at import they may use only what exists in both.
"""

import json
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPORTS = os.environ.get("CCINIT_GUEST_REPORTS")
_HOST_TIMEOUT_SECONDS = 1200


def is_ours(item: pytest.Item) -> bool:
    """Whether the test lies here: pytest calls these hooks for the items of every directory."""
    return HERE in item.path.parents


def is_under_systemd(item: pytest.Item) -> bool:
    """Whether the test is for a guest whose PID 1 is systemd."""
    return HERE / "under_systemd" in item.path.parents


def pytest_itemcollected(item: pytest.Item) -> None:
    if not is_ours(item):
        return
    item.add_marker(pytest.mark.vm)
    if REPORTS is None:
        item.add_marker(pytest.mark.timeout(_HOST_TIMEOUT_SECONDS))


if REPORTS is None:
    from tests.vm.harness.boot import BootResult, boot_guest

    _BOOTS = pytest.StashKey[dict[bool, BootResult]]()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
        if not is_ours(item):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        boot = _boot_once(item.session, of_systemd=is_under_systemd(item))
        for report in _replay(item, boot):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _boot_once(session: pytest.Session, *, of_systemd: bool) -> BootResult:
        boots = session.stash.setdefault(_BOOTS, {})
        if of_systemd not in boots:
            ours = [item for item in session.items if is_ours(item)]
            selected = [item.nodeid for item in ours if is_under_systemd(item) == of_systemd]
            name = "guest tests under systemd" if of_systemd else "guest tests"
            try:
                boots[of_systemd] = boot_guest(selected, name, is_under_systemd=of_systemd)
            except Exception:  # noqa: BLE001  # here it would end the session, not fail these tests
                text = traceback.format_exc()
                boots[of_systemd] = BootResult(reports={}, console=text, seconds=0.0)
        return boots[of_systemd]

    def _replay(item: pytest.Item, boot: BootResult) -> Iterator[pytest.TestReport]:
        data = boot.reports.get(item.nodeid, [])
        for entry in data:
            yield item.config.hook.pytest_report_from_serializable(config=item.config, data=entry)
        if "teardown" not in [entry["when"] for entry in data]:
            yield pytest.TestReport(
                nodeid=item.nodeid,
                location=item.location,
                keywords={},
                outcome="failed",
                longrepr=f"the guest ended during this test or before it\n{boot.console}",
                when="call",
                duration=0.0,
            )

else:
    _PORT = Path(REPORTS).open("w", buffering=1)  # noqa: SIM115  # lives as long as the guest

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(report: pytest.TestReport) -> None:
        _PORT.write(json.dumps(_serialise(report)) + "\n")

    def _serialise(report: pytest.TestReport) -> dict[str, object]:
        data = report._to_json()
        data["$report_type"] = "TestReport"
        return data
