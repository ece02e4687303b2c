"""The host of one running guest: offers a network, passes on requests, collects the log, watches.

The guest may be hostile, so whatever is written on its account (lines of the container's log, bytes
of the sealed log) has a limit.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from ccinit.errors import CcinitError
from ccinit.formats.planes.host_rpc import Code, Phase, RpcError
from host_runtime.launch.guest import EndReason, Guest, Progress
from host_runtime.oci_runtime.host_requests import HostRequests
from host_runtime.oci_runtime.sealed_logs import Keep, SealedLog
from host_runtime.plane.rpc_client import CallRefusedError, GuestClient, GuestState, NetworkOffer
from host_runtime.programs.thread_start import start_thread

_RETRY_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.1
"""Between two tries to learn a guest's state. A guest that fails in CONFIG listens for little more
than the two seconds of its end, in which the host learns why it ended, or never does."""

_WAIT_MS: Final = 10_000
_ASK_AGAIN_MS: Final = 200  # a guest's end lasts two seconds
_JOIN_SECONDS: Final = 5.0


class GuestHost:
    """What the host does for a guest beside waiting for its end.

    Attributes:
        last: the last state that the guest told, if any.
        pod_exit_code: the pod's exit code, if the manifest lets the host know.

    Args:
        offer: the network to offer to the guest, if it has one.
        grace_seconds: how long containers may take to stop.
        sealed_log: of this boot.
        say: gets a line about each thing that happens to the guest.
    """

    def __init__(
        self,
        guest: Guest,
        requests: HostRequests,
        *,
        offer: NetworkOffer | None,
        grace_seconds: int,
        sealed_log: SealedLog,
        say: Progress,
    ) -> None:
        self.last: GuestState | None = None
        self.pod_exit_code: int | None = None
        self._guest = guest
        self._requests = requests
        self._offered = offer
        self._grace_seconds = grace_seconds
        self._sealed_log = sealed_log
        self._say = say
        self._over = threading.Event()

    def serve(self) -> EndReason:
        """Be the guest's host until it ends; return how it ended.

        Raises:
            OSError: as `start_thread`.
        """
        parts = (self._pass_on_requests, self._collect, self._watch)
        threads = [threading.Thread(target=part, daemon=True) for part in parts]
        for thread in threads:
            start_thread(thread)
        end = self._guest.wait_for_end()
        self._over.set()
        self._requests.end()
        for thread in threads:
            thread.join(_JOIN_SECONDS)
        return end

    def _watch(self) -> None:
        is_answered = False
        with self._guest.client() as client:
            while not self._over.is_set():
                try:
                    last = self.last
                    is_asking = last is not None and last.phase >= Phase.STOP and not is_answered
                    wait_ms = _ASK_AGAIN_MS if is_asking else _WAIT_MS
                    state = client.wait(last.sequence, wait_ms) if last else client.state()
                except CcinitError:  # not up yet, or gone
                    self._over.wait(_LOOK_SECONDS)
                    continue
                if not self._note(state):
                    self._over.wait(_LOOK_SECONDS / 2)  # slows down a guest that changes a lot
                if state.phase >= Phase.STOP and not is_answered:
                    is_answered = self._ask_exit_code(client)

    def _ask_exit_code(self, client: GuestClient) -> bool:
        """Ask for the pod's exit code; return whether the guest has given its final answer.

        Without the code, a failed pod would look like a success.
        """
        try:
            self.pod_exit_code = client.exit_code()
        except CallRefusedError as error:  # as a rule the host is not to know, or there is none
            return not error.is_for_now
        except CcinitError:  # it is slow, or gone
            return False
        self._say(f"the pod's exit code is {self.pod_exit_code}")
        return True

    def _note(self, state: GuestState) -> bool:
        """Note a state as the last one, and report it if it is new.

        Only a later phase or a first code counts, so that a lying guest cannot fill the log.
        """
        last = self.last
        if last is not None and last.code is not Code.OK:
            state = replace(state, code=last.code)
        if last is not None and state.phase <= last.phase and state.code is last.code:
            self.last = replace(last, sequence=state.sequence)
            return False
        self.last = state
        self._say(f"phase {state.phase.name}, code {state.code.name}")
        return True

    def _collect(self) -> None:
        try:
            with self._sealed_log.opened(self._say) as keep:
                self._collect_into(keep)
        except OSError as error:
            path = self._sealed_log.path
            self._say(f"the sealed log is not kept any more: {path}: {error.strerror}")

    def _collect_into(self, keep: Keep) -> None:
        cursor = 0
        with self._guest.client() as client:
            while not self._over.is_set():
                with suppress(CcinitError):  # not up yet, or gone
                    for chunk in client.collect(cursor):
                        if not keep(chunk.blob):
                            return
                        cursor = chunk.next_cursor
                    return
                self._over.wait(_RETRY_SECONDS)

    def _pass_on_requests(self) -> None:
        offered, started, stopped = self._offered is None, False, False
        asked = self._requests
        with self._guest.client() as client:
            while not self._over.is_set() and not stopped:
                asked.changed.clear()
                if asked.stop.is_set():
                    stopped = self._try(client, self._stop, Phase.STOP)
                if asked.start.is_set() and not started:
                    started = self._try(client, GuestClient.start, Phase.START)
                if not offered:
                    offered = self._try(client, self._offer, Phase.NET)
                is_done = offered and started == asked.start.is_set() and not asked.stop.is_set()
                asked.changed.wait(None if is_done else _RETRY_SECONDS)

    def _try(
        self, client: GuestClient, call: Callable[[GuestClient], None], last_phase: Phase
    ) -> bool:
        """Make a call; return whether it is settled: accepted, or too late.

        `start` is refused (DENIED) by a pod that starts by itself.
        """
        try:
            call(client)
        except CallRefusedError as error:
            if error.is_for_now:
                return self.last is not None and self.last.phase > last_phase
            if error.error is not RpcError.DENIED:
                self._say(f"{error.detail} [{error.reason}]")
        except CcinitError:
            return False  # not up yet
        return True

    def _stop(self, client: GuestClient) -> None:
        client.stop(self._grace_seconds)
        self._say(f"asked to stop within {self._grace_seconds} s")

    def _offer(self, client: GuestClient) -> None:
        if self._offered is not None:
            client.offer_network(self._offered)
