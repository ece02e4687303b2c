# Appraisal policy for Trustee's Attestation Service, policy id `default_cpu`.
#
# Affirms a guest only if everything that a ccinit guest binds was checked. It takes the place of
# Trustee's default policy, which looks at fewer registers and would affirm a pod made by the host.
#
# Reference values, all arrays of strings in lower-case hex unless noted (`guest-owner policy export`
# writes them; one that is missing or empty matches nothing):
#
#   ccinit_tpm_boot              "uki:PCR4:PCR9:PCR11" or "direct:PCR4:PCR9:0…0", of one image each
#   ccinit_tpm_initdata          PCR 8 after the one extend of a document's SHA-256
#   ccinit_tpm_attestation_keys  SubjectPublicKeyInfo, standard base64
#   ccinit_snp_measurement       launch measurement; also in base64, as some releases show it
#   ccinit_snp_tcb               "BOOTLOADER:TEE:SNP:MICROCODE" in decimal: oldest firmware
#   ccinit_tdx_boot              "MRTD:RTMR1:RTMR2", of one image each
#   ccinit_tdx_domain            "ATTRIBUTES:XFAM" of a trust domain, exactly
#   ccinit_tdx_module            MRSEAM of a TDX module
#   ccinit_az_snp_paravisor      launch measurement of a paravisor of Azure's; also in base64
#   ccinit_az_snp_tcb            as ccinit_snp_tcb, for Azure
#   ccinit_az_tdx_paravisor      MRTD of a paravisor of Azure's
#   ccinit_az_tdx_domain         as ccinit_tdx_domain, for Azure
#   ccinit_az_tdx_module         as ccinit_tdx_module, for Azure
#   ccinit_initdata_sha256       SHA-256 of a document (HOSTDATA); also in base64
#   ccinit_initdata_sha384       SHA-384 of a document (MRCONFIGID)
#
# `checks` lists what must hold on each platform, and `holds` what does; everything is decided by
# what is missing, so a check that cannot be made counts as one that failed. `failed` names those.
#
# Numbers are AR4SI trustworthiness claims: 2 and 3 affirm, 32 to 95 warn, 96 and more contraindicate.
package policy

import rego.v1

checks := {
	"tpm": {
		"executables": {"quote.selection", "pcr.4", "pcr.9", "pcr.11", "pcr.image"},
		"configuration": {"quote.selection", "pcr.8", "pcr.12", "pcr.13", "pcr.15"},
		"hardware": {"ak.unregistered"},
		"instance-identity": {"ak.unregistered"},
	},
	"snp": {
		"executables": {"snp.measurement"},
		"configuration": {"snp.host_data", "snp.policy.debug", "snp.policy.migrate_ma", "snp.vmpl"},
		"hardware": {"snp.tcb"},
		"instance-identity": set(),
	},
	"az-snp-vtpm": {
		"executables": {"quote.selection", "pcr.4", "pcr.9", "pcr.11", "pcr.image"},
		"configuration": {
			"quote.selection", "pcr.8", "pcr.12", "pcr.13", "pcr.15",
			"snp.policy.debug", "snp.policy.migrate_ma", "snp.vmpl",
		},
		"hardware": {"paravisor.measurement", "snp.tcb"},
		"instance-identity": set(),
	},
	"az-tdx-vtpm": {
		"executables": {"quote.selection", "pcr.4", "pcr.9", "pcr.11", "pcr.image"},
		"configuration": {
			"quote.selection", "pcr.8", "pcr.12", "pcr.13", "pcr.15",
			"td.debug", "td.attributes", "td.mrowner", "td.mrownerconfig", "td.mrservicetd",
		},
		"hardware": {
			"paravisor.measurement", "quote.tee_type", "quote.vendor", "td.mrseam",
			"pck.tcb_status", "pck.collateral",
		},
		"instance-identity": set(),
	},
	"tdx": {
		"executables": {"td.mrtd", "rtmr.1", "rtmr.2", "td.image"},
		"configuration": {
			"td.mrconfigid", "td.debug", "td.attributes",
			"td.mrowner", "td.mrownerconfig", "td.mrservicetd",
		},
		"hardware": {
			"quote.tee_type", "quote.vendor", "td.mrseam",
			"pck.tcb_status", "pck.collateral",
		},
		"instance-identity": set(),
	},
}

# Claims of exactly one platform: with those of two, a check of either could pass for the other.
platforms contains name if {
	some name in object.keys(checks)
	input[name]
}

