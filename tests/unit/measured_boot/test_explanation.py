from measured_boot.explanation import Step, explain
from measured_boot.platforms import PLATFORMS, Boot, Platform, Technology, find_named_platform
from measured_boot.prediction import DirectKernelBoot, UkiBoot, predict_events
from measured_boot.tpm.boot_events import EXITS
from tests.fakes.published.built_image import PROD_LINE
from tests.fakes.published.pe_images import kernel_image, uki_image

DIRECT = DirectKernelBoot(kernel=kernel_image(), initrd=b"i", command_line=PROD_LINE)
UKI = UkiBoot(uki=uki_image({".cmdline": b"quiet oops=panic ccinit.carrier=ram"}))


def steps(platform: Platform) -> tuple[Step, ...]:
    what = UKI if platform.boot is Boot.UKI else DIRECT
    return explain(predict_events(what, platform.name))


def rows(name: str) -> list[tuple[str, str, str]]:
    return [(row.who, row.what, row.where) for row in steps(find_named_platform(name))]


def test_explain_uki_with_a_tpm_names_program_and_register() -> None:
    found = rows("ovmf-2025.02_stub-257.13_qemu-10")
    for expected in (
        ("firmware", "UKI", "PCR 4"),
        ("systemd-stub", "section .initrd", "PCR 11"),
        ("kernel's EFI entry", "command line", "PCR 9"),
        ("PID 1", "initdata document", "PCR 8"),
    ):
        assert expected in found
    assert ("stage 0", "the root", "as part of the initrd") in found


def test_explain_direct_boot_has_no_stub_and_checks_the_root_by_blocks() -> None:
    found = rows("ovmf-2025.02_direct_qemu-10")
    assert "systemd-stub" not in {who for who, _, _ in found}
    where = "against the hash on the command line"
    assert ("stage 0", "each block of the root", where) in found


def test_explain_snp_has_one_register_and_firmware_checks_the_files() -> None:
    found = rows("snp_direct_qemu-10")
    measured = [what for who, what, where in found if where == "launch digest"]
    assert measured == [
        "pages of the firmware",
        "hash of the kernel",
        "hash of the initrd",
        "hash of the command line",
        "state of each processor",
    ]
    assert ("firmware", "initrd", "against its hash") in found
    assert ("PID 1", "initdata document", "HOSTDATA") in found


def test_explain_sev_measures_no_processor_and_holds_no_initdata() -> None:
    for name, has_state in (("sev_direct_qemu-10", False), ("sev-es_direct_qemu-10", True)):
        subjects = [what for _, what, _ in rows(name)]
        assert ("state of each processor" in subjects) is has_state
        assert "initdata document" not in subjects


def test_explain_svsm_is_measured_with_firmware_and_its_tpm_says_what_was_booted() -> None:
    found = rows("snp-svsm_stub-257.13_qemu-8.0-svsm")
    measured = [what for _, what, where in found if where == "launch digest"]
    assert measured == ["pages of the firmware", "pages of the SVSM", "state of each processor"]
    assert ("systemd-stub", "section .initrd", "PCR 11") in found
    assert ("PID 1", "initdata document", "PCR 8 of the SVSM's TPM") in found
    assert found[-1][2] == "launch digest of the SVSM, PCR 4, 8, 9, 11"


def test_explain_tdx_folds_registers_and_ends_with_the_kernels_take_over() -> None:
    found = rows("tdx_ovmf-2025.02_stub-257.13_qemu-10.1")
    assert found[0] == ("TDX module", "pages of the firmware", "MRTD")
    assert ("firmware", "Exit Boot Services Returned with Success", "RTMR 1") in found
    assert ("kernel's EFI entry", "command line", "RTMR 2") in found


def test_explain_every_platform_gives_what_its_registers_are_extended_with() -> None:
    for platform in PLATFORMS:
        found = steps(platform)
        assert found[-1].who == "verifier"
        events = predict_events(UKI if platform.boot is Boot.UKI else DIRECT, platform.name).events
        match platform.technology:
            case Technology.TPM | Technology.SNP_SVSM:
                digests = [event.digest.hex() for event in events]
            case Technology.TDX:
                digests = [event.wide_digest.hex() for event in (*events, *EXITS)]
            case _:
                digests = []
        assert [row.digest for row in found if row.digest] == digests
        held = [row.action for row in found if row.what == "initdata document"]
        has_tpm = platform.technology in {Technology.TPM, Technology.SNP_SVSM}
        assert held in ([], ["extends" if has_tpm else "compares"])
