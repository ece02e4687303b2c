"""Administration over the network: the calls of Trustee's client tools that mean something here.

The calls store and remove resources, and register and list reference values, as `guest-owner
register` does on the owner's machine. Policies are not among them: this KBS decides by
`policy.toml` and its own verifiers, and runs no Rego. To accept a Rego policy would be to ignore
it, so it is refused with an explanation.

Every call, refused ones included, is in the audit log before anything changes, with the files that
it replaces or removes, and the digests of all but resources. If a call that was recorded as
accepted then fails, a second record says so.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

from ccinit.errors import CcinitError
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from guest_owner.kbs.administration.administrators import read_administrators
from guest_owner.kbs.administration.token import verify_admin_token
from guest_owner.kbs.audit.log import AuditLog
from guest_owner.kbs.audit.record import AuditRecord, Decision, Event
from guest_owner.kbs.exclusion import changing
from guest_owner.kbs.refusal import KbsRefusedError, Variant
from guest_owner.kbs.state.local_changes import describe_present
from guest_owner.kbs.state.reference_files import document_file, key_file, reference_file
from guest_owner.kbs.state.rvps import REFERENCE, encode_references, parse_rvps_message
from guest_owner.kbs.state.store import MINTED, RESOURCES, Store, attestation_key_name
from guest_owner.kbs.state.uses import judge_uses
from guest_owner.resources.contents import check_body

_NO_REGO = (
    "this KBS decides by policy.toml and runs no Rego; nothing was changed, "
    "use `guest-owner policy` on the owner's machine"
)


class AdminCall:
    """One call of an administrator who has shown a valid token."""

    def __init__(self, store: Store, audit: AuditLog, request: str, administrator: str) -> None:
        self._store = store
        self._audit = audit
        self._request = request
        self._administrator = administrator

    def judge_resource(self, path: str, body: bytes) -> Iterator[None]:
        """Refuse a body that no guest would take, document by document; it is not stored yet.

        Others are to be answered between two documents, of which there may be a thousand.

        Raises:
            KbsRefusedError: no such name; as `check_body`; as `judge_uses`.
        """
        uri = self._parse_path(path)
        try:
            check_body(uri, body)
            for _told in judge_uses(self._store, uri, body):
                yield
        except CcinitError as error:
            raise self.refuse(error) from error

    def put_resource(self, path: str, body: bytes) -> None:
        """Store a resource's body as it is, replacing an older one, but not a volume's key.

        `judge_resource` has judged it, by what was registered then. What must not be replaced,
        whatever has come since, the store looks at again while it has the state for itself.

        Raises:
            KbsRefusedError: no such name; the store refuses the body.
        """
        self._change_resource(path, lambda uri: self._store.write_resource(uri, body))

    def delete_resource(self, path: str) -> None:
        """Remove a resource.

        Raises:
            KbsRefusedError: no such resource.
        """
        self._change_resource(path, self._store.delete_resource)

    def register(self, message: bytes) -> None:
        """Register what an RVPS message says: all of it, or nothing if a part cannot be registered.

        Raises:
            KbsRefusedError: malformed, or with a name that means nothing here.
        """
        try:
            registrations = parse_rvps_message(message)
        except CcinitError as error:
            raise self.refuse(error, Variant.RVPS_ERROR) from error

        names = {
            "reference": [reference.name for reference in registrations.references],
            "ak": [attestation_key_name(key) for key in registrations.attestation_keys],
            "initdata": [initdata.pod_name for initdata in registrations.documents],
        }

        def commit() -> None:
            self._store.register(
                registrations.references,
                {attestation_key_name(key): key for key in registrations.attestation_keys},
                {initdata.pod_name: initdata.document for initdata in registrations.documents},
            )

        registered = ", ".join(f"{kind} {name}" for kind, some in names.items() for name in some)
        file_of = {"reference": reference_file, "ak": key_file, "initdata": document_file}
        files = [file_of[kind](name) for kind, some in names.items() for name in some]
        self._perform(commit, files, Variant.RVPS_ERROR, registered)

    def list_references(self, name: str) -> bytes:
        """Return the registered reference values as JSON; `name` is `REFERENCE`, or "" for all.

        Raises:
            KbsRefusedError: any other name.
        """
        if name not in {"", REFERENCE}:
            raise self._refuse_text(f"only {REFERENCE} is listed", Variant.RVPS_ERROR)
        try:
            listed = encode_references(self._store.read_references().sets)
        except CcinitError as error:
            self._record(Decision.REFUSED, str(error))
            raise
        self._record(Decision.ACCEPTED)
        return listed

    def refuse_policy(self) -> KbsRefusedError:
        """Return the refusal of a call that would set or show a Rego policy."""
        return self._refuse_text(_NO_REGO, Variant.POLICY_ENGINE_ERROR, status=501)

    def refuse(
        self, error: CcinitError, variant: Variant = Variant.PLUGIN_INTERNAL_ERROR
    ) -> KbsRefusedError:
        """Return the refusal of a call that failed with this error."""
        self._record(Decision.REFUSED, str(error))
        return KbsRefusedError.because(error, variant, str(error))

    def note_refusal(self, refusal: KbsRefusedError) -> None:
        """Record that a call was refused before it was read whole."""
        self._record(Decision.REFUSED, refusal.detail)

    def refuse_path(self) -> KbsRefusedError:
        """Return the refusal of a call that does not exist."""
        return self._refuse_text("no such call", Variant.INVALID_REQUEST_PATH)

    def _parse_path(self, path: str) -> ResourceUri:
        try:
            return parse_resource_uri("kbs:///" + path, "resource.path")
        except CcinitError as error:
            raise self.refuse(error) from error

    def _change_resource(self, path: str, change: Callable[[ResourceUri], object]) -> None:
        uri = self._parse_path(path)
        files = [f"{folder}/{uri.path}" for folder in (RESOURCES, MINTED)]
        self._perform(lambda: change(uri), files, Variant.PLUGIN_INTERNAL_ERROR)

    def _perform(
        self,
        commit: Callable[[], object],
        files: Iterable[str],
        variant: Variant,
        registered: str = "",
    ) -> None:
        """Record a call, with those of `files` that are there before it, and make its change."""
        with ExitStack() as held:
            try:
                held.enter_context(changing(self._store.root))
                replaced = describe_present(self._store.root, files)
            except CcinitError as error:
                raise self.refuse(error, variant) from error
            self._record(Decision.ACCEPTED, registered=registered, replaced=replaced)
            try:
                commit()
            except CcinitError as error:
                raise self.refuse(error, variant) from error

    def _refuse_text(
        self, reason: str, variant: Variant, *, status: int | None = None
    ) -> KbsRefusedError:
        self._record(Decision.REFUSED, reason)
        return KbsRefusedError(variant, reason, status=status)

    def _record(
        self, decision: Decision, reason: str = "", registered: str = "", replaced: str = ""
    ) -> None:
        self._audit.append(
            AuditRecord(
                event=Event.ADMIN,
                decision=decision,
                reason=reason,
                request=self._request,
                administrator=self._administrator,
                registered=registered,
                replaced=replaced,
            )
        )


class Administration:
    """Admits whoever shows a valid token of a registered key; nobody if none is registered."""

    def __init__(
        self, store: Store, audit: AuditLog, clock: Callable[[], float] = time.time
    ) -> None:
        """Args: clock: seconds since 1970."""
        self._store = store
        self._audit = audit
        self._clock = clock

    def authorize(self, bearer: str | None, request: str) -> AdminCall:
        """Return the call that `request`, method and path, may make.

        Raises:
            KbsRefusedError: no token, or an invalid one; only the audit log says why.
        """
        try:
            keys = read_administrators(self._store.root)
            administrator = verify_admin_token(bearer or "", keys, now=self._clock())
        except CcinitError as error:
            self._audit.append(
                AuditRecord(
                    event=Event.ADMIN,
                    decision=Decision.REFUSED,
                    reason=str(error),
                    request=request,
                )
            )
            told = "admin access denied"
            raise KbsRefusedError.because(error, Variant.ADMIN_AUTH_ACCESS, told) from error
        return AdminCall(self._store, self._audit, request, administrator)
