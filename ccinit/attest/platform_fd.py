"""Names of the descriptors through which children reach what vouches for the guest.

PID 1 opens the files (`detect` says which), and the children's jobs know them by these names. Those
of a report's attributes are in `ccinit.kernel.tsm`.
"""

from enum import StrEnum


class PlatformFd(StrEnum):
    """One descriptor's name.

    STATEMENT is the launch secret that names the document, REGISTER the event log's register.
    TD_REPORT comes only from `ccinit.attest.simulated`, which has no device to ask.
    """

    TPM = "tpm"
    SEV_GUEST = "sev_guest"
    TDX_GUEST = "tdx_guest"
    TD_REPORT = "td_report"
    CCEL = "ccel"
    UV = "uv"
    STATEMENT = "statement"
    REGISTER = "register"
