"""A ccinit.toml and a pod.toml that the guest accepts.

`FULL_POD` has tables of nearly every kind; `VERITY` is one more volume, to be put behind it.
"""

import base64

LOG_KEY = bytes(1184) + bytes((9,)) + bytes(31)  # ML-KEM-768, then X25519
CONFIG = f"""\
version = 1
[kbs]
url = "https://kbs.example:8443"
envelope = "required"
ca = '''
-----BEGIN CERTIFICATE-----
AA==
-----END CERTIFICATE-----
'''
[log]
public_key = "{base64.b64encode(LOG_KEY).decode()}"
"""
POD = """\
version = 1
name = "shop"
[[image]]
name = "web"
reference = "registry.example/web@sha256:{digest}"
auth = "kbs:///ccinit/shop/file-auth"
ca = "-----BEGIN CERTIFICATE-----"
[[container]]
name = "web"
image = "web"
[[secret]]
container = "web"
uri = "kbs:///ccinit/shop/file-password"
file = "/run/password"
[[volume]]
name = "scratch"
kind = "scratch"
size_bytes = 1073741824
""".format(digest="ab" * 32)
FULL_POD = """\
version = 1
name = "demo"
[[image]]
name = "web"
reference = "registry.example:5000/web@sha256:DIGEST"
policy = "kbs:///ccinit/demo/file-policy"
auth = "kbs:///ccinit/demo/file-auth"
ca = "-----BEGIN CERTIFICATE-----"
encryption = "required"
keys = ["kbs:///ccinit/demo/image-key"]
[[registry]]
prefix = "registry.example:5000"
[[registry.mirror]]
location = "mirror.example"
[[container]]
name = "main"
image = "web"
args = ["serve"]
user = "www-data"
cwd = "/srv"
depends_on = ["first"]
capabilities = ["CHOWN", "NET_BIND_SERVICE"]
stop_grace_seconds = 5
[container.ready]
tcp_port = 8080
[container.alive]
exec = ["/bin/check", "-q"]
delay_seconds = 1
period_seconds = 2
timeout_seconds = 3
failures = 4
[container.seccomp]
deny = ["chroot"]
[container.env]
A = "1"
[container.resources]
pids = 64
[[container.mount]]
volume = "data"
path = "/data"
[[container]]
name = "first"
image = "web"
kind = "init"
[[secret]]
container = "main"
uri = "kbs:///ccinit/demo/file-token"
file = "/run/secrets/token"
[[file]]
container = "main"
path = "/etc/web.conf"
text = "port = 8080"
[[volume]]
name = "scratch"
kind = "scratch"
size_bytes = 1073741824
[[volume]]
name = "data"
kind = "persistent"
size_bytes = 67108864
key = "kbs:///ccinit/demo/volume-key-data"
""".replace("DIGEST", "00" * 32)
VERITY = f"""
[[volume]]
name = "model"
kind = "verity"
size_bytes = 8392704
root_hash = "{"ab" * 32}"
salt = "{"cd" * 32}"
data_blocks = 2032
"""
