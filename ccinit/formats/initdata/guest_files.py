"""The files of an initdata document's `[data]`, read together: each setting has one place.

`ccinit.toml` and `pod.toml` are the guest's own. CoCo's `aa.toml` and `cdh.toml` may say a part of
it in their place; what comes out is the same as if the guest's files had said it.
"""

from ccinit.formats.initdata.coco_config import parse_coco_settings
from ccinit.formats.initdata.document import Initdata
from ccinit.formats.initdata.guest_config import GuestConfig, parse_guest_config
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest


def parse_guest_files(initdata: Initdata) -> tuple[GuestConfig, PodManifest]:
    """Parse every file that a document has.

    Raises:
        FormatError: `aa.…`, `cdh.…`, `ccinit.…` or `pod.…`, the key that is wrong;
            `ccinit.kbs.twice` or `pod.image.twice`, a setting that one of CoCo's files names, too.
    """
    coco = parse_coco_settings(initdata.aa_toml, initdata.cdh_toml)
    return (
        parse_guest_config(initdata.config_toml, coco.kbs),
        parse_pod_manifest(initdata.pod_toml, coco.images),
    )
