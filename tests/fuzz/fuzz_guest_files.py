"""Invariant: an initdata document, whatever its bytes and those of the files in it, is the guest's
two values or a refusal that names the file; and of what is accepted CoCo's files hold nothing but
the settings that those two values have from there, which the guest's own files do not name.

Run as `python -m tests.fuzz.fuzz_guest_files [SECONDS [SEED]]`.
"""

import random
import tomllib

from ccinit.errors import CcinitError
from ccinit.formats.initdata.document import Initdata, parse_initdata
from ccinit.formats.initdata.guest_config import GuestConfig
from ccinit.formats.initdata.guest_files import parse_guest_files
from ccinit.formats.pod.manifest import PodManifest
from tests.fakes.documents.coco import AA, BARE_CONFIG, BARE_POD, CDH, IMAGE, KBC, document_of
from tests.fakes.documents.guest import CONFIG, POD
from tests.fuzz.mutation import mutate_text
from tests.fuzz.trials import Trials, run

FILES = "ccinit.toml", "pod.toml", "aa.toml", "cdh.toml", "policy.rego", "x"
SEEDS = (
    {"ccinit.toml": CONFIG, "pod.toml": POD},
    {"ccinit.toml": BARE_CONFIG, "pod.toml": POD, "aa.toml": AA},
    {"ccinit.toml": BARE_CONFIG, "pod.toml": BARE_POD, "cdh.toml": CDH},
    {"ccinit.toml": CONFIG, "pod.toml": BARE_POD, "cdh.toml": IMAGE},
    {"ccinit.toml": BARE_CONFIG, "pod.toml": BARE_POD, "aa.toml": AA, "cdh.toml": CDH},
)
LINES = (
    *f"{CONFIG}{POD}{AA}{KBC}{IMAGE}".encode().splitlines(keepends=True),
    *(b"x = 1\n", b'"', b"'''", b"[", b"{}", b"\0", b"\n", b"\xff", b"[log]\n", b"socket = ''\n"),
)
OWN_REASONS = {"initdata", "ccinit", "pod", "reference", "aa", "cdh"}
EQUALS = {
    "policy": "image_security_policy_uri",
    "auth": "authenticated_registry_credentials_uri",
    "ca": "extra_root_certificates",
}


def parse_or_refuse(document: bytes) -> tuple[Initdata, GuestConfig, PodManifest] | None:
    """Return the values, or None for a refusal by one of the files."""
    try:
        initdata = parse_initdata(document)
        return initdata, *parse_guest_files(initdata)
    except CcinitError as error:
        refused = error
    assert refused.reason.split(".")[0] in OWN_REASONS, refused
    return None


def check_origin(initdata: Initdata, config: GuestConfig, pod: PodManifest) -> None:
    """Compare with what a TOML reader finds in the files."""
    own = tomllib.loads(initdata.config_toml)["kbs"]
    images = tomllib.loads(initdata.pod_toml).get("image", [])
    addresses = []
    if initdata.aa_toml is not None:
        aa = tomllib.loads(initdata.aa_toml)
        kbs = aa["token_configs"]["kbs"]
        assert aa == {"token_configs": {"kbs": {"url": kbs["url"], "cert": kbs["cert"]}}}
        addresses.append((kbs["url"], kbs["cert"]))
    if initdata.cdh_toml is not None:
        cdh = tomllib.loads(initdata.cdh_toml)
        assert cdh.keys() <= {"kbc", "image"}
        if "kbc" in cdh:
            assert cdh["kbc"].keys() == {"name", "url", "kbs_cert"}
            addresses.append((cdh["kbc"]["url"], cdh["kbc"]["kbs_cert"]))
        said = cdh.get("image", {})
        assert said.keys() <= set(EQUALS.values())
        for key, equal in EQUALS.items():
            assert not said.get(equal) or not any(key in image for image in images)
    assert all(one == (config.kbs.url, config.kbs.ca_pem) for one in addresses)
    assert {"url", "ca"} & own.keys() == (set() if addresses else {"url", "ca"})
    assert len(pod.images) == len(images)


def mutate(source: random.Random) -> bytes:
    """Change the text of a file, add or drop one, or change the document around them."""
    files = dict(source.choice(SEEDS))
    for _ in range(source.randrange(1, 3)):
        name = source.choice(tuple(files))
        changed = mutate_text(source, files[name].encode(), LINES)
        match source.randrange(8):
            case 0:
                del files[name]
                files |= {source.choice(FILES): changed.decode("utf-8", errors="replace")}
            case 1:
                files |= source.choice(SEEDS)
            case 2:
                pass
            case _:
                files[name] = changed.decode("utf-8", errors="replace")
    document = document_of(files)
    return document if source.randrange(8) else mutate_text(source, document, LINES)


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    trials, accepted = Trials(seconds, seed), 0
    for source in trials:
        if (values := parse_or_refuse(mutate(source))) is not None:
            accepted += 1
            check_origin(*values)
    trials.require(accepted, one_in=100)
    return trials.count


if __name__ == "__main__":
    run(main)
