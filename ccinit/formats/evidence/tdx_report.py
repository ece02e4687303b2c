"""What a TDX module says about a trust domain: the TD report body of quotes, and TDREPORT.

The body is signed as part of a quote (`ccinit.formats.evidence.tdx_quote`). TDREPORT_STRUCT is what
the guest itself gets from the module, with a MAC that only the same machine can check; from it the
guest reads how it was launched. Intel TDX DCAP Quoting Library API, appendix A.3 (TD Quote Body);
Intel TDX Module Base Architecture, "TDREPORT_STRUCT" and "TDINFO_STRUCT". Little-endian.
"""

from ccinit.errors import FormatError
from ccinit.formats.encoding.byte_reader import LittleEndianReader
from ccinit.values import frozen

MEASUREMENT_BYTES = 48  # SHA-384
REPORT_DATA_BYTES = 64
BODY_1_0_BYTES = 584
BODY_1_5_BYTES = 648
TDREPORT_BYTES = 1024
ZERO_MEASUREMENT = bytes(MEASUREMENT_BYTES)

# TDREPORT_STRUCT: REPORTMACSTRUCT (256), TEE_TCB_INFO (239), reserved (17), TDINFO_STRUCT (512).
_TD_INFO_OFFSET = 512
_REPORT_DATA_OFFSET = 128
_REPORT_TYPE_TDX = 0x81


@frozen
class TdReportBody:
    """TD Quote Body of TDX 1.0 (584 bytes) or 1.5 (648 bytes).

    Attributes:
        tee_tcb_svn: 16 version numbers of the TDX module.
        mrseam, mrsignerseam: of the module; the signer is zero if Intel signed it.
        td_attributes: bit 0 is DEBUG.
        xfam: extended features that the domain may use.
        mrtd: of the initial memory; 48 bytes, like every measurement here.
        mrconfigid, mrowner, mrownerconfig: chosen by the host when it built the domain.
        rtmrs: RTMR 0 to 3.
        report_data: 64 bytes that the guest chose.
        tee_tcb_svn_2, mrservicetd: of TDX 1.5, else None.
    """

    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seam_attributes: int
    td_attributes: int
    xfam: int
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn_2: bytes | None = None
    mrservicetd: bytes | None = None


@frozen
class TdReport:
    """The parts of TDREPORT_STRUCT that a guest needs to know about itself."""

    report_data: bytes
    td_attributes: int
    mrconfigid: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]


def read_td_report_body(data: bytes) -> TdReportBody:
    """Read a body; its length says which one it is.

    Raises:
        FormatError: `tdx_report.length`.
    """
    if len(data) not in (BODY_1_0_BYTES, BODY_1_5_BYTES):
        raise FormatError("tdx_report.length", f"{len(data)} bytes, a body has 584 or 648")
    reader = LittleEndianReader(data, "tdx_report")
    is_1_5 = len(data) == BODY_1_5_BYTES
    body = TdReportBody(
        tee_tcb_svn=reader.take(16),
        mrseam=reader.take(MEASUREMENT_BYTES),
        mrsignerseam=reader.take(MEASUREMENT_BYTES),
        seam_attributes=reader.u64(),
        td_attributes=reader.u64(),
        xfam=reader.u64(),
        mrtd=reader.take(MEASUREMENT_BYTES),
        mrconfigid=reader.take(MEASUREMENT_BYTES),
        mrowner=reader.take(MEASUREMENT_BYTES),
        mrownerconfig=reader.take(MEASUREMENT_BYTES),
        rtmrs=_take_rtmrs(reader),
        report_data=reader.take(REPORT_DATA_BYTES),
        tee_tcb_svn_2=reader.take(16) if is_1_5 else None,
        mrservicetd=reader.take(MEASUREMENT_BYTES) if is_1_5 else None,
    )
    reader.end()
    return body


def parse_td_report(data: bytes) -> TdReport:
    """Read a TDREPORT_STRUCT as the kernel returns it.

    Raises:
        FormatError: `tdx_report.length` or `tdx_report.type`.
    """
    if len(data) != TDREPORT_BYTES:
        raise FormatError("tdx_report.length", f"{len(data)} bytes, a TDREPORT has 1024")
    if data[0] != _REPORT_TYPE_TDX:
        raise FormatError("tdx_report.type", f"report type {data[0]:#04x} is not of a domain")
    info = LittleEndianReader(data[_TD_INFO_OFFSET:], "tdx_report")
    attributes = info.u64()
    info.u64()  # XFAM; the verifier reads it in the quote
    info.take(MEASUREMENT_BYTES)  # MRTD; likewise
    mrconfigid = info.take(MEASUREMENT_BYTES)
    info.take(2 * MEASUREMENT_BYTES)  # MROWNER, MROWNERCONFIG
    return TdReport(
        report_data=data[_REPORT_DATA_OFFSET : _REPORT_DATA_OFFSET + REPORT_DATA_BYTES],
        td_attributes=attributes,
        mrconfigid=mrconfigid,
        rtmrs=_take_rtmrs(info),
    )


def _take_rtmrs(reader: LittleEndianReader) -> tuple[bytes, bytes, bytes, bytes]:
    return (
        reader.take(MEASUREMENT_BYTES),
        reader.take(MEASUREMENT_BYTES),
        reader.take(MEASUREMENT_BYTES),
        reader.take(MEASUREMENT_BYTES),
    )
