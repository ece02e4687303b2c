"""The files of an initdata document's `[data]`, read together: each setting has one place.

`ccinit.toml` and `pod.toml` are the guest's own. CoCo's `aa.toml` and `cdh.toml` may give some of
the settings instead; the result is the same as if the guest's files had given them.
"""

from ccinit.errors import FormatError
from ccinit.formats.initdata.coco_config import parse_coco_settings
from ccinit.formats.initdata.document import Initdata
from ccinit.formats.initdata.guest_config import EnvelopePolicy, GuestConfig, parse_guest_config
from ccinit.formats.kbs.resource_uri import PluginUri
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from ccinit.formats.pod.resources import name_resources
from ccinit.formats.pod.scratch_tags import check_tag_budget


def parse_guest_files(initdata: Initdata) -> tuple[GuestConfig, PodManifest]:
    """Parse every file that a document has.

    Raises:
        FormatError: `aa.…`, `cdh.…`, `ccinit.…` or `pod.…`, the key that is wrong;
            `ccinit.kbs.twice` or `pod.image.twice`, a setting that one of CoCo's files names, too;
            as `check_agreement`.
    """
    coco = parse_coco_settings(initdata.aa_toml, initdata.cdh_toml)
    config = parse_guest_config(initdata.config_toml, coco.kbs)
    manifest = parse_pod_manifest(initdata.pod_toml, coco.images)
    check_agreement(config, manifest)
    return config, manifest


def check_agreement(config: GuestConfig, manifest: PodManifest) -> None:
    """Refuse what each of the two may say, but not both.

    Raises:
        FormatError: `pod.secret.uri`, a plugin's reply has no envelope that could say that it is
            what was asked for, and one is required; `pod.resource`, as `name_resources`;
            `pod.volume.size_bytes`, as `check_tag_budget`; `pod.container.probe`, a probe that the
            owner plane would answer.
    """
    if config.kbs.envelope is EnvelopePolicy.REQUIRED:
        for secret in manifest.secrets:
            if isinstance(secret.uri, PluginUri):
                raise FormatError("pod.secret.uri", f'{secret.uri} needs kbs.envelope = "none"')
    name_resources(manifest, with_identity=config.owner is not None)
    if config.owner is not None and config.owner.port:
        _check_probes(manifest, config.owner.port)
    check_tag_budget(manifest.volumes, config.limits.scratch_tags_bytes)


def _check_probes(manifest: PodManifest, taken_port: int) -> None:
    for container in manifest.containers:
        alive = None if container.alive is None else container.alive.probe
        for probe in (container.ready, alive):
            if probe is not None and probe.tcp_port == taken_port:
                detail = f"{container.name}: at {taken_port} the owner plane answers"
                raise FormatError("pod.container.probe", detail)
