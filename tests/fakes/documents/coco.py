"""An `aa.toml` and a `cdh.toml` as owners write them for Confidential Containers, and the guest's
own files without what those say.

The forms are those of the guest components' example configurations; both name one KBS.
"""

import json
from collections.abc import Mapping

from tests.fakes.documents.guest import CONFIG, POD

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
AA==
-----END CERTIFICATE-----
"""
REGISTRY_ROOTS = tuple(CERTIFICATE.replace("AA", text) for text in ("BB", "CC"))
URL = "https://kbs.example:8443"
AA = f"""\
[token_configs]

[token_configs.kbs]
url = "{URL}"
cert = '''
{CERTIFICATE}'''
"""
KBC = f'''\
[kbc]
name = "cc_kbc"
url = "{URL}"
kbs_cert = """
{CERTIFICATE}"""
'''
IMAGE = f'''\
[image]
image_security_policy_uri = "kbs:///default/security-policy/test"
authenticated_registry_credentials_uri = "kbs:///default/credential/test"
extra_root_certificates = ["""
{REGISTRY_ROOTS[0]}""", """
{REGISTRY_ROOTS[1]}"""]
'''
CDH = f"{KBC}\n{IMAGE}"

NAMES_KBS = f'url = "{URL}"\n', f"ca = '''\n{CERTIFICATE}'''\n"
NAMES_IMAGE = 'auth = "kbs:///ccinit/shop/file-auth"\n', 'ca = "-----BEGIN CERTIFICATE-----"\n'
BARE_CONFIG = CONFIG.replace(NAMES_KBS[0], "").replace(NAMES_KBS[1], "")
BARE_POD = POD.replace(NAMES_IMAGE[0], "").replace(NAMES_IMAGE[1], "")
WHOLE_POD = BARE_POD.replace(
    '[[container]]\nname = "web"',
    f"""\
policy = "kbs:///default/security-policy/test"
auth = "kbs:///default/credential/test"
ca = '''
{REGISTRY_ROOTS[0]}{REGISTRY_ROOTS[1]}'''
[[container]]
name = "web\"""",
)
"""The same pod, all in the guest's own words."""


def document_of(files: Mapping[str, str]) -> bytes:
    """Join files into a document, by name, without a look at what is in them."""
    data = "".join(f"{json.dumps(name)} = {json.dumps(text)}\n" for name, text in files.items())
    return f'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n{data}'.encode()
