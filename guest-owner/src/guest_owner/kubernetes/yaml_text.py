"""A Kubernetes document's YAML, read as Kubernetes reads it: into values of JSON.

YAML 1.1 and 1.2 disagree about plain scalars, and Kubernetes' reader (sigs.k8s.io/yaml) is between
them: `y` and `no` are truth values, `017` and `0o17` are 15, but a date or `22:22` is text. Its
values then go through JSON, in which `1.0` is 1, and where a key with null says nothing.
"""

import math
import re
from collections.abc import Hashable
from typing import Any, Final

import yaml

from ccinit.errors import FormatError

_Pair = tuple[yaml.ScalarNode, yaml.Node]

_MAX_ALIASES: Final = 32
"""Each may double the value: thirty lines can stand for more than a machine's memory holds."""
_MAX_NUMBER_BITS: Final = 63
_MAX_WHOLE: Final = 1 << 53
"""Below it, a float says which whole number it is."""
_TAG: Final = "tag:yaml.org,2002:"
_NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE: Final = frozenset(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"))
_FALSE: Final = frozenset(
    ("n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE")
)
_NO_NUMBER: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_INTEGER: Final = re.compile(
    r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)", re.ASCII
)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, since YAML readers disagree about which one counts.

    It also refuses what Kubernetes has no use for: numbers beyond its range, many aliases, and
    tags, which read a value as another type.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > _MAX_ALIASES:
                raise FormatError("kubernetes.yaml", f"more than {_MAX_ALIASES} aliases")
        elif event.tag not in {None, f"{_TAG}str"}:
            raise FormatError("kubernetes.yaml", "a tag: leave it out")
        return super().compose_node(parent, index)  # type: ignore[arg-type]  # a number or a node

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> Any:
        """Return a node's tag; `implicit[0]` says of a scalar that it is plain."""
        if kind is yaml.ScalarNode and value is not None and implicit[0]:
            return f"{_TAG}{_type_of(value)}"
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    def construct_yaml_bool(self, node: yaml.ScalarNode) -> bool:
        return node.value in _TRUE

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = _without_underscores(node.value).lower()
        sign, digits = text[: text[0] in "+-"], text[text[0] in "+-" :]
        is_old_octal = digits.isdigit() and digits[0] == "0"
        number = int(f"{sign}0o{digits}" if is_old_octal else text, 0)
        if number.bit_length() > _MAX_NUMBER_BITS:
            raise FormatError("kubernetes.yaml", f"a number of {number.bit_length()} bits")
        return number

    def construct_yaml_float(self, node: yaml.ScalarNode) -> int | float:
        if _NO_NUMBER.fullmatch(node.value):
            raise FormatError("kubernetes.yaml", f"{node.value} is not a number in JSON")
        number = float(_without_underscores(node.value))
        return int(number) if number.is_integer() and abs(number) < _MAX_WHOLE else number

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping as it is written, before others are merged into it by `<<`."""
        node = super().compose_mapping_node(anchor)
        if not all(isinstance(key, yaml.ScalarNode) for key, _ in node.value):
            raise FormatError("kubernetes.yaml", "a key is not text")
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) != len(keys):
            raise FormatError("kubernetes.duplicate", f"a key appears twice: {sorted(keys)}")
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge what `<<` names: a mapping's own keys count, then those of the first that has them.

        A key before a `<<` that brings it, too, is refused: to YAML it counts, but in a cluster
        whichever comes last does. PyYAML 6.0.4 has the last of several mappings count.
        """
        written, node.value = node.value, []  # empty: a mapping may be merged into itself
        merged, own = dict[str, _Pair](), dict[str, _Pair]()
        for pair in written:
            key, value = pair
            if key.tag != f"{_TAG}merge":
                own[key.value] = pair
                continue
            for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(one, yaml.MappingNode):
                    raise FormatError("kubernetes.yaml", "`<<` names what is no mapping")
                self.flatten_mapping(one)
                merged = {entry[0].value: entry for entry in one.value} | merged
            if twice := sorted(own.keys() & merged.keys()):
                detail = f"keys stand before `<<`, which has them, too; write it first: {twice}"
                raise FormatError("kubernetes.duplicate", detail)
        node.value = list((merged | own).values())

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - overridden
    ) -> dict[Hashable, Any]:
        found = super().construct_mapping(node, deep)
        return {key: value for key, value in found.items() if value is not None}


for _type in ("bool", "int", "float"):
    _Loader.add_constructor(f"{_TAG}{_type}", getattr(_Loader, f"construct_yaml_{_type}"))


def _type_of(plain: str) -> str:
    """Return which type of JSON a plain scalar has, or `merge`."""
    if plain in _NULLS:
        return "null"
    if plain in _TRUE or plain in _FALSE:
        return "bool"
    if plain == "<<":
        return "merge"
    if _NO_NUMBER.fullmatch(plain):
        return "float"
    number = _without_underscores(plain)
    if _INTEGER.fullmatch(number):
        return "int"
    # What is beyond a float's range stays text.
    return "float" if _FLOAT.fullmatch(number) and math.isfinite(float(number)) else "str"


def _without_underscores(text: str) -> str:
    """Return a text as numbers are read from it: if it begins as one, without underscores."""
    return text.replace("_", "") if text[0] in "+-0123456789" else text


def load_yaml(text: str) -> object:
    """Return what one YAML document says, as JSON would say it; a key with null is left out.

    Others beside it have to be empty, as templates leave them.

    Raises:
        FormatError: `kubernetes.yaml`, `kubernetes.duplicate`.
    """
    try:
        documents = [one for one in yaml.load_all(text, _Loader) if one is not None]
    # ValueError: thousands of digits. OverflowError: an escape far beyond Unicode.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise FormatError("kubernetes.yaml", f"not YAML: {_one_line(error)}") from error
    if len(documents) > 1:
        found = f"expected one document, found {len(documents)}: leave the Pod's alone in its file"
        raise FormatError("kubernetes.yaml", found)
    return documents[0] if documents else None


def _one_line(error: Exception) -> str:
    """Return what the YAML parser says, and where, without its excerpt of the text."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (at line {error.problem_mark.line + 1})"
    return " ".join(str(error).split())
