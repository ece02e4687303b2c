"""Keys that an image's layers name, from the owner's KBS over TLS, to the layer keys they open.

The agent's own composition runs; its children's jobs run in this process, the TPM is simulated.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.guest import PhaseTime
from ccinit.agent.jobs import kbs as kbs_job
from ccinit.agent.jobs.messages.evidence import EvidenceReply, EvidenceRequest
from ccinit.agent.jobs.messages.kbs import KbsRequest
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.image_keys import open_layer_keys
from ccinit.agent.processes.roles import Role
from ccinit.attest.detect import Platform
from ccinit.attest.tpm import TpmAttester
from ccinit.errors import CcinitError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.initdata.guest_config import EnvelopePolicy, Limits
from ccinit.formats.oci.layer_encryption import ImageEncryption, LayerKey
from ccinit.formats.pod.manifest import Image, parse_pod_manifest
from ccinit.kernel.event_loop import Lock
from ccinit.pull.encryption.unwrap import unwrap_job
from ccinit.pull.inspect import inspect_job
from ccinit.pull.messages.layers import InspectedImage, InspectRequest, UnwrapRequest
from ccinit.secret import Secret
from guest_owner.cli import main as guest_owner
from rootfs_builder.cli import main as rootfs_builder
from rootfs_builder.container_image.oci_layout import (
    ImageLayer,
    open_layout,
    read_blob,
    write_layout,
)
from tests.fakes.documents.guest import POD
from tests.fakes.images.registry import LAYER
from tests.fakes.platforms.measured_events import MeasuredEvents
from tests.fakes.platforms.tpm_device import SimulatedDevice, SimulatedTpm
from tests.integration.kbs.harness import DOCUMENT, Kbs, booted_tpm, make_state, running_kbs
from tests.integration.pull.native_pull import drive
from tests.integration.pull.real_registry import TOOLS

RELEASED = "kbs:///ccinit/shop/image-key-web"
DENIED = "kbs:///ccinit/bank/image-key"


@pytest.fixture(scope="module")
def kbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kbs]:
    with running_kbs(make_state(tmp_path_factory.mktemp("owner"))) as server:
        yield server


@dataclass
class Channel:
    """What a job has of the outside."""

    answers: Mapping[type, Callable[..., Any]]
    secrets: Mapping[str, Secret]

    def ask(self, question: object, kind: type) -> object:
        answer = drive(self.answers[type(question)](question)).value
        assert isinstance(answer, kind)
        return answer

    def read_secret(self, name: str) -> Secret:
        return Secret(self.secrets[name].reveal())


@dataclass
class Children:
    """The jobs themselves, in this process; each run is noted."""

    roles: list[Role] = field(default_factory=list)

    async def run(
        self,
        role: Role,
        request: Any,
        reply: type,
        *,
        answers: Any = None,
        secrets: Any = None,
        **_limits_and_fds: object,
    ) -> object:
        self.roles.append(role)
        channel = Channel(answers or {}, secrets or {})
        done = self._do(role, request, channel)
        assert isinstance(done, reply)
        return done

    def _do(self, role: Role, request: Any, channel: Any) -> object:
        match role:
            case Role.KBS:
                assert isinstance(request, KbsRequest)
                return kbs_job.run(request, channel)
            case Role.EVIDENCE:
                assert isinstance(request, EvidenceRequest)
                return evidence(request)
            case Role.UNWRAP:
                assert isinstance(request, UnwrapRequest)
                assert set(channel.secrets) == {"key"}
                return unwrap_job(request, channel)
            case _:
                raise AssertionError(role)


def evidence(request: EvidenceRequest) -> EvidenceReply:
    attester = TpmAttester(SimulatedDevice(SimulatedTpm(tpm=booted_tpm())))
    value = attester.collect_evidence(ReportData(request.report_data))
    return EvidenceReply(evidence=json.dumps(value).encode())


def make_inspected(work: Path, uri: str) -> InspectedImage:
    """Encrypt a small image with the builder's command, and read its manifest as the guest does."""
    plain = ImageLayer(media_type=LAYER, blob=b"packed", diff_id="sha256:" + "0" * 64)
    write_layout((plain,), {}, work / "plain")
    command = ("container-image", "encrypt", f"oci:{work / 'plain'}", f"oci:{work / 'encrypted'}")
    options = ("--recipient", uri, "--output", str(work / "output"), "--tools", str(TOOLS.path))
    assert rootfs_builder((*command, *options)) == 0
    image = open_layout(work / "encrypted")
    manifest = read_blob(image.layout, image.digest)
    config: str = json.loads(manifest)["config"]["digest"]
    return inspect_job(
        InspectRequest(
            pinned=parse_digest(image.digest),
            documents=(manifest,),
            config=read_blob(image.layout, config),
            encryption=ImageEncryption.REQUIRED,
        ),
        None,
    )


