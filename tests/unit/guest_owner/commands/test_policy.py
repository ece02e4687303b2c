"""`guest-owner policy`: rules, what they decide and why, and their export."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.audit.log import AuditLog
from guest_owner.kbs.audit.record import AuditRecord, Decision, Event
from guest_owner.kbs.state.store import Store
from guest_owner.trustee.export import appraisal_policy
from tests.unit.guest_owner.command_line import error_of, run
from tests.unit.guest_owner.kbs.values import (
    DOCUMENT,
    boot_of,
    booted_tpm,
    initdata,
    reference_set,
)

URI = "kbs:///ccinit/shop/file-password"


def allow(state: Path, pattern: str, *options: str) -> int:
    return run("policy", "allow", "--state", state, pattern, "--initdata", "shop", *options)


def test_allow_appends_a_rule_that_list_prints(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("policy", "list", "--state", state) == 0
    assert "nothing is released" in capsys.readouterr().out
    assert allow(state, "ccinit/shop/*", "--reference", "image-1") == 0
    assert allow(state, "test/*/*", "--profile", "test") == 0
    capsys.readouterr()
    assert run("policy", "list", "--state", state) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["1", "ccinit/shop/*", "prod", "image-1", "shop", "none"]
    assert lines[2].split() == ["2", "test/*/*", "test", "any", "shop", "none"]
    assert allow(state, "ccinit/*/*", "--profile", "test") == 1
    assert "[policy.rule.overlap]" in error_of(capsys)
    assert len(Store(state).read_policy().rules) == 2


def test_rule_that_is_there_is_not_added_again(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever repeats the command, and then removes the rule, means that it is gone."""
    allow = ("policy", "allow", "--state", state, "ccinit/shop/*", "--initdata", "shop")
    for more in ((), ("--reference", "image-1"), ()):
        assert run(*allow, *more) == 0
    told = capsys.readouterr().out.splitlines()
    again = ", as rule 1 says already"
    assert [line.endswith(again) for line in told] == [False, False, True]
    assert len(Store(state).read_policy().rules) == 2
    assert run("policy", "remove", "--state", state, "1") == 0
    (left,) = Store(state).read_policy().rules
    assert left.references == {"image-1"}


