"""The exported policies: complete, free of test images, and equal to the copies in docs/."""

import base64
import json
import re
from pathlib import Path

import pytest

from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.policy import parse_policy
from guest_owner.kbs.references.measurements.image import Boot, SnpMeasurements
from guest_owner.kbs.references.requirements import parse_requirements
from guest_owner.kbs.references.values import Profile, References, RegisteredKey
from guest_owner.trustee.export import (
    appraisal_policy,
    reference_values,
    resource_policy,
)
from tests.unit.guest_owner.kbs.snp_values import (
    REQUIREMENTS,
    requirements,
    snp_image,
    snp_references,
)
from tests.unit.guest_owner.kbs.values import boot_of, initdata, reference_set

DOCS = Path(__file__).parents[4] / "docs/trustee-policy"
PROD, DIRECT = reference_set(), reference_set("image-2", boot=Boot.DIRECT)
TEST = reference_set("image-1-test", Profile.TEST)
PARAVISOR = f'paravisor = ["{"ab" * 48}"]\n'.encode() + REQUIREMENTS
REFERENCES = References(
    sets=(PROD, DIRECT, TEST),
    attestation_keys=(RegisteredKey(name="node", public_der=b"key"),),
    initdata=(initdata(),),
)
POLICY = parse_policy(b"""
version = 1
[[rule]]
resources = "ccinit/shop/*"
profile = "prod"
references = ["image-1"]
initdata = ["shop"]
[[rule]]
resources = "test/*/*"
profile = "test"
initdata = ["shop"]
""")


def rules_of(text: str) -> object:
    found = re.search(r"^rules := (\[.*?^\])$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_reference_values_leave_test_images_out() -> None:
    values = reference_values(REFERENCES)
    assert values["ccinit_tpm_boot"] == [boot_of(PROD), boot_of(DIRECT)]
    assert boot_of(DIRECT).endswith(":" + "00" * 32)
    assert values["ccinit_tpm_initdata"] == [initdata().register.hex()]
    assert values["ccinit_tpm_attestation_keys"] == ["a2V5"]


def test_resource_policy_holds_the_resolved_production_rules() -> None:
    assert rules_of(resource_policy(POLICY, REFERENCES)) == [
        {
            "resources": ["ccinit", "shop", "*"],
            "boots": [f"tpm:{boot_of(PROD)}"],
            "initdata": [
                f"tpm:{initdata().register.hex()}",
                f"snp:{initdata().digest.hex}",
                f"snp:{base64.b64encode(initdata().digest.raw).decode()}",
                f"tdx:{initdata().sha384.hex()}",
            ],
        }
    ]


def test_snp_images_are_exported_as_each_release_shows_them() -> None:
    known = snp_references(snp_image(), snp_image("image-2-test", Profile.TEST))
    values = reference_values(known)
    measured = snp_image().measured
    assert isinstance(measured, SnpMeasurements)
    assert values["ccinit_snp_measurement"] == [
        text
        for value in measured.values
        for text in (value.hex(), base64.b64encode(value).decode())
    ]
    assert values["ccinit_snp_tcb"] == ["4:0:24:219"]
    (rule,) = json.loads(json.dumps(rules_of(resource_policy(POLICY, known))))
    assert rule["boots"] == [f"snp:{text}" for text in values["ccinit_snp_measurement"]]


def test_firmware_with_a_part_that_no_claim_shows_is_not_exported() -> None:
    turin = b"""
[[product]]
name = "Turin"
fmc = 1
bootloader = 1
tee = 1
snp = 1
microcode = 1
"""
    known = snp_references(demanded=requirements(turin))
    assert reference_values(known)["ccinit_snp_tcb"] == ["4:0:24:219"]


def test_demands_on_an_svsm_are_not_exported_as_demands_on_azure() -> None:
    lower = PARAVISOR.replace(b"snp = 24", b"snp = 3")
    azure = parse_requirements(PARAVISOR, Tee.AZ_SNP_VTPM)
    svsm = parse_requirements(lower, Tee.SVSM)
    alone = reference_values(References(requirements=(azure,)))
    assert alone["ccinit_az_snp_tcb"] == ["4:0:24:219"]
    assert reference_values(References(requirements=(azure, svsm))) == alone


def test_every_reference_value_that_the_policy_asks_for_is_exported() -> None:
    asked = set(re.findall(r'query_reference_value\("(\w+)"\)', appraisal_policy()))
    assert asked == set(reference_values(REFERENCES))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("default_cpu.rego", appraisal_policy()),
        ("example-resource-policy.rego", resource_policy(POLICY, REFERENCES)),
        (
            "example-reference-values.json",
            json.dumps(reference_values(REFERENCES), indent=2) + "\n",
        ),
    ],
)
def test_copies_in_docs_are_what_the_command_writes(name: str, text: str) -> None:
    assert (DOCS / name).read_text() == text
