"""Names of pods and volumes on a command line: only what a pod.toml can have, since no guest ever
asks, or answers, under another.
"""

from ccinit.formats.encoding.fields import Fields
from ccinit.formats.pod.name import read_name


def check_names(where: str, **names: str) -> None:
    """Refuse what is no name, in the guest's own words.

    Args:
        where: prefix of the reasons.
        names: what was given, by what it names.

    Raises:
        FormatError: `<where>.<what it names>`.
    """
    with Fields(names, where) as fields:
        for key in names:
            read_name(fields, key, where)
