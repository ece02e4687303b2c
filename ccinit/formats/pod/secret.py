"""`[[secret]]` of `pod.toml`: resources of the KBS as files or variables of containers."""

from ccinit.annotations import ClassVar, TypeAlias
from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.kbs.resource_uri import KbsUri, parse_kbs_uri
from ccinit.formats.kbs.sealed_secret import PREFIX, SealedSecret, parse_sealed_secret
from ccinit.formats.pod.name import check_path, check_variable, read_name
from ccinit.values import frozen

MAX_FILES_BYTES = 1 << 20
"""Of all files that one container is given, secret or not."""

_MAX_MODE = 0o777
_MAX_VARIABLE_BYTES = 128
_MAX_SETTING_BYTES = (128 << 10) - 1  # NAME=value; with its NUL it is MAX_ARG_STRLEN of execve(2)


@frozen
class FileSecret:
    """A resource given to a container as a file, at `path` and with `mode`.

    Attributes:
        rotate: whether the file may be replaced while the container runs; its directory is then a
            mount that shows only such files.
        sealed: the sealed secret that named `uri`; None if the manifest named it.
    """

    WIRE_TAG: ClassVar[str] = "file"

    container: str
    uri: KbsUri
    path: str
    mode: int = 0o400
    rotate: bool = False
    sealed: SealedSecret | None = None


@frozen
class VariableSecret:
    """A resource given to a container as the environment variable `name`: all of the pod sees it.

    Attributes:
        sealed: as in `FileSecret`.
    """

    WIRE_TAG: ClassVar[str] = "variable"

    container: str
    uri: KbsUri
    name: str
    sealed: SealedSecret | None = None


PodSecret: TypeAlias = FileSecret | VariableSecret


def resources_of(secret: PodSecret) -> tuple[KbsUri, ...]:
    """Return what has to be fetched: the resource, and the key that signed a sealed secret."""
    return (secret.uri,) if secret.sealed is None else (secret.uri, secret.sealed.key)


def read_secret(fields: Fields) -> PodSecret:
    """Read one table.

    Raises:
        FormatError: `pod.secret.…`, the key that is wrong.
    """
    path = fields.optional_text("file")
    name = fields.optional_text("env", max_bytes=_MAX_VARIABLE_BYTES)
    if path is not None and name is None:
        return _read_file_secret(fields, path)
    if name is not None and path is None:
        return _read_variable_secret(fields, name)
    raise FormatError("pod.secret.file", "expected exactly one of file and env")


def decode_variable(secret: VariableSecret, content: bytes) -> str:
    """Return a secret's content as the value of its variable.

    Raises:
        FormatError: `run.env`, no environment can hold it.
    """
    try:
        value = content.decode()
    except UnicodeDecodeError:  # contains the secret, so do not chain it
        value = "\0"
    if "\0" in value:
        detail = f"{secret.name}: {secret.uri} is not UTF-8 text; `file` takes any bytes"
        raise FormatError("run.env", detail)
    size = len(secret.name.encode()) + len("=") + len(content)
    if size > _MAX_SETTING_BYTES:
        detail = f"{secret.name}: expected at most {_MAX_SETTING_BYTES} bytes with its value"
        raise LimitExceededError("run.env", f"{detail}, found {size}; `file` takes more")
    return value


def read_mode(fields: Fields, *, default: int) -> int:
    """Read the `mode` of a file that a container is given.

    Raises:
        FormatError: the key of `mode` in `fields`; `LimitExceededError`, if it is out of range.
    """
    try:
        return fields.integer("mode", low=0, high=_MAX_MODE, default=default)
    except LimitExceededError as error:  # 640, say, by somebody who has octal digits in mind
        detail = f"{error.detail}: TOML writes octal numbers with 0o, as in 0o{default:o}"
        raise LimitExceededError(error.reason, detail) from None


def _read_file_secret(fields: Fields, path: str) -> FileSecret:
    check_path(path, "pod.secret.file")
    uri, sealed = _read_resource(fields)
    return FileSecret(
        container=read_name(fields, "container", "pod.secret"),
        uri=uri,
        path=path,
        mode=read_mode(fields, default=0o400),
        rotate=fields.boolean("rotate", default=False),
        sealed=sealed,
    )


def _read_variable_secret(fields: Fields, name: str) -> VariableSecret:
    if fields.has("mode"):
        raise FormatError("pod.secret.mode", "only a file has a mode")
    if fields.has("rotate"):
        raise FormatError("pod.secret.rotate", "only a file can be replaced")
    check_variable(name, "pod.secret.env")
    uri, sealed = _read_resource(fields)
    return VariableSecret(
        container=read_name(fields, "container", "pod.secret"), uri=uri, name=name, sealed=sealed
    )


def _read_resource(fields: Fields) -> tuple[KbsUri, SealedSecret | None]:
    text = fields.text("uri")
    if not text.startswith(PREFIX):
        return parse_kbs_uri(text, "pod.secret.uri"), None
    sealed = parse_sealed_secret(text, "pod.secret.uri")
    return sealed.resource, sealed
