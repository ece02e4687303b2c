"""The command `host-runtime`: boot a guest, and call its host plane.

A thin layer: arguments to values, values to JSON lines. Everything it does can be done from Python
with `host_runtime.launch.launcher` and `host_runtime.plane.rpc_client`.
"""

import argparse
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from ccinit.errors import CcinitError
from ccinit.formats.planes.host_rpc import MAX_WAIT_MS, PORT
from host_runtime.commands import boot as boot_command
from host_runtime.launch.network_offer import map_address
from host_runtime.network.resolver import MAX_NAMESERVERS
from host_runtime.plane.log_collection import LogCollection
from host_runtime.plane.rpc_client import GuestClient, GuestState, NetworkOffer
from host_runtime.plane.transport import KernelLink, UserLink, VsockLink
from host_runtime.relay.forward import forward
from host_runtime.relay.listener import accept_all, serve_apart
from measured_boot.command_line.argument_types import seconds, whole_number
from measured_boot.command_line.errors import describe_error, run_command
from measured_boot.command_line.subcommands import (
    Subparsers,
    add_command,
    add_commands,
    make_parser,
    run_chosen,
)
from measured_boot.command_line.tcp_address import join_address, split_address
from measured_boot.command_line.usage import UsageError

NOT_FOR_OTHERS = 0o022  # umask: others may not write to our folders
_CONNECT_SECONDS = 5.0
_COLLECT_MIB = 256  # as `sealed_log_bytes` of the OCI runtime
_MAC = re.compile("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_U16, _U32, _U64 = (1 << 16) - 1, (1 << 32) - 1, (1 << 64) - 1

Call = Callable[[GuestClient, argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status, as README.md lists them."""
    return run_command("host-runtime", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    os.umask(os.umask(NOT_FOR_OTHERS) | NOT_FOR_OTHERS)  # what a guest boots and writes lies there
    return run_chosen(_parser(), arguments)


def _hello(client: GuestClient, _options: argparse.Namespace) -> None:
    hello = client.hello()
    _say({"protocol": hello.protocol, "build_id": hello.build_id.hex()})


def _state(client: GuestClient, _options: argparse.Namespace) -> None:
    _say_state(client.state())


def _wait(client: GuestClient, options: argparse.Namespace) -> None:
    _say_state(client.wait(options.sequence, int(options.seconds * 1000)))


def _offer_network(client: GuestClient, options: argparse.Namespace) -> None:
    if len(options.dns) > MAX_NAMESERVERS:
        detail = f"expected at most {MAX_NAMESERVERS} --dns, found {len(options.dns)}"
        raise UsageError("offer_network.dns", detail)
    address, prefix = options.address
    client.offer_network(
        NetworkOffer(
            mac=options.mac,
            address=address,
            prefix=prefix,
            gateway=options.gateway,
            mtu=options.mtu,
            dns=tuple(options.dns),
        )
    )


def _start(client: GuestClient, _options: argparse.Namespace) -> None:
    client.start()


def _stop(client: GuestClient, options: argparse.Namespace) -> None:
    client.stop(options.grace)


def _metrics(client: GuestClient, _options: argparse.Namespace) -> None:
    metrics = client.metrics()
    _say(
        {
            "total_bytes": metrics.total_bytes,
            "available_bytes": metrics.available_bytes,
            "vcpus": metrics.vcpus,
        }
    )


def _exit(client: GuestClient, _options: argparse.Namespace) -> None:
    _say({"exit_code": client.exit_code()})


def _collect(client: GuestClient, options: argparse.Namespace) -> None:
    collection = LogCollection(
        output=options.output,
        limit_bytes=options.limit_mib << 20,
        cursor=options.cursor,
        follow=options.follow,
    )
    said: dict[str, object] = {"next_cursor": collection.run(client)}
    if options.follow:  # the log is over; the guest still answers for two seconds, and says why
        with suppress(CcinitError):
            state = client.state()
            said |= {"phase": state.phase.name, "code": state.code.name}
    _say(said)


def _relay(client: GuestClient, options: argparse.Namespace) -> None:
    """Carry every connection of a TCP port to the owner plane, until interrupted."""
    host, port = options.listen
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        # Connections inherit it: an owner whose machine is gone still occupies one of the guest's
        # few places.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        _say({"listening": join_address(host, listener.getsockname()[1])})
        for owner in accept_all(listener, _complain):
            try:
                guest = client.relay()
            except CcinitError as error:
                owner.close()
                _complain(describe_error(error))
                continue
            try:
                serve_apart(_forward, owner, guest)
            except OSError as error:
                owner.close()
                guest.close()
                _complain(describe_error(error))


def _complain(text: str) -> None:
    print(f"host-runtime: {text}", file=sys.stderr)


def _forward(owner: socket.socket, guest: socket.socket) -> None:
    with owner, guest:
        forward(owner, guest)


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, or of a port alone on loopback."""
    address = split_address(text)
    if address is None:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, found {text!r}")
    return address[0] or "127.0.0.1", address[1]


def parse_address(text: str) -> bytes:
    """Return an address's 16 bytes, IPv4 mapped into IPv6."""
    try:
        address = ip_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an IP address, found {text!r}") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        detail = f"expected an address without an interface, found {text!r}"
        raise argparse.ArgumentTypeError(detail)
    return map_address(address)


def _parse_interface(text: str) -> tuple[bytes, int]:
    address, _, prefix = text.partition("/")
    packed = parse_address(address)
    longest = 128 if ":" in address else 32
    if prefix not in map(str, range(longest + 1)):
        raise argparse.ArgumentTypeError(f"expected ADDRESS/PREFIX, found {text!r}")
    return packed, int(prefix)


def _parse_mac(text: str) -> bytes:
    if not _MAC.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected six bytes as 52:54:00:…, found {text!r}")
    return bytes.fromhex(text.replace(":", ""))


def _say(values: Mapping[str, object]) -> None:
    print(json.dumps(values), flush=True)


def _say_state(state: GuestState) -> None:
    _say(
        {
            "phase": state.phase.name,
            "code": state.code.name,
            "sequence": state.sequence,
            "debug": state.is_debug,
        }
    )


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "host-runtime",
        "Boot a confidential-container guest and call its host plane.",
        "The host is not trusted: it sees a phase, a closed code and ciphertext, no more. "
        "Exit status: 0 done; 1 failed; 2 wrong usage; 130, 143, 129 ended by a signal.",
    )
    commands = add_commands(parser)
    boot_command.add_boot(commands)
    boot_command.add_record(commands)
    _add_calls(commands)
    return parser


def _add_calls(commands: Subparsers) -> None:
    add = partial(_add_call, commands)
    add("hello", _hello, "Say which protocol the guest speaks, and which public image it is.")
    add("state", _state, "Say where the guest is: phase, code, number of changes, is debug open.")
    wait = add(
        "wait", _wait, "Say what `state` says once it has changed, or when the time is over."
    )
    wait.add_argument(
        "sequence",
        metavar="SEQUENCE",
        type=whole_number(0, _U32),
        help="number of the last known state, as `state` prints it",
    )
    most = MAX_WAIT_MS / 1000
    wait.add_argument("--seconds", type=seconds(0, most), default=most, metavar="SECONDS",
                      help="at most 60, the default")  # fmt: skip
    _add_offer_network(commands)
    add("start", _start, 'Let the pod start, if the document says start.by = "host".')
    stop = add(
        "stop", _stop, "Ask for an orderly end; the document says how long it may take at most."
    )
    stop.add_argument(
        "--grace",
        type=whole_number(0, _U16),
        default=10,
        metavar="SECONDS",
        help="how long the pod may take (default: %(default)s)",
    )
    text = "Say memory, in steps of 64 MiB, and processors, if the manifest lets you."
    add("metrics", _metrics, text)
    add("exit", _exit, "Say the pod's exit code while the guest ends, if the manifest lets you.")
    _add_collect(commands)
    relay = add(
        "relay", _relay, "Carry TCP connections of owners to the owner plane, until interrupted."
    )
    relay.add_argument(
        "--listen",
        type=parse_listen,
        default=("127.0.0.1", 0),
        metavar="HOST:PORT",
        help="where owners connect to (default: 127.0.0.1 and any port)",
    )


def _add_offer_network(commands: Subparsers) -> None:
    text = "Offer addresses for the guest's one interface; it checks them, and may refuse."
    add = _add_call(commands, "offer-network", _offer_network, text).add_argument
    add("--mac", type=_parse_mac, required=True, help="of the guest's interface")
    add("--address", type=_parse_interface, required=True, metavar="ADDRESS/PREFIX",
        help="address for the guest, with the length of its prefix")  # fmt: skip
    add("--gateway", type=parse_address, required=True, help="address of the router")
    add("--mtu", type=whole_number(0, _U16), default=1500,
        help="of the interface (default: 1500)")  # fmt: skip
    add("--dns", type=parse_address, action="append", default=[],
        help="address of a resolver; may be repeated, up to three of them")  # fmt: skip


def _add_collect(commands: Subparsers) -> None:
    text = "Append to a file what the guest has of its sealed log."
    add = _add_call(commands, "collect", _collect, text).add_argument
    add("output", type=Path, metavar="FILE", help="file to append the sealed stream to")
    add(
        "--cursor",
        type=whole_number(0, _U64),
        help="where to go on (default: where the file ends)",
    )
    add(
        "--limit-mib",
        type=whole_number(1, _U32),
        default=_COLLECT_MIB,
        metavar="N",
        help=f"how large the file may become (default: {_COLLECT_MIB})",
    )
    add(
        "--follow",
        action="store_true",
        help="go on until the guest ends its log, and say its last phase and code",
    )


def _add_call(commands: Subparsers, name: str, call: Call, text: str) -> argparse.ArgumentParser:
    command = add_command(commands, name, text)
    guest = command.add_mutually_exclusive_group(required=True)
    guest.add_argument("--guest", type=Path, metavar="FOLDER", help="the folder given to `boot`")
    guest.add_argument(
        "--socket",
        type=Path,
        metavar="SOCKET",
        help="a Unix socket that leads to the guest's vsock",
    )
    guest.add_argument(
        "--cid", type=boot_command.GUEST_CID, help="the guest's CID, if the host's kernel has vsock"
    )
    command.set_defaults(func=lambda options: _run_call(options, call))
    return command


def _run_call(options: argparse.Namespace, call: Call) -> int:
    link: VsockLink
    if options.cid is not None:
        link = KernelLink(guest_cid=options.cid)
    else:
        path = options.socket if options.guest is None else options.guest / "vsock"
        link = UserLink(path=path.resolve())
        if call is _relay:  # which listens before it calls anybody
            link.require_socket()
    with GuestClient(lambda: link.connect(PORT, _CONNECT_SECONDS)) as client:
        call(client, options)
    return 0