platform := name if {
	count(platforms) == 1
	some name in platforms
}

failed contains name if {
	some names in checks[platform]
	some name in names - holds
}

failed contains "platform" if not platform

passes(part) if count(checks[platform][part] - holds) == 0

default executables := 33

executables := 3 if passes("executables")

default hardware := 97

hardware := 2 if passes("hardware")

default configuration := 36

configuration := 2 if passes("configuration")

# A TPM is known by its key. On SNP, TDX and Azure the verifier checks the chip's certificates, and
# which chip it is does not matter: no assertion.
default instance_identity := 97

instance_identity := 2 if {
	platform == "tpm"
	passes("instance-identity")
}

instance_identity := 0 if platform in {"snp", "tdx", "az-snp-vtpm", "az-tdx-vtpm"}

trust_claims := {
	"executables": executables,
	"hardware": hardware,
	"configuration": configuration,
	"instance-identity": instance_identity,
	"file-system": 0,
	"runtime-opaque": 0,
	"storage-opaque": 0,
	"sourced-data": 0,
}

extensions := []

##### TPM: a quote over all 24 registers of the sha256 bank

# The owner vouches for a TPM's key, the hardware for that of a paravisor's (Azure).
tpm := input.tpm if platform == "tpm"

tpm := input[platform].tpm if platform in {"az-snp-vtpm", "az-tdx-vtpm"}

zero_register := "0000000000000000000000000000000000000000000000000000000000000000"

# Direct boot measures no UKI sections: there, and only there, PCR 11 stays zero.
tpm_kind := "direct" if tpm.pcr11 == zero_register

tpm_kind := "uki" if tpm.pcr11 != zero_register

tpm_boot := concat(":", [tpm_kind, tpm.pcr04, tpm.pcr09, tpm.pcr11])

# The images that this guest could be, each as [kind, PCR 4, PCR 9, PCR 11].
tpm_images := [split(boot, ":") | some boot in query_reference_value("ccinit_tpm_boot")]

# Trustee's verifier does not look at which registers were quoted and names values by their place in
# the list, so a shorter list could pass one register off as another. Only all 24 give 24 values.
holds contains "quote.selection" if {
	tpm.pcr23
	not tpm.pcr24
}

# The quote says nothing unless its key is one that the owner knows.
holds contains "ak.unregistered" if {
	tpm.ak_public in query_reference_value("ccinit_tpm_attestation_keys")
}

holds contains "pcr.4" if {
	tpm.pcr04 != zero_register
	some image in tpm_images
	tpm.pcr04 == image[1]
}

holds contains "pcr.9" if {
	tpm.pcr09 != zero_register
	some image in tpm_images
	tpm.pcr09 == image[2]
}

holds contains "pcr.11" if {
	some image in tpm_images
	tpm_kind == image[0]
	tpm.pcr11 == image[3]
}

# Registers of two images never mix.
holds contains "pcr.image" if tpm_boot in query_reference_value("ccinit_tpm_boot")

holds contains "pcr.8" if tpm.pcr08 in query_reference_value("ccinit_tpm_initdata")

# PCR 12, 13: nothing was added to the image (command line, credentials, extensions).
holds contains "pcr.12" if tpm.pcr12 == zero_register

holds contains "pcr.13" if tpm.pcr13 == zero_register

# PCR 15: debug was never opened.
holds contains "pcr.15" if tpm.pcr15 == zero_register

##### AMD SEV-SNP: as `snp.evidence` of newer releases, or as flat claims in text form

snp_claims := input.snp if platform == "snp"

snp_claims := input["az-snp-vtpm"] if platform == "az-snp-vtpm"

snp := object.get(snp_claims, "evidence", snp_claims)

# Text or not, what is not exactly "false" or 0 does not pass.
holds contains "snp.policy.debug" if snp.policy.debug_allowed == false

holds contains "snp.policy.debug" if snp.policy_debug_allowed in {false, "false"}

holds contains "snp.policy.migrate_ma" if snp.policy.migrate_ma_allowed == false

holds contains "snp.policy.migrate_ma" if snp.policy_migrate_ma in {false, "false"}

# Trustee's verifier refuses reports of another VMPL than 0; checked again where it shows the claim.
holds contains "snp.vmpl" if {
	snp_claims
	object.get(snp, "vmpl", 0) == 0
}

holds contains "snp.measurement" if {
	snp.measurement in query_reference_value("ccinit_snp_measurement")
}

