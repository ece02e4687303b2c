"""Appraisal of a token that a registered issuer signed: what it says against what is registered.

Pure. The steps continue those of `signature` (1 to 4); all of them MUST; each failing one becomes a
claim with the name in brackets:

    5. It was issued, is valid by now and has not expired, and is not older than the owner wants
       [`passport.time`, `passport.expired`, `passport.age`].
    6. Its audience is the one that the owner names; without one, it has none [`passport.audience`].
    7. It has the form of the issuer's service, and is about a platform that the owner takes from
       this issuer [`passport.version`, `passport.claims`, `passport.nonce`, `passport.platform`].
    8. Its runtime data is the guest's key and nothing else, and the report data binds that
       [`passport.runtime_data…`, `jwk.…`, `passport.report_data`].
    9. The policies that the owner names were applied [`passport.policy`].
   10. Image, document, domain and firmware are as registered and demanded: `snp` and `tdx` beside
       this, in the words of the platform's own verifier.

The issuer answers for the evidence that it was shown, which does not come here. A token is worth as
much as the key in it: anyone can show the token, but only that key can read what is released.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.jwk import PublicJwk
from guest_owner.kbs.appraisal import AppraisedEvidence, ClaimList, EvidenceRefusedError
from guest_owner.kbs.passports.issuer import Issuer, SnpDemands, TdxDemands
from guest_owner.kbs.passports.signature import SignedClaims
from guest_owner.kbs.passports.snp import judge_snp
from guest_owner.kbs.passports.statement import (
    SnpStatement,
    Statement,
    TdxStatement,
    read_statement,
)
from guest_owner.kbs.passports.tdx import judge_tdx
from guest_owner.kbs.references.values import References, ReferenceSet, RegisteredInitdata
from guest_owner.kbs.shown import show

SKEW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class AppraisedPassport:
    """A token that passed every step: what it says, and for which guest's key."""

    evidence: AppraisedEvidence
    tee_pubkey: PublicJwk


def judge_passport(
    signed: SignedClaims, references: References, *, now: float
) -> AppraisedPassport:
    """Make steps 5 to 10.

    Args:
        signed: what `signature.verify_signature` returned.
        references: everything that is trusted.
        now: seconds since 1970.

    Raises:
        EvidenceRefusedError: at least one step failed; it is authentic.
    """
    issuer, claims = signed.issuer, ClaimList()
    _check_time(signed.claims, issuer, now, claims)
    _check_audience(signed.claims, issuer, claims)
    statement = _read(signed, claims)
    _check_binding(statement, claims)
    _check_policies(statement, issuer, claims)
    reference, initdata = _judge(statement, issuer, references, claims)
    image, document = claims.settle(reference, initdata, authentic=True)
    about = statement.about
    held = about.host_data if isinstance(about, SnpStatement) else about.mrconfigid
    evidence = AppraisedEvidence(
        tee=statement.tee,
        reference=image,
        initdata=document,
        initdata_field=held or b"",
        report_data=statement.bound,
        measured={"passport": {"issuer": issuer.name}, **_measured(statement.about)},
        token_claims={},
        claims=tuple(claims.made),
        endorsers=(),
    )
    return AppraisedPassport(evidence, statement.tee_pubkey)


def _check_time(
    values: Mapping[str, JsonValue], issuer: Issuer, now: float, claims: ClaimList
) -> None:
    # Step 5
    issued, expires = (_seconds(values, name) for name in ("iat", "exp"))
    begins = _seconds(values, "nbf") if "nbf" in values else issued
    if issued is None or expires is None or begins is None:
        claims.compare("passport.time", "iat, exp and nbf in seconds", "none", holds=False)
        return
    latest, limit = max(issued, begins), now + SKEW_SECONDS
    claims.compare(
        "passport.time", f"not after {_date(limit)}", _date(latest), holds=latest <= limit
    )
    claims.compare("passport.expired", f"after {_date(now)}", _date(expires), holds=expires > now)
    age, most = now - issued, issuer.terms.max_age_seconds
    claims.compare("passport.age", f"at most {most} s", f"{age:.0f} s", holds=age <= most)


def _check_audience(values: Mapping[str, JsonValue], issuer: Issuer, claims: ClaimList) -> None:
    # Step 6
    expected, got = issuer.terms.audience, values.get("aud")
    shown = "nobody" if got is None else str(got)[:80]
    claims.compare("passport.audience", expected or "nobody", shown, holds=got == expected)


def _read(signed: SignedClaims, claims: ClaimList) -> Statement:
    """Make step 7, and the part of step 8 that depends on the service's form."""
    platforms = signed.issuer.terms.platforms
    try:
        statement = read_statement(signed.issuer.terms.service, signed.claims)
    except FormatError as error:
        claims.fail(error)
    except VerificationError as error:
        claims.compare(error.reason, " or ".join(platforms), error.detail, holds=False)
    else:
        holds = statement.tee in platforms
        claims.compare("passport.platform", " or ".join(platforms), statement.tee, holds=holds)
        if holds:
            return statement
    raise EvidenceRefusedError(tuple(claims.made), authentic=True)


def _check_binding(statement: Statement, claims: ClaimList) -> None:
    # Step 8
    got = statement.about.report_data
    claims.compare(
        "passport.report_data",
        statement.bound.hex(),
        show(got),
        holds=got == statement.bound,
    )


def _check_policies(statement: Statement, issuer: Issuer, claims: ClaimList) -> None:
    # Step 9
    demanded = issuer.terms.policies
    claims.compare(
        "passport.policy",
        ", ".join(sorted(demanded)) or "any",
        ", ".join(sorted(statement.policies)) or "none",
        holds=demanded <= statement.policies,
    )


def _judge(
    statement: Statement, issuer: Issuer, references: References, claims: ClaimList
) -> tuple[ReferenceSet | None, RegisteredInitdata | None]:
    # Step 10
    match statement.about, issuer.terms.platforms[statement.tee]:
        case SnpStatement() as about, SnpDemands() as demands:
            return judge_snp(about, demands, references, claims)
        case TdxStatement() as about, TdxDemands() as demands:
            return judge_tdx(about, demands, references, claims)
        case _:
            raise RuntimeError("an issuer's demands are of the platform that they stand under")


def _measured(about: SnpStatement | TdxStatement) -> dict[str, dict[str, str]]:
    if isinstance(about, SnpStatement):
        values = {"measurement": about.measurement, "host_data": about.host_data}
        return {Tee.SNP.value: _hex(values)}
    rtmrs = {str(index): value for index, value in about.rtmrs.items()}
    return {"td": _hex({"mrtd": about.mrtd}), "rtmr": _hex(rtmrs)}


def _hex(values: Mapping[str, bytes | None]) -> dict[str, str]:
    return {name: value.hex() for name, value in values.items() if value is not None}


def _seconds(values: Mapping[str, JsonValue], name: str) -> int | None:
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _date(seconds: float) -> str:
    # Every year that strict JSON has an integer for is one that the library can write.
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
