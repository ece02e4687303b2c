"""The pod `demo`: what its owner writes down, with the canaries that nobody else may ever see."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MIB = 1 << 20
KBS_ADDRESS, KBS_PORT = "10.0.2.100", 8443
REGISTRY_ADDRESS, REGISTRY_PORT = "10.0.2.101", 5000
SERVICE_PORT = 8080
OWNER_PORT = 8444
POD = "demo"
SCRATCH_BYTES = 1024 * MIB
VOLUME_BYTES = 64 * MIB
REPOSITORY = "demo/counter"

SECRET_URI = "kbs:///ccinit/demo/file-token"
VOLUME_KEY_URI = "kbs:///ccinit/demo/volume-key-data"
LOG_PSK_URI = "kbs:///ccinit/demo/log-psk"
DEBUG_GRANT_URI = "kbs:///ccinit/demo/debug-grant"
TLS_IDENTITY_URI = "kbs:///ccinit/demo/tls-identity"
IMAGE_KEY_URI = "kbs:///ccinit/demo/image-key-counter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Canaries:
    """Texts that stand for everything the host must not see come out of a guest.

    The host never sees the secret and the log line at all. The others are words of the initdata and
    of the image, which the host carries to the guest: public, but still no guest may repeat them.

    Attributes:
        comment: in both texts of the initdata.
        label: of the container image.
    """

    comment: str
    label: str
    secret: str
    env: str
    file_name: str
    container: str

    @property
    def log_line(self) -> str:
        """A part of the service's first line, which no other run writes."""
        return f"secret_sha256={hashlib.sha256(self.secret.encode()).hexdigest()}"

    def by_name(self) -> Mapping[str, bytes]:
        """Return what to search for, by the names of the report."""
        return {
            "secret": self.secret.encode(),
            "env value": self.env.encode(),
            "file name": self.file_name.encode(),
            "container name": self.container.encode(),
            "log line": self.log_line.encode(),
            "initdata comment": self.comment.encode(),
            "image label": self.label.encode(),
        }


Edit = Callable[[str, Canaries], str]
"""Returns what an owner writes in place of a text of this module."""


def leave(text: str, _canaries: Canaries) -> str:
    """Edit nothing."""
    return text


def ccinit_toml(
    *, kbs_ca_pem: str, log_public_key: str, client_ca_pem: str, debug_tools: str, comment: str
) -> str:
    """`ccinit.toml` of the pod; `debug_tools` is what `guest-owner debug tools` prints."""
    return f"""# {comment}
version = 1

[kbs]
url = "https://{KBS_ADDRESS}:{KBS_PORT}"
ca = {_text(kbs_ca_pem)}
envelope = "required"

[log]
public_key = "{log_public_key}"

[owner]
port = {OWNER_PORT}
client_ca = {_text(client_ca_pem)}

[limits]
network_seconds = 120
attest_seconds = 180

{debug_tools}"""


def pod_toml(*, digest: str, registry_ca_pem: str, canaries: Canaries, encryption: str) -> str:
    """`pod.toml` of the pod; `encryption` is that of its image."""
    return f"""# {canaries.comment}
version = 1
name = "{POD}"

[allow]
exec = ["{canaries.container}"]

[[image]]
name = "counter"
reference = "{REGISTRY_ADDRESS}:{REGISTRY_PORT}/{REPOSITORY}@{digest}"
ca = {_text(registry_ca_pem)}
encryption = "{encryption}"

[[container]]
name = "{canaries.container}"
image = "counter"
restart = "on-failure"
env = {{ DEMO_CANARY = "{canaries.env}", SECRET_FILE = "/run/secrets/{canaries.file_name}" }}

[[container.mount]]
volume = "data"
path = "/data"

[[secret]]
container = "{canaries.container}"
uri = "{SECRET_URI}"
file = "/run/secrets/{canaries.file_name}"
rotate = true

[[volume]]
name = "scratch"
kind = "scratch"
size_bytes = {SCRATCH_BYTES}

[[volume]]
name = "data"
kind = "persistent"
size_bytes = {VOLUME_BYTES}
key = "{VOLUME_KEY_URI}"
"""


def _text(value: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(value)
