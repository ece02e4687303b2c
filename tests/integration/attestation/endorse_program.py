"""Children with a metadata service on loopback in place of the cloud's. Run like `ccinit child …`.

Everything but the address is the product's: the rights of the role `endorse`, client and parsers.
"""

import os
import sys

from ccinit.agent.jobs.messages.evidence import EndorsementAnswer, EndorseRequest
from ccinit.agent.processes.child import JobChannel, main
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.attest.azure_metadata import fetch_endorsement
from ccinit.net.metadata import metadata_client
from ccinit.values import replace

HOST = os.environ["METADATA_HOST"]
NAME = "tests.integration.attestation.endorse_program"


def run(request: EndorseRequest, _channel: JobChannel) -> EndorsementAnswer:
    with metadata_client(HOST.partition(":")[0]) as client:
        endorsement = fetch_endorsement(client, request.tee, request.hardware, HOST)
    return EndorsementAnswer(endorsement=endorsement)


if __name__ == "__main__":
    main(sys.argv[2:], {**RIGHTS, Role.ENDORSE: replace(RIGHTS[Role.ENDORSE], job=f"{NAME}:run")})
