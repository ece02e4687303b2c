"""What a guest sees of TDX: the TDREPORT that its module makes."""

import struct

from tests.fakes.platforms.tdx_quote import FakeTdx


def td_report(domain: FakeTdx, report_data: bytes) -> bytes:
    """TDREPORT_STRUCT (Intel TDX Module Base Architecture): 1024 bytes."""
    mac_struct = (
        struct.pack("<B15x", 0x81) + bytes(16) + bytes(96) + report_data + bytes(32) + bytes(32)
    )
    tcb_info = bytes(239 + 17)
    info = (
        struct.pack("<QQ", domain.td_attributes, domain.xfam)
        + domain.mrtd
        + domain.mrconfigid
        + domain.mrowner
        + domain.mrownerconfig
        + b"".join(domain.rtmrs)
        + bytes(48 + 64)
    )
    return mac_struct + tcb_info + info
