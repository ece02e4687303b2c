# Resource policy for Trustee's KBS: which guest may get which resource. Default deny.
#
# Written by `guest-owner policy export` from the owner's policy and registrations; load it together
# with `default_cpu.rego`, which decides whether a guest is affirmed at all. Each entry of `rules` is
# one rule of the owner's policy: three path segments (`*` ends a segment), the boots and the initdata
# registers of the guests that it is for, each with its platform in front.
package policy

import rego.v1

rules := [
	{
		"boots": [
			"tpm:uki:39cd2e497540e95ca51129e56c303f5716f8cdb9a5e3345759c6a0b2f29e7b0f:ec046b3733c5685fa48f2cf1f5fe5320c0675b0fc46f7df2d50687f34852dd52:edff5cc0d5a50a2f3ff499857e1d4b9d9aa21157cc56b573dd0a406ca2d682f8"
		],
		"initdata": [
			"tpm:37d7456df43f441ba82ad495d9ec19790eca31daea26b4fc2bc158565d9bbf99",
			"snp:8042cc8a65ff2a61c55127924ce8bd58f7c44d6fce009fa81bf07ac067619290",
			"snp:gELMimX/KmHFUSeSTOi9WPfETW/OAJ+oG/B6wGdhkpA=",
			"tdx:03df5bfe67d88c2075aafd5e536bd3a80f0678b4fbb079507aa6f5f9074c5afd0efd38c4ae4428c36d9c3872b1b68675"
		],
		"resources": [
			"ccinit",
			"shop",
			"*"
		]
	}
]

default allow := false

allow if {
	data.plugin == "resource"
	count(path) == 3
	affirmed
	some rule in rules
	covers(rule.resources)
	boot in rule.boots
	bound in rule.initdata
}

# Newer servers wrap the token's claims; older ones pass them as they are.
claims := input.trust_context.attestation_summary.claims

claims := input if not input.trust_context

# Every device of the guest, not only its CPU; a device without a status is not affirmed.
affirmed if {
	count(claims.submods) > 0
	not any_not_affirmed
}

any_not_affirmed if {
	some submod in claims.submods
	status(submod) != "affirming"
}

# The names of EAR's draft 04; until then each had a dot.
status(submod) := object.get(submod, "ear_status", object.get(submod, "ear.status", "none"))

evidence := claims.submods.cpu0["ear.veraison.annotated-evidence"]

# Draft 04 says which platform it was beside its claims, and not by their name.
evidence := {found.tee: found.claims, "init_data": object.get(found, "init_data", "")} if {
	found := claims.submods.cpu0.ear_attester_claims
}

platforms contains name if {
	some name in {"tpm", "snp", "tdx", "az-snp-vtpm", "az-tdx-vtpm"}
	evidence[name]
}

zero_register := "0000000000000000000000000000000000000000000000000000000000000000"

# An image's registers are the same in every TPM; whose TPM it is was for the appraisal to judge.
tpm := evidence.tpm if platforms == {"tpm"}

tpm := evidence["az-snp-vtpm"].tpm if platforms == {"az-snp-vtpm"}

tpm := evidence["az-tdx-vtpm"].tpm if platforms == {"az-tdx-vtpm"}

kind := "direct" if tpm.pcr11 == zero_register

kind := "uki" if tpm.pcr11 != zero_register

snp := object.get(evidence.snp, "evidence", evidence.snp)

# What was booted and which document was bound: two values of one platform, or none at all.
boot := concat(":", ["tpm", kind, tpm.pcr04, tpm.pcr09, tpm.pcr11])

boot := concat(":", ["snp", snp.measurement]) if platforms == {"snp"}

boot := concat(":", ["tdx", body.mr_td, body.rtmr_1, body.rtmr_2]) if {
	platforms == {"tdx"}
	body := evidence.tdx.quote.body
}

bound := concat(":", ["tpm", tpm.pcr08])

bound := concat(":", ["snp", evidence.init_data]) if platforms == {"snp"}

bound := concat(":", ["tdx", evidence.tdx.quote.body.mr_config_id]) if platforms == {"tdx"}

# Newer servers give the path as an array, older ones as text with a leading slash.
path := data["resource-path"] if is_array(data["resource-path"])

path := split(trim_left(data["resource-path"], "/"), "/") if is_string(data["resource-path"])

covers(pattern) if {
	count(pattern) == 3
	segment_covers(pattern[0], path[0])
	segment_covers(pattern[1], path[1])
	segment_covers(pattern[2], path[2])
}

segment_covers(pattern, segment) if pattern == segment

segment_covers(pattern, segment) if {
	endswith(pattern, "*")
	startswith(segment, trim_suffix(pattern, "*"))
}
