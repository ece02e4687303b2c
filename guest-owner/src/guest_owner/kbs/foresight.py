"""What the KBS would answer a guest for all that its document names, before it asks.

By the guest's own rules of what a resource has to hold (`resources.pod_contents`), and by the
policy's about who gets it.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.initdata.document import parse_initdata
from ccinit.formats.initdata.guest_config import EnvelopePolicy
from ccinit.formats.initdata.guest_files import parse_guest_files
from ccinit.formats.kbs.envelope import EnvelopeKind, verify_envelope
from ccinit.formats.kbs.resource_uri import KbsUri, PluginUri, ResourceUri
from ccinit.formats.kbs.rollback_counter import PLUGIN as COUNTER_PLUGIN
from ccinit.formats.kbs.rollback_counter import counter_rule
from ccinit.formats.pod.resources import name_counters
from guest_owner.files import naming
from guest_owner.kbs.appraisal import Subject
from guest_owner.kbs.policy import Allow, Deny, Policy, decide
from guest_owner.kbs.state.counters import Counters
from guest_owner.kbs.state.reference_files import document_file
from guest_owner.kbs.state.store import Store
from guest_owner.resources.contents import is_envelope
from guest_owner.resources.pod_contents import Judgement, judge_resources

ABSENT: Final = "no"
"""The defect of what is not registered: it answers whether it is."""
_COUNTER: Final = "counter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """One resource or counter that a guest's document names.

    Attributes:
        kind: what the document uses it for: a kind of envelope, or `counter`.
        defect: why the guest would not take what is registered, or `ABSENT`.
        decision: the policy's.
    """

    uri: KbsUri
    kind: str
    defect: str | None
    decision: Allow | Deny

    @property
    def is_given(self) -> bool:
        """Whether the guest would get it, in a form that it takes."""
        return self.defect is None and isinstance(self.decision, Allow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """All of them.

    Attributes:
        excess: why no guest takes all of them together; empty if one does.
    """

    resources: tuple[Foreseen, ...]
    excess: str

    @property
    def gets_all(self) -> bool:
        """Whether the guest would get all that its document names."""
        return not self.excess and all(one.is_given for one in self.resources)


def foresee(store: Store, policy: Policy, subject: Subject) -> Foresight:
    """Say of each resource what a guest with a registered document would get.

    Keys that only an image's layers name are not among them.

    Raises:
        ConfigError: `state.read`; with its reason, the document or a counter is damaged.
    """
    document = store.read_initdata(subject.initdata_name)
    with naming(store.root / document_file(subject.initdata_name)):
        config, pod = parse_guest_files(parse_initdata(document))
    contents = _Contents(store, in_envelopes=config.kbs.envelope is EnvelopePolicy.REQUIRED)
    judged = judge_resources(pod, contents.find, with_identity=config.owner is not None)
    found = (
        *_find_defects(contents, judged),
        *((uri, _COUNTER, _find_counter_defect(store, uri)) for uri in name_counters(pod)),
    )
    return Foresight(
        resources=tuple(
            Foreseen(uri=uri, kind=kind, defect=defect, decision=_decide(policy, subject, uri))
            for uri, kind, defect in found
        ),
        excess=judged.excess,
    )


@dataclass(frozen=True, slots=True)
class _Contents:
    """Resources as the guest will read them: in envelopes if its document demands these."""

    store: Store
    in_envelopes: bool

    def read(self, uri: ResourceUri, kind: EnvelopeKind) -> bytes:
        data = self.store.read_resource(uri)
        return verify_envelope(data, uri, kind).data if self.in_envelopes else data

    def find(self, uri: KbsUri, kind: EnvelopeKind) -> bytes | None:
        """Return what is registered in the form that the guest takes; `_find_defect` says why not.

        A resource that is made for each guest is not registered.
        """
        if isinstance(uri, ResourceUri):
            with suppress(FormatError, VerificationError):
                return self.read(uri, kind)
        return None


def _find_defects(
    contents: _Contents, judged: Judgement
) -> Iterator[tuple[KbsUri, str, str | None]]:
    unfit = {**judged.unfit, **judged.crowded}
    for uri, kind in judged.named.items():
        defect = f"unfit: {unfit[uri]}" if uri in unfit else _find_defect(contents, uri, kind)
        yield uri, kind.value, defect


def _find_defect(contents: _Contents, uri: KbsUri, kind: EnvelopeKind) -> str | None:
    """Say why the guest would not get a resource in its form, if it would not."""
    if not isinstance(uri, ResourceUri):
        return f"no plugin {uri.plugin} here"
    if contents.store.read_order(uri) is not None:
        return None
    try:
        data = contents.read(uri, kind)
    except VerificationError as error:
        return ABSENT if error.reason == "resource.absent" else error.reason
    except FormatError as error:
        return f"no envelope: {error.reason}"
    if not contents.in_envelopes and is_envelope(data):
        return "in an envelope, which nobody opens"
    return None


def _find_counter_defect(store: Store, uri: PluginUri) -> str | None:
    try:
        Counters(store.root).read(uri)
    except VerificationError:
        return ABSENT
    return None


def _decide(policy: Policy, subject: Subject, uri: KbsUri) -> Allow | Deny:
    """Decide as the KBS does about resources and counters; rules cover nothing else."""
    if isinstance(uri, PluginUri):
        if uri.plugin != COUNTER_PLUGIN:
            return Deny("no rule is about it")
        uri = counter_rule(uri)
    return decide(policy, uri, subject)