def test_allow_says_which_guests_it_has_let_in(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ("--reference", "image-2", "--reference", "image-1")
    assert allow(state, "ccinit/shop/*", *images) == 0
    assert allow(state, "ccinit/bank/*") == 0  # as one who forgets --reference
    device = ("--profile", "test", "--device", "sampledevice")
    assert allow(state, "test/*/*", *device, "--initdata", "pub") == 0
    assert capsys.readouterr().out.splitlines() == [
        "ccinit/shop/* may go to guests of image-1 or image-2 (prod) with initdata shop",
        "ccinit/bank/* may go to guests of any image (prod) with initdata shop",
        "test/*/* may go to guests of any image (test) with initdata pub or shop, and sampledevice",
    ]


def test_allow_warns_of_what_is_not_registered(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(state).add_reference(reference_set("image-1"))
    (state / "initdata").mkdir()
    (state / "initdata/shop.toml").write_bytes(DOCUMENT)
    known = ("--initdata", str(initdata().digest), "--reference", "image-1")
    assert allow(state, "ccinit/shop/*", *known) == 0
    assert error_of(capsys) == ""
    assert allow(state, "ccinit/bank/*", "--initdata", "shpo", "--reference", "image-2") == 0
    warnings = error_of(capsys).splitlines()
    assert ["'shpo'" in warnings[0], "'image-2' of profile prod" in warnings[1]] == [True, True]
    assert len(warnings) == 2
    assert allow(state, "test/*/*", "--profile", "test", "--reference", "image-1") == 0
    assert "'image-1' of profile test" in error_of(capsys)
    assert len(Store(state).read_policy().rules) == 3


@pytest.mark.parametrize(
    "words", [("list",), ("allow", "ccinit/shop/*", "--initdata", "shop"), ("remove", 1)]
)
def test_policy_that_is_none_is_told_by_its_file_and_left_alone(
    state: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...]
) -> None:
    path = state / "policy.toml"
    path.write_bytes("# für uns\nversion = 1\n".encode("latin-1"))
    before = path.read_bytes()
    assert run("policy", *words, "--state", state) == 1
    assert f"{path}: not TOML" in error_of(capsys)
    assert path.read_bytes() == before


def test_device_that_proves_nothing_is_named_by_test_rules_only(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = ("--device", "sampledevice")
    assert allow(state, "test/*/*", "--profile", "test", *device) == 0
    assert run("policy", "list", "--state", state) == 0
    assert capsys.readouterr().out.split()[-1] == "sampledevice"
    (rule,) = Store(state).read_policy().rules
    assert rule.devices == {"sampledevice"}
    assert allow(state, "ccinit/*/*", *device) == 1
    assert "[policy.rule.devices]" in error_of(capsys)
    with pytest.raises(SystemExit) as ended:
        allow(state, "test/a/*", "--profile", "test", "--device", "nvidia")
    assert ended.value.code == 2
    assert "[policy.rule.devices]" in error_of(capsys)
    assert len(Store(state).read_policy().rules) == 1


def test_remove_takes_one_rule_away_and_says_which(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for pattern in ("a/b/c", "d/e/f", "g/h/i"):
        assert allow(state, pattern) == 0
    capsys.readouterr()
    assert run("policy", "remove", "--state", state, 2) == 0
    assert capsys.readouterr().out.split() == ["removed:", "d/e/f", "prod", "any", "shop", "none"]
    rules = Store(state).read_policy().rules
    assert [str(rule.resources) for rule in rules] == ["a/b/c", "g/h/i"]
    assert run("policy", "remove", "--state", state, 3) == 1
    assert "[policy.rule.number]" in error_of(capsys)
    assert len(Store(state).read_policy().rules) == 2


@pytest.mark.parametrize("number", ["x", "0", "-1"])
def test_remove_of_what_is_not_a_number_says_what_one_is(
    state: Path, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    assert allow(state, "a/b/c") == 0
    with pytest.raises(SystemExit) as wrong:
        run("policy", "remove", "--state", state, "--", number)
    assert wrong.value.code == 2
    assert f"found '{number}'" in capsys.readouterr().err
    assert len(Store(state).read_policy().rules) == 1


@pytest.fixture
def shop(state: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Two images, one pod, two rules, of which the second covers the pod's files."""
    store = Store(state)
    for name in ("image-1", "image-2"):
        store.add_reference(reference_set(name))
    (state / "initdata").mkdir()
    (state / "initdata/shop.toml").write_bytes(DOCUMENT)
    allow(state, "ccinit/bank/*")
    allow(state, "ccinit/shop/*", "--reference", "image-1")
    capsys.readouterr()
    return state


def explain(state: Path, *guest: str) -> int:
    return run("policy", "explain", "--state", state, URI, *guest)


def test_explain_names_the_rule_that_releases(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(shop, "--reference", "image-1", "--initdata", "shop") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "guest: image image-1 (prod), initdata shop"
    assert lines[2].split(maxsplit=2) == ["1", "ccinit/bank/*", "does not cover the resource"]
    assert lines[3].split() == ["2", "ccinit/shop/*", "allows"]
    assert lines[4] == f"{URI}: nothing is registered, would be released by rule 2"
    (shop / "password").write_bytes(b"x")
    assert run("register", "resource", "--state", shop, URI, shop / "password") == 0
    capsys.readouterr()
    assert explain(shop, "--reference", "image-1", "--initdata", "shop") == 0
    assert capsys.readouterr().out.splitlines()[4] == f"{URI}: released by rule 2"


def test_explain_takes_a_document_by_each_of_its_names(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "initdata/copy-of-shop.toml").write_bytes(DOCUMENT)
    assert explain(shop, "--reference", "image-1", "--initdata", "copy-of-shop") == 0
    assert "would be released by rule 2" in capsys.readouterr().out
    (shop / "initdata/copy-of-shop.toml").write_bytes(DOCUMENT + b"# another\n")
    assert explain(shop, "--reference", "image-1", "--initdata", "copy-of-shop") == 1
    assert "denied, initdata copy-of-shop is not named" in capsys.readouterr().out


def test_explain_takes_an_image_by_each_of_its_names(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(shop).add_reference(replace(reference_set("image-1"), name="copy"))
    assert explain(shop, "--reference", "copy", "--initdata", "shop") == 0
    assert "would be released by rule 2" in capsys.readouterr().out


def test_explain_says_why_not(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(shop, "--reference", "image-2", "--initdata", "shop") == 1
    assert f"{URI}: denied, reference values image-2 are not named" in capsys.readouterr().out


def test_explain_of_a_session_reads_who_attested_in_it(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = AuditLog(shop / "audit.jsonl")
    for label, image, decision in (
        ("one", "image-1", Decision.ACCEPTED),
        ("two", "image-2", Decision.ACCEPTED),
        ("three", "", Decision.REFUSED),
        ("four", "image-9", Decision.ACCEPTED),
    ):
        log.append(
            AuditRecord(
                event=Event.ATTEST,
                session=label,
                tee="tpm",
                decision=decision,
                reason="pcr.9" if decision is Decision.REFUSED else "",
                reference=image,
                image=reference_set(image).images[0] if image else "",
                profile="prod",
                initdata=str(initdata().digest),
                initdata_name="shop",
            )
        )
    assert explain(shop, "--session", "one") == 0
    assert explain(shop, "--session", "two") == 1
    assert "reference values image-2 are not named" in capsys.readouterr().out
    assert explain(shop, "--session", "three") == 1
    assert "three was refused: pcr.9 [explain.session]" in error_of(capsys)
    assert explain(shop, "--session", "four") == 1
    assert "the guest's registration was withdrawn" in capsys.readouterr().out
    assert explain(shop, "--session", "five") == 1
    assert "no attestation of 'five'" in error_of(capsys)


def test_explain_of_a_session_knows_what_its_appraisal_stood_on(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, key = Store(shop), booted_tpm(reference_set("image-1")).public_der
    store.add_attestation_key("node", key)
    basis = store.read_references().basis_of(Tee.TPM, (key,))
    AuditLog(shop / "audit.jsonl").append(
        AuditRecord(
            event=Event.ATTEST,
            session="one",
            tee="tpm",
            decision=Decision.ACCEPTED,
            reference="image-1",
            image=reference_set("image-1").images[0],
            profile="prod",
            initdata=str(initdata().digest),
            initdata_name="shop",
            basis=", ".join(basis),
        )
    )
    assert explain(shop, "--session", "one") == 0
    (shop / "attestation-keys/node.der").unlink()
    capsys.readouterr()
    assert explain(shop, "--session", "one") == 1
    words = "denied, a key, certificate or requirement that it was appraised by is gone"
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reference", None),
        ("image", None),
        ("profile", None),
        ("profile", "staging"),
        ("initdata", None),
        ("initdata", "md5:0"),
        ("initdata_name", 7),
        ("devices", ["sampledevice"]),
        ("basis", ["tpm sha256:00"]),
    ],
)
def test_explain_of_a_record_that_was_edited_says_what_is_wrong(
    shop: Path, capsys: pytest.CaptureFixture[str], key: str, value: object
) -> None:
    record: dict[str, object] = {
        "time": "2026-01-01T00:00:00.000+00:00",
        "event": "attest",
        "session": "one",
        "tee": "tpm",
        "decision": "accepted",
        "reason": "",
        "reference": "image-1",
        "image": reference_set("image-1").images[0],
        "profile": "prod",
        "initdata": str(initdata().digest),
        "initdata_name": "shop",
    }
    log = shop / "audit.jsonl"
    log.write_text(json.dumps(record) + "\n")
    assert explain(shop, "--session", "one") == 0
    edited = {name: known for name, known in record.items() if name != key}
    log.write_text(json.dumps(edited if value is None else {**edited, key: value}) + "\n")
    assert explain(shop, "--session", "one") == 1
    words = error_of(capsys)
    assert f"[audit.{key}]" in words
    assert ("describe the guest by --reference" in words) is not isinstance(value, str)


@pytest.mark.parametrize(
    ("guest", "told"),
    [
        (("--reference", "image-9", "--initdata", "shop"), "reference values 'image-9': not reg"),
        (("--reference", "image-1", "--initdata", "bank"), "initdata 'bank': not registered under"),
    ],
)
def test_explain_of_an_unknown_guest_is_refused(
    shop: Path, capsys: pytest.CaptureFixture[str], guest: tuple[str, ...], told: str
) -> None:
    assert explain(shop, *guest) == 1
    assert told in error_of(capsys)


def test_explain_of_a_guest_that_is_half_described_is_wrong_usage(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(shop, "--reference", "image-1") == 2
    assert "--reference needs --initdata [explain.initdata]" in error_of(capsys)


def test_policy_export_writes_what_it_says(state: Path, tmp_path: Path) -> None:
    for name in ("image-1", "image-2"):
        Store(state).add_reference(reference_set(name))
    export = ("policy", "export", "--state", state, "--trustee", "--output", tmp_path / "trustee")
    assert run(*export) == 0
    values = json.loads((tmp_path / "trustee/reference-values.json").read_text())
    assert values["ccinit_tpm_boot"] == [
        boot_of(reference_set(name)) for name in ("image-1", "image-2")
    ]
    message = json.loads((tmp_path / "trustee/rvps-message.json").read_text())
    assert json.loads(base64.b64decode(message["payload"])) == values
    assert (tmp_path / "trustee/default_cpu.rego").read_text() == appraisal_policy()

    assert run(*export, "--reference", "image-2") == 0
    values = json.loads((tmp_path / "trustee/reference-values.json").read_text())
    assert values["ccinit_tpm_boot"] == [boot_of(reference_set("image-2"))]


def test_policy_export_that_cannot_be_written_whole_is_not_written_in_part(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "trustee"
    export = ("policy", "export", "--state", state, "--trustee", "--output", output)
    Store(state).add_reference(reference_set("image-1"))
    assert run(*export) == 0
    before = (output / "reference-values.json").read_bytes()
    Store(state).add_reference(reference_set("image-2"))
    (output / "rvps-message.json").unlink()
    (output / "rvps-message.json").mkdir()
    assert run(*export) == 1
    assert "[state.place]" in error_of(capsys)
    assert (output / "reference-values.json").read_bytes() == before
    (output / "rvps-message.json").rmdir()
    assert run(*export) == 0
    assert (output / "reference-values.json").read_bytes() != before


@pytest.mark.parametrize("option", ["--reference", "--initdata"])
def test_policy_export_of_something_unregistered_is_refused(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    export = ("policy", "export", "--state", state, "--trustee", "--output", tmp_path / "trustee")
    assert run(*export, option, "unknown") == 1
    assert f"[export.{option.removeprefix('--')}]" in error_of(capsys)
    assert not (tmp_path / "trustee").exists()
