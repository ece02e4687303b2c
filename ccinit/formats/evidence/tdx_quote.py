"""An Intel TDX quote, version 4 or 5, as bytes and frozen values.

    header (48)  [body type, body size: version 5 only]  TD report body  length  signature data
    signature data: signature, attestation key, then nested certification data:
        type 6: QE report, its signature by the PCK, QE authentication data,
            type 5: the PCK certificate chain as PEM

Only what our verifier can judge is accepted: ECDSA on P-256, a trust domain, type 6 around type 5.
Integers are little-endian and lengths exact; only zeros may follow the quote, because some hosts
return their whole buffer. The verifier gets the signed bytes untouched. Intel TDX DCAP Quoting
Library API, appendix A; Intel SGX ECDSA QuoteLibReference, appendix A (QE report, certification
data).
"""

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.byte_reader import LittleEndianReader
from ccinit.formats.evidence.tdx_report import (
    BODY_1_0_BYTES,
    BODY_1_5_BYTES,
    TdReportBody,
    read_td_report_body,
)
from ccinit.values import frozen

MAX_QUOTE_BYTES = 16 * 1024  # the kernel's buffer
MAX_CHAIN_BYTES = 12 * 1024
MAX_QE_AUTHENTICATION_BYTES = 1024
SIGNATURE_BYTES = 64  # r and s of P-256
KEY_BYTES = 64  # x and y of P-256
QE_REPORT_BYTES = 384

_HEADER_BYTES = 48
_KEY_TYPE_ECDSA_P256 = 2
_TEE_TYPE_TDX = 0x81
# Body types of version 5 and the sizes that they must state.
_BODY_BYTES = {2: BODY_1_0_BYTES, 3: BODY_1_5_BYTES}
_CERTIFIED_BY_QE_REPORT, _PCK_CHAIN = 6, 5


@frozen
class QeReport:
    """What identifies the quoting enclave, from its SGX report of 384 bytes."""

    cpu_svn: bytes
    misc_select: int
    attributes: bytes
    mrenclave: bytes
    mrsigner: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes


@frozen
class QeCertification:
    """What makes the attestation key trustworthy.

    Attributes:
        report: the quoting enclave's report as it was signed, 384 bytes.
        signature: of `report` by the PCK, r and s, 64 bytes.
        authentication_data: hashed with the attestation key into the report.
        chain_pem: PCK certificate first; untrusted text.
    """

    report: bytes
    signature: bytes
    authentication_data: bytes
    chain_pem: bytes


@frozen
class TdxQuote:
    """One quote.

    Attributes:
        version: 4 or 5.
        qe_vendor_id: 16 bytes.
        body: what is attested.
        signed: the bytes that `signature` is over.
        signature: r and s by the attestation key, 64 bytes.
        attestation_key: x and y, 64 bytes.
    """

    version: int
    qe_vendor_id: bytes
    body: TdReportBody
    signed: bytes
    signature: bytes
    attestation_key: bytes
    certification: QeCertification


def parse_tdx_quote(data: bytes) -> TdxQuote:
    """Read a quote.

    Raises:
        FormatError: `tdx_quote.…`.
        LimitExceededError: `tdx_quote.length`, `tdx_quote.chain`, `tdx_quote.qe_authentication`.
    """
    if len(data) > MAX_QUOTE_BYTES:
        raise LimitExceededError(
            "tdx_quote.length", f"expected at most 16384 bytes, found {len(data)}"
        )
    reader = LittleEndianReader(data, "tdx_quote")
    version, vendor = _take_header(reader)
    body = read_td_report_body(_take_body(reader, version))
    signed = data[: reader.offset]
    signature_data = LittleEndianReader(reader.take(reader.u32()), "tdx_quote")
    if any(reader.rest()):
        raise FormatError("tdx_quote.trailing", "bytes other than zero behind the quote")
    signature = signature_data.take(SIGNATURE_BYTES)
    attestation_key = signature_data.take(KEY_BYTES)
    certification = _take_certification(signature_data)
    signature_data.end()
    return TdxQuote(
        version=version,
        qe_vendor_id=vendor,
        body=body,
        signed=signed,
        signature=signature,
        attestation_key=attestation_key,
        certification=certification,
    )


def parse_qe_report(data: bytes) -> QeReport:
    """Read the report body of an SGX enclave.

    Raises:
        FormatError: `tdx_quote.truncated` or `tdx_quote.trailing`.
    """
    reader = LittleEndianReader(data, "tdx_quote")
    cpu_svn, misc_select = reader.take(16), reader.u32()
    reader.take(28)
    attributes, mrenclave = reader.take(16), reader.take(32)
    reader.take(32)
    mrsigner = reader.take(32)
    reader.take(96)
    isv_prod_id, isv_svn = reader.u16(), reader.u16()
    reader.take(60)
    report_data = reader.take(64)
    reader.end()
    return QeReport(
        cpu_svn=cpu_svn,
        misc_select=misc_select,
        attributes=attributes,
        mrenclave=mrenclave,
        mrsigner=mrsigner,
        isv_prod_id=isv_prod_id,
        isv_svn=isv_svn,
        report_data=report_data,
    )


def _take_header(reader: LittleEndianReader) -> tuple[int, bytes]:
    header = LittleEndianReader(reader.take(_HEADER_BYTES), "tdx_quote")
    version = header.u16()
    if version not in (4, 5):
        raise FormatError("tdx_quote.version", f"version {version} is neither 4 nor 5")
    key_type = header.u16()
    if key_type != _KEY_TYPE_ECDSA_P256:
        raise FormatError("tdx_quote.key_type", f"key type {key_type} is not ECDSA on P-256")
    tee_type = header.u32()
    if tee_type != _TEE_TYPE_TDX:
        raise FormatError("tdx_quote.tee_type", f"TEE type {tee_type:#x} is not a trust domain")
    header.take(4)  # reserved; once QE and PCE version numbers
    return version, header.take(16)


def _take_body(reader: LittleEndianReader, version: int) -> bytes:
    if version == 4:
        return reader.take(BODY_1_0_BYTES)
    kind, size = reader.u16(), reader.u32()
    if size != _BODY_BYTES.get(kind):
        raise FormatError("tdx_quote.body_type", f"no body of type {kind} has {size} bytes")
    return reader.take(size)


def _take_certification(reader: LittleEndianReader) -> QeCertification:
    outer = _take_certified(reader, _CERTIFIED_BY_QE_REPORT)
    report, signature = outer.take(QE_REPORT_BYTES), outer.take(SIGNATURE_BYTES)
    length = outer.u16()
    if length > MAX_QE_AUTHENTICATION_BYTES:
        raise LimitExceededError(
            "tdx_quote.qe_authentication", f"expected at most 1024 bytes, found {length}"
        )
    authentication_data = outer.take(length)
    chain = _take_certified(outer, _PCK_CHAIN)
    outer.end()
    if chain.remaining > MAX_CHAIN_BYTES:
        raise LimitExceededError(
            "tdx_quote.chain", f"expected at most 12288 bytes, found {chain.remaining}"
        )
    return QeCertification(
        report=report,
        signature=signature,
        authentication_data=authentication_data,
        chain_pem=chain.rest().rstrip(b"\0"),  # a C string in Intel's library
    )


def _take_certified(reader: LittleEndianReader, wanted: int) -> LittleEndianReader:
    kind = reader.u16()
    if kind != wanted:
        raise FormatError(
            "tdx_quote.certification_type",
            f"expected certification data of type {wanted}, found {kind}",
        )
    return LittleEndianReader(reader.take(reader.u32()), "tdx_quote")
