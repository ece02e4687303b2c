"""Names of pods and volumes: only those that a pod.toml can have, since guests use no others."""

from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_toml import parse_toml
from ccinit.formats.initdata.document import parse_initdata
from ccinit.formats.pod.name import read_name


def check_names(where: str, **names: str) -> None:
    """Refuse invalid names, in the guest's own words.

    Args:
        where: prefix of the reasons.
        names: the given names, by what each is a name of.

    Raises:
        FormatError: `<where>.<what it names>`.
    """
    with Fields(names, where) as fields:
        for key in names:
            read_name(fields, key, where)


def read_pod_name(document: bytes) -> str:
    """Return the name of the pod that a registered document describes.

    The rest of `pod.toml` is not read: it was judged when it was registered, and the guest judges
    it at boot. Both may be of other versions than this one, and what this version refuses, or does
    not know, is no reason to withhold from a guest what is its pod's.

    Raises:
        FormatError: below `initdata`, `pod.toml`, `pod.version`, `pod.name`.
    """
    fields = Fields(parse_toml(parse_initdata(document).pod_toml.encode(), "pod.toml"), "pod")
    fields.integer("version", low=1, high=1)
    return read_name(fields, "name", "pod")