holds contains "snp.host_data" if {
	input.snp
	input.init_data in query_reference_value("ccinit_initdata_sha256")
}

snp_tcb := numbers([
	snp.reported_tcb.bootloader, snp.reported_tcb.tee,
	snp.reported_tcb.snp, snp.reported_tcb.microcode,
])

snp_tcb := numbers([
	snp.reported_tcb_bootloader, snp.reported_tcb_tee,
	snp.reported_tcb_snp, snp.reported_tcb_microcode,
])

numbers(parts) := [to_number(part) | some part in parts]

# No claim names the processor. So the firmware has to be new enough for each one that is accepted.
snp_floors := query_reference_value("ccinit_snp_tcb") if platform == "snp"

snp_floors := query_reference_value("ccinit_az_snp_tcb") if platform == "az-snp-vtpm"

holds contains "snp.tcb" if {
	count(snp_floors) > 0
	count(snp_tcb) == 4
	every floor in snp_floors {
		reaches(snp_tcb, numbers(split(floor, ":")))
	}
}

reaches(parts, floor) if {
	count(floor) == 4
	parts[0] >= floor[0]
	parts[1] >= floor[1]
	parts[2] >= floor[2]
	parts[3] >= floor[3]
}

##### Intel TDX

tdx := input.tdx if platform == "tdx"

tdx := input["az-tdx-vtpm"] if platform == "az-tdx-vtpm"

tdx_body := tdx.quote.body

zero_measurement := concat("", [zero_register, "00000000000000000000000000000000"])

# The images that this guest could be, each as [MRTD, RTMR 1, RTMR 2].
tdx_images := [split(boot, ":") | some boot in query_reference_value("ccinit_tdx_boot")]

holds contains "td.mrtd" if {
	some image in tdx_images
	tdx_body.mr_td == image[0]
}

holds contains "rtmr.1" if {
	some image in tdx_images
	tdx_body.rtmr_1 == image[1]
}

holds contains "rtmr.2" if {
	some image in tdx_images
	tdx_body.rtmr_2 == image[2]
}

# Registers of two images never mix.
holds contains "td.image" if {
	boot := concat(":", [tdx_body.mr_td, tdx_body.rtmr_1, tdx_body.rtmr_2])
	boot in query_reference_value("ccinit_tdx_boot")
}

# The field itself, and what Trustee compared with the document: both are of this quote.
holds contains "td.mrconfigid" if {
	tdx_body.mr_config_id == input.init_data
	input.init_data in query_reference_value("ccinit_initdata_sha384")
}

holds contains "td.debug" if tdx.td_attributes.debug == false

tdx_domain := concat(":", [tdx_body.td_attributes, tdx_body.xfam])

holds contains "td.attributes" if {
	platform == "tdx"
	tdx_domain in query_reference_value("ccinit_tdx_domain")
}

holds contains "td.attributes" if {
	platform == "az-tdx-vtpm"
	tdx_domain in query_reference_value("ccinit_az_tdx_domain")
}

# The host built and serves the domain as nobody else's.
holds contains "td.mrowner" if tdx_body.mr_owner == zero_measurement

holds contains "td.mrownerconfig" if tdx_body.mr_owner_config == zero_measurement

# Quotes of TDX 1.0 have no such field.
holds contains "td.mrservicetd" if {
	object.get(tdx_body, "mr_servicetd", zero_measurement) == zero_measurement
}

holds contains "quote.tee_type" if tdx.quote.header.tee_type == "81000000"

holds contains "quote.vendor" if {
	tdx.quote.header.vendor_id == "939a7233f79c4ca9940a0db3957f0607"
}

holds contains "td.mrseam" if {
	platform == "tdx"
	tdx_body.mr_seam in query_reference_value("ccinit_tdx_module")
}

holds contains "td.mrseam" if {
	platform == "az-tdx-vtpm"
	tdx_body.mr_seam in query_reference_value("ccinit_az_tdx_module")
}

holds contains "pck.tcb_status" if tdx.tcb_status == "UpToDate"

holds contains "pck.collateral" if tdx.collateral_expiration_status == "0"

##### Azure: a paravisor's TPM is as good as the paravisor, which the hardware has measured

holds contains "paravisor.measurement" if {
	platform == "az-snp-vtpm"
	snp.measurement in query_reference_value("ccinit_az_snp_paravisor")
}

holds contains "paravisor.measurement" if {
	platform == "az-tdx-vtpm"
	tdx_body.mr_td in query_reference_value("ccinit_az_tdx_paravisor")
}
