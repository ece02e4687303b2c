# Appraisal policy for Trustee's Attestation Service, policy id `default_cpu`.
#
# Affirms a guest only if everything that a ccinit guest binds was checked. It takes the place of
# Trustee's default policy, which looks at fewer registers and would affirm a pod made by the host.
#
# Reference values, all arrays of strings in lower-case hex unless noted (`guest-owner export trustee`
# writes them; one that is missing or empty matches nothing):
#
#   ccinit_tpm_boot              "uki:PCR4:PCR9:PCR11" or "direct:PCR4:PCR9:0…0", of one image each
#   ccinit_tpm_initdata          PCR 8 after the one extend of a document's SHA-256
#   ccinit_tpm_attestation_keys  SubjectPublicKeyInfo, standard base64
#   ccinit_snp_measurement       launch measurement
#   ccinit_snp_tcb               "BOOTLOADER:TEE:SNP:MICROCODE" in decimal
#   ccinit_tdx_boot              "MRTD:RTMR1:RTMR2", of one image each
#   ccinit_initdata_sha256       SHA-256 of a document (HOSTDATA)
#   ccinit_initdata_sha384       SHA-384 of a document (MRCONFIGID)
#
# Numbers are AR4SI trustworthiness claims: 2 and 3 affirm, 32 to 95 warn, 96 and more contraindicate.
package policy

import rego.v1

default executables := 33

default hardware := 97

default configuration := 36

default instance_identity := 97

default file_system := 0

default runtime_opaque := 0

default storage_opaque := 0

default sourced_data := 0

trust_claims := {
	"executables": executables,
	"hardware": hardware,
	"configuration": configuration,
	"instance-identity": instance_identity,
	"file-system": file_system,
	"runtime-opaque": runtime_opaque,
	"storage-opaque": storage_opaque,
	"sourced-data": sourced_data,
}

extensions := []

##### TPM: a quote over all 24 registers of the sha256 bank

zero_register := "0000000000000000000000000000000000000000000000000000000000000000"

# Direct boot measures no UKI sections: there, and only there, PCR 11 stays zero.
tpm_kind := "direct" if input.tpm.pcr11 == zero_register

tpm_kind := "uki" if input.tpm.pcr11 != zero_register

# Trustee's verifier does not look at which registers were quoted and names values by their place in
# the list, so a shorter list could pass one register off as another. Only all 24 give 24 values.
tpm_complete if {
	input.tpm.pcr23
	not input.tpm.pcr24
}

executables := 3 if {
	tpm_complete
	input.tpm.pcr04 != zero_register
	input.tpm.pcr09 != zero_register
	boot := concat(":", [tpm_kind, input.tpm.pcr04, input.tpm.pcr09, input.tpm.pcr11])
	boot in query_reference_value("ccinit_tpm_boot")
}

# PCR 12, 13: nothing was added to the image (command line, credentials, extensions).
# PCR 15: debug was never opened.
configuration := 2 if {
	tpm_complete
	input.tpm.pcr08 in query_reference_value("ccinit_tpm_initdata")
	input.tpm.pcr12 == zero_register
	input.tpm.pcr13 == zero_register
	input.tpm.pcr15 == zero_register
}

# The quote says nothing unless its key is one that the owner knows.
instance_identity := 2 if {
	input.tpm
	input.tpm.ak_public in query_reference_value("ccinit_tpm_attestation_keys")
}

hardware := 2 if {
	input.tpm
	input.tpm.ak_public in query_reference_value("ccinit_tpm_attestation_keys")
}

##### AMD SEV-SNP

snp := object.get(input.snp, "evidence", input.snp)

snp_debug_off if snp.policy.debug_allowed == false

snp_debug_off if snp.policy_debug_allowed == false

snp_migration_off if snp.policy.migrate_ma_allowed == false

snp_migration_off if snp.policy_migrate_ma == false

snp_tcb := [snp.reported_tcb.bootloader, snp.reported_tcb.tee, snp.reported_tcb.snp, snp.reported_tcb.microcode]

snp_tcb := [
	snp.reported_tcb_bootloader, snp.reported_tcb_tee,
	snp.reported_tcb_snp, snp.reported_tcb_microcode,
]

executables := 3 if {
	input.snp
	snp.measurement in query_reference_value("ccinit_snp_measurement")
}

# Trustee's verifier refuses reports of another VMPL than 0; checked again where it shows the claim.
configuration := 2 if {
	input.snp
	input.init_data in query_reference_value("ccinit_initdata_sha256")
	snp_debug_off
	snp_migration_off
	object.get(snp, "vmpl", 0) == 0
}

hardware := 2 if {
	input.snp
	concat(":", [sprintf("%d", [part]) | part := snp_tcb[_]]) in query_reference_value("ccinit_snp_tcb")
}

# The chip's certificate chain is checked by the verifier; which chip it is does not matter.
instance_identity := 0 if input.snp

##### Intel TDX

executables := 3 if {
	input.tdx
	body := input.tdx.quote.body
	boot := concat(":", [body.mr_td, body.rtmr_1, body.rtmr_2])
	boot in query_reference_value("ccinit_tdx_boot")
}

configuration := 2 if {
	input.tdx
	input.init_data in query_reference_value("ccinit_initdata_sha384")
	input.tdx.td_attributes.debug == false
}

hardware := 2 if {
	input.tdx
	input.tdx.quote.header.tee_type == "81000000"
	input.tdx.quote.header.vendor_id == "939a7233f79c4ca9940a0db3957f0607"
	input.tdx.tcb_status == "UpToDate"
	input.tdx.collateral_expiration_status == "0"
}

instance_identity := 0 if input.tdx
