"""The process that is a container's life: boots its guest, is its host, ends with its end.

Killed, it takes QEMU with it.
"""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, assert_never

from host_runtime.commands.boot_plan import prepare_boot, with_pod_interface
from host_runtime.launch.launcher import GuestConfig, boot_guest
from host_runtime.launch.network_offer import offer_pod_interface, offer_user_network
from host_runtime.machine.qemu import UserNetwork
from host_runtime.network.interface import PodInterface, has_interface
from host_runtime.network.resolver import MAX_RESOLVER_BYTES, parse_nameservers
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.container_cgroup import take_cgroup
from host_runtime.oci_runtime.exit_status import exit_status
from host_runtime.oci_runtime.guest_host import GuestHost
from host_runtime.oci_runtime.guest_plan import GuestPlan
from host_runtime.oci_runtime.host_requests import HostRequests
from host_runtime.oci_runtime.life import Creator, live
from host_runtime.oci_runtime.network_namespace import enter_network_namespace
from host_runtime.oci_runtime.opened_file import read_regular
from host_runtime.oci_runtime.operator_config import parse_boot_options
from host_runtime.oci_runtime.pod_log import pod_log
from host_runtime.oci_runtime.sealed_logs import SealedLog
from host_runtime.plane.rpc_client import NetworkOffer

MODULE: Final = "host_runtime.oci_runtime.supervisor"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a container's guest; return its exit status."""
    return live(MODULE, arguments, _supervise)


def _supervise(container: Container, creator: Creator) -> int:
    requests = HostRequests()
    requests.take_signals()
    plan = GuestPlan.read(container.folder)
    options = parse_boot_options(plan.boot)
    take_cgroup(container, guest_mib=options.memory)
    is_apart = enter_network_namespace(plan.network_namespace)
    # Into a namespace that is made here, an engine moves interfaces between `create` and `start`.
    is_filled_later = options.network == "pod" and plan.network_namespace == ""
    config: GuestConfig = replace(
        prepare_boot(_choose_network(options, is_apart=is_apart)),
        descriptors=tuple(plan.descriptors),
        locks=(container.hold_machine(),),
    )
    with pod_log(container) as say:
        if is_filled_later:
            creator.await_record()
            if not requests.await_start():
                say("stopped before its start; exit status 0")
                return 0
            config = with_pod_interface(config, options) if has_interface() else config
        offer = _plan_offer(config, plan.resolver_file)
        with boot_guest(config, say) as guest:
            if not is_filled_later:
                creator.await_record()
            host = GuestHost(
                guest,
                requests,
                offer=offer,
                grace_seconds=plan.stop_grace_seconds,
                sealed_log=SealedLog(
                    path=Path(plan.sealed_log),
                    max_bytes=plan.sealed_log_bytes,
                    all_bytes=plan.all_sealed_logs_bytes,
                ),
                say=say,
            )
            end = host.serve()
        status = exit_status(end, host.last, host.pod_exit_code)
        say(f"ended: {end}; exit status {status}")
    guest.require_sound_end()
    return status


def _choose_network(options: argparse.Namespace, *, is_apart: bool) -> argparse.Namespace:
    """Let `--network pod` be QEMU's user network where there is no interface to take over.

    A host keeps its own (`--network host`), and a namespace may have none (`--network none`).
    """
    if options.network == "pod" and not (is_apart and has_interface()):
        return argparse.Namespace(**(vars(options) | {"network": "open"}))
    return options


def _plan_offer(config: GuestConfig, resolver_file: str) -> NetworkOffer | None:
    match config.network:
        case None:
            return None
        case UserNetwork():
            return offer_user_network(config.network)
        case PodInterface(address=address):
            document = b""
            with suppress(FileNotFoundError):  # a host may have none: nobody answers for names
                document = read_regular(Path(resolver_file), MAX_RESOLVER_BYTES, "bundle.resolver")
            text = document.decode(errors="replace")
            return offer_pod_interface(config.network, parse_nameservers(text, address.version))
        case _:
            assert_never(config.network)


if __name__ == "__main__":
    raise SystemExit(main())
