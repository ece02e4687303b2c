"""`aa.toml` and `cdh.toml`: the settings of Confidential Containers that a guest takes over.

A guest has neither attestation-agent nor confidential-data-hub. Of their settings it takes over
three: where the KBS is, what vouches for it, and how images are pulled. It refuses all others, and
for the known ones says what takes their place, so that nothing an owner wrote is silently without
effect (docs/decisions/0021). Whether the guest's own files also have a setting is checked where
those are parsed.
"""

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.pem import MAX_PEM_BYTES, check_roots, read_roots
from ccinit.formats.encoding.strict_toml import parse_toml
from ccinit.formats.initdata.guest_config import KbsAddress
from ccinit.formats.initdata.origin import read_origin
from ccinit.formats.pod.manifest import ImageDefaults, read_optional_uri
from ccinit.values import frozen

_KBC = "cc_kbc"
_MAX_ROOTS = 16
_SOCKETS = "there are no services behind sockets here"
_LOG = "what the guest has to say is in the sealed log, whole"
_REGISTRIES = "how registries are reached is said by [[registry]] of pod.toml"
_SIMPLE_SIGNING = "where signatures are is no setting here: docs/image-policy.md"
_INSTEAD = {
    "aa": {
        "eventlog_config": "which register has the events follows from the platform",
        "log": _LOG,
    },
    "aa.token_configs": {
        "coco_as": "whose tokens are shown is said by [kbs.passport] of ccinit.toml",
    },
    "aa.token_configs.kbs": {
        "attestation_policy_selector": "a guest names no policy: the KBS's default judges it",
        "tee_key_algorithm": "it is kbs.tee_key_algorithm of ccinit.toml",
    },
    "cdh": {
        "aa": _SOCKETS,
        "credentials": "files from the KBS are [[secret]]s of pod.toml",
        "log": _LOG,
        "services_dir": _SOCKETS,
        "skip_sealed_secret_verification": "a sealed secret's signature is always verified",
        "socket": _SOCKETS,
    },
    "cdh.image": {
        "anonymous_fallback_on_unauthorized": "credentials that are refused end the pull",
        "image_pull_proxy": _REGISTRIES,
        "image_security_policy": "a policy is a resource: image_security_policy_uri",
        "max_concurrent_layer_downloads_per_image": "the guest decides",
        "registry_config": _REGISTRIES,
        "registry_configuration_uri": _REGISTRIES,
        "sigstore_config": _SIMPLE_SIGNING,
        "sigstore_config_uri": _SIMPLE_SIGNING,
        "work_dir": "where images are kept is said by [[volume]] of pod.toml",
    },
}


@frozen
class CocoSettings:
    """What both files say.

    Attributes:
        kbs: None if neither names a KBS.
        images: settings of `cdh.toml` for every image of the pod.
    """

    kbs: KbsAddress | None = None
    images: ImageDefaults = ImageDefaults()


def parse_coco_settings(aa_toml: str | None, cdh_toml: str | None) -> CocoSettings:
    """Parse the files of a document; None for a file that it does not have.

    Raises:
        FormatError: `aa.…` or `cdh.…`, the key that is wrong; `cdh.empty`, it says nothing;
            `cdh.kbc.differs`, it names another KBS than `aa.toml`.
    """
    by_agent = None if aa_toml is None else _parse_aa(aa_toml)
    settings = CocoSettings() if cdh_toml is None else _parse_cdh(cdh_toml)
    if by_agent is None:
        return settings
    if settings.kbs is not None:
        _check_same(by_agent, settings.kbs)
    return CocoSettings(kbs=by_agent, images=settings.images)


def _check_same(by_agent: KbsAddress, by_hub: KbsAddress) -> None:
    """Compare byte by byte: of two texts for one certificate, neither can be preferred."""
    if by_hub.url != by_agent.url:
        raise FormatError("cdh.kbc.differs", "url is another than in aa.toml")
    if by_hub.ca_pem != by_agent.ca_pem:
        raise FormatError("cdh.kbc.differs", "kbs_cert is another than cert in aa.toml")


def _parse_aa(text: str) -> KbsAddress:
    with Fields(parse_toml(text.encode(), "aa.toml"), "aa") as fields:
        _refuse_known(fields, "aa")
        return fields.table("token_configs", _read_token_configs)


def _read_token_configs(fields: Fields) -> KbsAddress:
    _refuse_known(fields, "aa.token_configs")
    return fields.table("kbs", _read_agents_kbs)


def _read_agents_kbs(fields: Fields) -> KbsAddress:
    _refuse_known(fields, "aa.token_configs.kbs")
    return _read_address(fields, "aa.token_configs.kbs", "cert", "aa.toml")


def _parse_cdh(text: str) -> CocoSettings:
    with Fields(parse_toml(text.encode(), "cdh.toml"), "cdh") as fields:
        _refuse_known(fields, "cdh")
        settings = CocoSettings(
            kbs=fields.optional_table("kbc", _read_kbc),
            images=fields.table("image", _read_images, default=ImageDefaults()),
        )
    if settings == CocoSettings():
        raise FormatError("cdh.empty", "neither a KBS nor a setting of images")
    return settings


def _read_kbc(fields: Fields) -> KbsAddress:
    name = fields.text("name")
    if name != _KBC:
        raise FormatError("cdh.kbc.name", f"only {_KBC} attests; found {name[:40]!r}")
    return _read_address(fields, "cdh.kbc", "kbs_cert", "cdh.toml")


def _read_address(fields: Fields, where: str, certificate: str, file: str) -> KbsAddress:
    url = read_origin(fields, where)
    if not fields.has(certificate):
        raise FormatError(f"{where}.{certificate}", "missing: the KBS is known by nothing else")
    return KbsAddress(
        url=url, ca_pem=read_roots(fields, certificate, f"{where}.{certificate}"), file=file
    )


def _read_images(fields: Fields) -> ImageDefaults:
    _refuse_known(fields, "cdh.image")
    return ImageDefaults(
        policy=read_optional_uri(fields, "image_security_policy_uri", "cdh.image"),
        auth=read_optional_uri(fields, "authenticated_registry_credentials_uri", "cdh.image"),
        ca_pem=_read_registry_roots(fields),
    )


def _read_registry_roots(fields: Fields) -> str | None:
    """Join the roots, which are the only ones: a guest has no list of public roots."""
    key, where = "extra_root_certificates", "cdh.image.extra_root_certificates"
    roots = fields.texts(key, max_items=_MAX_ROOTS, max_bytes=MAX_PEM_BYTES)
    pem = "".join(f"{check_roots(one, where).strip()}\n" for one in roots)
    if len(pem.encode()) > MAX_PEM_BYTES:
        raise FormatError(where, f"more than {MAX_PEM_BYTES} bytes in all")
    return pem or None


def _refuse_known(fields: Fields, where: str) -> None:
    for key, instead in _INSTEAD[where].items():
        if fields.has(key):
            raise FormatError(f"{where}.{key}", instead)