def register(kbs: Kbs, work: Path, uri: str, kind: str) -> None:
    """Register the key that the builder has written, by the owner's command."""
    key = work / "output/keys" / uri.removeprefix("kbs:///")
    command = ("register", "resource", "--state", str(kbs.state), uri, str(key))
    assert guest_owner((*command, "--kind", kind, "--envelope")) == 0


def open_keys(
    kbs: Kbs, inspected: InspectedImage, children: Children, envelope: EnvelopePolicy
) -> tuple[LayerKey, ...]:
    guest: Any = SimpleNamespace(
        children=children,
        figures=SimpleNamespace(evidence_made=0),
        evidence_lock=Lock(),
        phase_time=PhaseTime(),
    )
    configured: Any = SimpleNamespace(
        config=SimpleNamespace(kbs=kbs.config(envelope=envelope), limits=Limits(), owner=None),
        manifest=parse_pod_manifest(POD),
        platform=Platform(tee=Tee.TPM, open_report=lambda _data: nullcontext({})),
        measurement=MeasuredEvents(),
        document=DOCUMENT,
    )
    image = Image(name="web", reference="", policy=None, auth=None, ca_pem="")
    attested = Attested(grants={})
    return drive(open_layer_keys(guest, configured, attested, image, inspected))


def test_key_that_a_layer_names_is_released_after_another_handshake(
    kbs: Kbs, tmp_path: Path
) -> None:
    inspected = make_inspected(tmp_path, RELEASED)
    register(kbs, tmp_path, RELEASED, "image-key")
    children = Children()
    (key,) = open_keys(kbs, inspected, children, EnvelopePolicy.REQUIRED)
    assert (len(key.key), len(key.nonce)) == (32, 16)
    assert children.roles == [Role.KBS, Role.EVIDENCE, Role.UNWRAP]
    assert kbs.audit()[-1]["resource"] == RELEASED


def test_resource_that_is_for_another_use_is_no_key(kbs: Kbs, tmp_path: Path) -> None:
    inspected = make_inspected(tmp_path, RELEASED)
    register(kbs, tmp_path, RELEASED, "file")
    with pytest.raises(CcinitError) as refused:
        open_keys(kbs, inspected, Children(), EnvelopePolicy.REQUIRED)
    assert refused.value.reason == "envelope.kind"


def test_key_that_the_policy_denies_opens_nothing(kbs: Kbs, tmp_path: Path) -> None:
    inspected = make_inspected(tmp_path, DENIED)
    register(kbs, tmp_path, DENIED, "image-key")
    with pytest.raises(CcinitError) as refused:
        open_keys(kbs, inspected, Children(), EnvelopePolicy.REQUIRED)
    assert refused.value.reason == "kbs.policy_deny"


def test_bare_key_is_taken_where_no_envelope_is_required(kbs: Kbs, tmp_path: Path) -> None:
    inspected = make_inspected(tmp_path, RELEASED)
    key = tmp_path / "output/keys" / RELEASED.removeprefix("kbs:///")
    command = ("register", "resource", "--state", str(kbs.state), RELEASED, str(key))
    assert guest_owner(command) == 0
    (opened,) = open_keys(kbs, inspected, Children(), EnvelopePolicy.NONE)
    assert len(opened.key) == 32
