"""The command `host-runtime`: boot a guest, and call its host plane.

Thin: arguments to values, values to JSON lines. Everything it does can be done from Python with
`host_runtime.launcher` and `host_runtime.rpc_client`.
"""

import argparse
import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from ccinit.errors import CcinitError
from ccinit.formats.host_rpc import METHODS, PORT
from host_runtime import boot_command
from host_runtime.forward import forward
from host_runtime.rpc_client import GuestClient, GuestState, NetworkOffer
from host_runtime.transport import KernelLink, UserLink, VsockLink
from measured_boot.command_errors import describe_error

_CONNECT_SECONDS = 5.0
_FOLLOW_MS = 10_000

Call = Callable[[GuestClient, argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 if not, 2 for wrong arguments."""
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except (CcinitError, OSError) as error:
        print(f"host-runtime: {describe_error(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("host-runtime: interrupted; the guest was ended", file=sys.stderr)
    return 1


def _hello(client: GuestClient, options: argparse.Namespace) -> None:
    del options
    hello = client.hello()
    _say({"protocol": hello.protocol, "build_id": hello.build_id.hex()})


def _state(client: GuestClient, options: argparse.Namespace) -> None:
    del options
    _say_state(client.state())


def _wait(client: GuestClient, options: argparse.Namespace) -> None:
    _say_state(client.wait(options.sequence, int(options.seconds * 1000)))


def _offer_network(client: GuestClient, options: argparse.Namespace) -> None:
    interface = options.address.rpartition("/")
    client.offer_network(
        NetworkOffer(
            mac=bytes.fromhex(options.mac.replace(":", "")),
            address=map_address(interface[0]),
            prefix=int(interface[2]),
            gateway=map_address(options.gateway),
            mtu=options.mtu,
            dns=tuple(map(map_address, options.dns)),
        )
    )


def _start(client: GuestClient, options: argparse.Namespace) -> None:
    del options
    client.start()


def _stop(client: GuestClient, options: argparse.Namespace) -> None:
    client.stop(options.grace)


def _metrics(client: GuestClient, options: argparse.Namespace) -> None:
    del options
    metrics = client.metrics()
    _say(
        {
            "total_bytes": metrics.total_bytes,
            "available_bytes": metrics.available_bytes,
            "vcpus": metrics.vcpus,
        }
    )


def _collect(client: GuestClient, options: argparse.Namespace) -> None:
    with options.output.open("ab") as output:
        cursor = output.tell() if options.cursor is None else options.cursor
        wait_ms = _FOLLOW_MS if options.follow else 0
        for chunk in client.collect(cursor, wait_ms, follow=options.follow):
            output.write(chunk.blob)
            output.flush()
            cursor = chunk.next_cursor
    _say({"next_cursor": cursor})


def _relay(client: GuestClient, options: argparse.Namespace) -> None:
    """Lead every connection of a TCP port to the owner plane, until interrupted."""
    host, port = options.listen
    with socket.create_server((host, port)) as listener:
        _say({"listening": f"{host}:{listener.getsockname()[1]}"})
        while True:
            owner, _ = listener.accept()
            try:
                guest = client.relay()
            except CcinitError as error:
                owner.close()
                print(f"host-runtime: {error.detail} [{error.reason}]", file=sys.stderr)
                continue
            threading.Thread(target=_forward, args=(owner, guest), daemon=True).start()


def _forward(owner: socket.socket, guest: socket.socket) -> None:
    with owner, guest:
        forward(owner, guest)


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, or of a port alone on loopback."""
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, found {text!r}")
    return host or "127.0.0.1", int(port)


def map_address(text: str) -> bytes:
    """Return an address's 16 bytes, IPv4 mapped into IPv6."""
    match ip_address(text):
        case IPv4Address() as address:
            return bytes(10) + b"\xff\xff" + address.packed
        case IPv6Address() as address:
            return address.packed


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


_CALLS: Mapping[str, Call] = {
    "hello": _hello,
    "state": _state,
    "wait": _wait,
    "offer_network": _offer_network,
    "start": _start,
    "stop": _stop,
    "metrics": _metrics,
    "collect": _collect,
    "relay": _relay,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="host-runtime",
        description="Boot a confidential-container guest and call its host plane.",
        epilog="The host is not trusted: it sees a phase, a closed code and ciphertext, no more.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command, text, add in (
        ("boot", boot_command.BOOT_HELP, boot_command.add_boot),
        ("record", boot_command.RECORD_HELP, boot_command.add_record),
    ):
        add(commands.add_parser(command, help=text, description=text))
    for name, call in _CALLS.items():
        if name in METHODS:
            purpose = METHODS[name].purpose.replace("%", "%%")
            command = name.replace("_", "-")
            _add_call(commands.add_parser(command, help=purpose, description=purpose), name, call)
    return parser


def _add_call(command: argparse.ArgumentParser, name: str, call: Call) -> None:
    guest = command.add_mutually_exclusive_group(required=True)
    guest.add_argument("--guest", type=Path, metavar="FOLDER", help="the folder given to `boot`")
    guest.add_argument("--socket", type=Path, help="a Unix socket that leads to the guest's vsock")
    guest.add_argument(
        "--cid", type=int, help="the guest's CID, if the host's kernel carries vsock"
    )
    match name:
        case "wait":
            command.add_argument("sequence", type=int, help="the sequence number that you know")
            command.add_argument("--seconds", type=float, default=60.0, help="at most 60")
        case "offer_network":
            command.add_argument("--mac", required=True, help="of the guest's interface")
            command.add_argument("--address", required=True, help="ADDRESS/PREFIX")
            command.add_argument("--gateway", required=True)
            command.add_argument("--mtu", type=int, default=1500)
            command.add_argument("--dns", action="append", default=[], help="up to three times")
        case "stop":
            command.add_argument("--grace", type=int, default=10, help="seconds (default: 10)")
        case "collect":
            command.add_argument("output", type=Path, help="file to append the sealed stream to")
            command.add_argument(
                "--cursor", type=int, help="where to go on (default: where the file ends)"
            )
            command.add_argument(
                "--follow", action="store_true", help="go on until the guest ends its log"
            )
        case "relay":
            command.add_argument(
                "--listen",
                type=parse_listen,
                default=("127.0.0.1", 0),
                metavar="HOST:PORT",
                help="where owners connect to (default: 127.0.0.1 and any port)",
            )
        case _:
            pass
    command.set_defaults(command=lambda options: _run_call(options, call))


def _run_call(options: argparse.Namespace, call: Call) -> int:
    link: VsockLink
    if options.cid is not None:
        link = KernelLink(guest_cid=options.cid)
    else:
        path = options.socket if options.guest is None else options.guest / "vsock"
        link = UserLink(path=path.resolve())
    with GuestClient(lambda: link.connect(PORT, _CONNECT_SECONDS)) as client:
        call(client, options)
    return 0
