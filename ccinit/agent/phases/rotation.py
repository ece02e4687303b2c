"""Rotation: the pod's secret files get what the KBS holds now, on request or by schedule.

The guest attests anew, fetches what the manifest allows to rotate, and replaces every file that
differs; a reader finds either the old content or the new, never a mix. Then containers whose files
have changed get the signal that the manifest names. If the KBS refuses, nothing changes: the pod
keeps what it has, and the log says why.
"""

import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ccinit.agent.guest import Guest
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.kbs_session import Grant, fetch_grants, want, wipe_grants
from ccinit.errors import CcinitError, ConfigError, as_known
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import KbsUri
from ccinit.formats.pod.secret import FileSecret, resources_of
from ccinit.kernel.event_loop import sleep
from ccinit.run.workload import SecretFile


class Rotation:
    """Rotates the secrets of one pod; one rotation at a time, whoever asks for it."""

    def __init__(self, guest: Guest, configured: Configured, attested: Attested) -> None:
        self._guest = guest
        self._configured = configured
        self._attested = attested

    async def rotate(self) -> int:
        """Fetch and replace; return how many files have changed. Failures are logged, too.

        Raises:
            ConfigError: `rotate.none`, the manifest allows no rotation; `rotate.ended`.
            CcinitError: as `fetch_grants`; nothing has changed.
            KernelError: a file could not be replaced and keeps its old content, as others may. The
                next rotation replaces all of them.
        """
        try:
            return await self._rotate()
        except (CcinitError, OSError) as error:  # a bare OSError is a refusal by the kernel, too
            self._guest.event(f"rotation: failed: {as_known(error)}")
            raise

    async def keep(self, seconds: int) -> None:
        """Rotate every `seconds` until cancelled; a failed rotation is retried when next due."""
        while True:
            await sleep(seconds)
            with suppress(CcinitError, OSError):
                await self.rotate()

    async def _rotate(self) -> int:
        secrets = self._rotating()
        if not secrets:
            raise ConfigError("rotate.none", "no [[secret]] of the manifest says rotate = true")
        resources = dict.fromkeys(
            (uri for secret in secrets for uri in resources_of(secret)), EnvelopeKind.FILE
        )
        wanted = want(self._configured.manifest, resources)
        async with self._attested.rotating:
            fetched = await fetch_grants(self._guest, self._configured, wanted)
            try:
                files = [one for one in secrets if self._differs(one.uri, fetched)]
                self._attested.uneven.update(one.uri for one in files)
                self._replace(files, fetched)
            except BaseException:
                wipe_grants(fetched)
                raise
            self._attested.uneven.clear()
            self._keep_fetched(fetched)
        self._guest.event(f"rotation: {len(files)} of {len(secrets)} files have changed")
        return len(files)

    def _rotating(self) -> tuple[FileSecret, ...]:
        secrets = self._configured.manifest.secrets
        return tuple(one for one in secrets if isinstance(one, FileSecret) and one.rotate)

    def _differs(self, uri: KbsUri, fetched: Mapping[KbsUri, Grant]) -> bool:
        if uri in self._attested.uneven:
            return True
        return fetched[uri].secret.reveal() != self._attested.grants[uri].secret.reveal()

    def _keep_fetched(self, fetched: Mapping[KbsUri, Grant]) -> None:
        """Put the new grants in place of the pod's old ones, which are wiped."""
        grants = self._attested.grants
        for uri, grant in fetched.items():
            grants[uri].secret.wipe()
            grants[uri] = grant

    def _replace(self, files: Sequence[FileSecret], fetched: Mapping[KbsUri, Grant]) -> None:
        """Replace files of containers that are running or may run again, then signal these."""
        if not self._guest.containers:
            raise ConfigError("rotate.ended", "the pod has been stopped meanwhile")
        for container in self._configured.manifest.containers:
            mine = tuple(
                SecretFile(
                    path=one.path,
                    mode=one.mode,
                    content=fetched[one.uri].secret,
                    rotates=True,
                )
                for one in files
                if one.container == container.name
            )
            supervisor = self._guest.containers[container.name]
            if not mine or supervisor.life.is_final:
                continue
            supervisor.replace_secrets(mine)
            if container.rotate_signal:
                number = signal.Signals[f"SIG{container.rotate_signal}"]
                with suppress(ConfigError):  # none is running; the next run finds the new content
                    supervisor.send_signal(number)
