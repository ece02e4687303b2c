"""What Trustee does with the policies that its administrator loads, on a real Rego engine.

The Attestation Service evaluates the appraisal policy on a verifier's claims and turns the trust
claims into a submodule of its token; the KBS evaluates the resource policy on the token. Rego comes
from `regopy` (rego-cpp); the claims' names and shapes are those of Trustee's verifiers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regopy import Interpreter  # type: ignore[import-untyped]

Claims = Mapping[str, Any]

# In Trustee this is a function of the engine; a rule of the same package is called the same way.
_QUERY = """
package policy
import rego.v1
query_reference_value(name) := data.reference_values[name]
"""

_NO_PLATFORM = {"init_data", "init_data_claims", "report_data", "runtime_data_claims"}


@dataclass(frozen=True)
class Appraisal:
    """A submodule of the token, and what the policy says about its reasons."""

    trust_claims: Mapping[str, int]
    failed: frozenset[str]

    @property
    def status(self) -> str:
        """AR4SI: the worst tier of all claims."""
        worst = max(self.trust_claims.values())
        if worst == 0:
            return "none"
        return "affirming" if worst < 32 else "warning" if worst < 96 else "contraindicated"


@dataclass(frozen=True)
class Trustee:
    """One installation: two policies and its reference values."""

    appraisal_policy: str
    resource_policy: str
    reference_values: Mapping[str, list[str]]

    def appraise(self, claims: Claims) -> Appraisal:
        engine = Interpreter()
        engine.add_module("appraisal", self.appraisal_policy)
        engine.add_module("functions", _QUERY)
        engine.add_data_json(json.dumps({"reference_values": self.reference_values}))
        engine.set_input_term(json.dumps(claims))
        return Appraisal(
            trust_claims=_value(engine, "data.policy.trust_claims"),
            failed=frozenset(_value(engine, "data.policy.failed")),
        )

    def token(self, claims: Claims, status: str | None = None) -> dict[str, Any]:
        """The claims of the token for this evidence; `status` forges the appraisal's outcome."""
        module = {
            "ear.status": status or self.appraise(claims).status,
            "ear.appraisal-policy-id": "default",
            "ear.veraison.annotated-evidence": claims,
        }
        return {"submods": {"cpu0": module}}

    def token_of_draft_04(self, claims: Claims, status: str | None = None) -> dict[str, Any]:
        """The same token in the form that newer servers give it (`ear_token/claims.rs`)."""
        (tee,) = claims.keys() - _NO_PLATFORM
        raw = {name: claims[name] for name in ("init_data", "report_data") if name in claims}
        module = {
            "ear_status": status or self.appraise(claims).status,
            "ear_appraisal_policy_ids": ["default"],
            "ear_attester_claims": {"tee": tee, "claims": claims[tee], **raw},
        }
        return {"submods": {"cpu0": module}}

    def releases(self, token: Claims, path: object, plugin: str = "resource") -> bool:
        engine = Interpreter()
        engine.add_module("resource", self.resource_policy)
        engine.add_data_json(json.dumps({"plugin": plugin, "resource-path": path, "query": {}}))
        engine.set_input_term(json.dumps(token))
        allowed = _value(engine, "data.policy.allow")
        assert isinstance(allowed, bool)
        return allowed


def _value(engine: Interpreter, query: str) -> Any:
    reply = json.loads(str(engine.query(f"x = {query}")))
    return reply["bindings"]["x"]
