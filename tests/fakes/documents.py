"""A ccinit.toml and a pod.toml that the guest accepts."""

import base64

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
public_key = "{base64.b64encode(bytes(1216)).decode()}"
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
