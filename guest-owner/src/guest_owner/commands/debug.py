"""`guest-owner debug`: what a pod needs to be debugged, the grant, and the shell.

Only a grant that the guest itself fetches opens debug. So `debug open` first leaves an order for
one with the KBS, then has the guest ask for it, and finally withdraws the order, which would open
every other guest of the pod, too. With `--granted` somebody has left the order already (by `debug
grant`, where the KBS's state is).
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ccinit.errors import ConfigError
from ccinit.formats.disk.verity import VerityParameters
from ccinit.formats.kbs.debug_grant import MAX_GRANT_SECONDS
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.planes.owner_rpc import DEBUG_CONTAINER
from guest_owner.arguments import add_group, add_state, as_name
from guest_owner.commands.exec import require_runnable, run_program
from guest_owner.debug_tools import MAX_TOOLS_BYTES, format_config, parse_debug_tools
from guest_owner.files import read_parsed
from guest_owner.kbs.exclusion import changing
from guest_owner.kbs.minting import DebugOrder
from guest_owner.kbs.state.local_changes import recording_store
from guest_owner.kbs.state.store import Store
from guest_owner.plane.endpoint import add_endpoint, connect
from guest_owner.plane.kbs_wait import ASK_SECONDS, announcing_wait
from guest_owner.telling import tell
from measured_boot.command_line.argument_types import whole_number
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.termination import orderly_termination
from measured_boot.command_line.usage import UsageError

_SHELL = ("/bin/sh", "-i")
_NOT_YET = "debug is not open yet"
_MINUTES = 60
_TOOLS_HELP = "ccinit-debug-tools.json of the image build"


def add_parser(subparsers: Subparsers) -> None:
    """Add `debug tools`, `debug grant` and `debug open`."""
    commands = add_group(
        subparsers, "debug", "Open a running guest for debugging, which every verifier then sees."
    )
    summary = "Print `[debug.tools]` for ccinit.toml: the one disk that debug may mount."
    tools = add_command(commands, "tools", summary)
    tools.add_argument("file", type=Path, metavar="FILE", help="ccinit-debug-tools.json")
    tools.set_defaults(func=_tools)

    summary = "Let the KBS grant debug to guests of a pod for a while, each for its own session."
    grant = add_command(commands, "grant", summary)
    add_state(grant)
    grant.add_argument("pod", type=as_name("debug.pod"), metavar="POD", help="name of the pod")
    grant.add_argument("--tools", type=Path, metavar="FILE", required=True, help=_TOOLS_HELP)
    _add_terms(grant)
    grant.set_defaults(func=_grant)

    summary = "Grant debug to one guest, open it there, and run a program of the tools (a shell)."
    opening = add_command(commands, "open", summary)
    opening.add_argument("-i", "--stdin", action="store_true", help="send standard input")
    opening.add_argument("-t", "--tty", action="store_true", help="run it on a terminal (with -i)")
    which = opening.add_mutually_exclusive_group(required=True)
    which.add_argument("--tools", type=Path, metavar="FILE", help=_TOOLS_HELP)
    which.add_argument(
        "--granted", action="store_true", help="make no grant: `debug grant` was run elsewhere"
    )
    _add_terms(opening)
    add_endpoint(opening)
    opening.add_argument(
        "args", nargs="*", metavar="PROGRAM …", help=f"after --; default: {' '.join(_SHELL)}"
    )
    opening.set_defaults(func=_open)


def _add_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--minutes",
        type=whole_number(1, MAX_GRANT_SECONDS // 60),
        metavar="N",
        help=f"until the guest ends (default: {_MINUTES})",
    )
    parser.add_argument(
        "--keep-pod",
        action="store_true",
        help="let the pod go on; whoever debugs can then reach its secrets",
    )


def _tools(arguments: argparse.Namespace) -> int:
    print(format_config(_read_tools(arguments.file)), end="")
    return 0


def _grant(arguments: argparse.Namespace) -> int:
    uri, order = _grant_uri(arguments.pod), _make_order(arguments, _read_tools(arguments.tools))
    recording_store(arguments.state, "debug grant").write_order(uri, order)
    ends = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(order.expires_s))
    print(f"until {ends} a guest that may have {uri} may be debugged by its owner's admins")
    return 0


def _open(arguments: argparse.Namespace) -> int:
    if arguments.granted and (arguments.minutes is not None or arguments.keep_pod):
        raise UsageError("debug.terms", "--minutes and --keep-pod are terms of a grant: of --tools")
    program = tuple(arguments.args) or _SHELL
    require_runnable(program, tty=arguments.tty)  # not once the pod is stopped
    tools = None if arguments.granted else _read_tools(arguments.tools)
    with orderly_termination(), connect(arguments) as client:
        with _granting(arguments, tools), announcing_wait(_NOT_YET):
            seconds, keeps_pod = client.call("open_debug", seconds=ASK_SECONDS)
        pod = "goes on" if keeps_pod else "was stopped"
        tell(f"debug is open: the guest ends in {seconds!r} s, its pod {pod}")
        terms = {"stdin": arguments.stdin, "tty": arguments.tty}
        return run_program(client, DEBUG_CONTAINER, program, **terms)


@contextmanager
def _granting(arguments: argparse.Namespace, tools: VerityParameters | None) -> Iterator[None]:
    """Keep an order for a grant of tools in place while the block runs; None: it is there."""
    if tools is None:
        yield
        return
    store = recording_store(arguments.state, "debug open")
    uri, order = _grant_uri(arguments.pod), _make_order(arguments, tools)
    with ExitStack() as undo:
        with changing(store.root):
            before = store.read_order(uri)
            has_ended = isinstance(before, DebugOrder) and before.expires_s <= time.time()
            if store.has_resource(uri) and not has_ended:
                detail = f"{uri} is there: use --granted, or wait for its end"
                raise ConfigError("debug.granted", detail)
            undo.callback(_withdraw, store, uri, order)  # also if the write is interrupted
            store.write_order(uri, order)
        yield


def _withdraw(store: Store, uri: ResourceUri, order: DebugOrder) -> None:
    with changing(store.root):
        if store.read_order(uri) == order:  # otherwise another order has replaced it meanwhile
            store.delete_resource(uri)


def _grant_uri(pod: str) -> ResourceUri:
    return ResourceUri("ccinit", pod, EnvelopeKind.DEBUG_GRANT.value)


def _read_tools(path: Path) -> VerityParameters:
    return read_parsed(path, MAX_TOOLS_BYTES, parse_debug_tools)


def _make_order(arguments: argparse.Namespace, tools: VerityParameters) -> DebugOrder:
    return DebugOrder(
        expires_s=int(time.time()) + (arguments.minutes or _MINUTES) * 60,
        tools_root=tools.root_hash,
        keep_pod=arguments.keep_pod,
    )
