"""The life of a virtual TPM: made once with an attestation key in it, started for each boot.

The attestation key (AK) is what Trustee's `tpm` evidence expects a platform to have provisioned: a
restricted RSA-2048 signing key (RSASSA, SHA-256) at the persistent handle 0x81010002 with empty
authorisation. This vTPM belongs to the host: it demonstrates the chain of attestation, but protects
nothing. Quotes are the guest's business, their verification the guest owner's.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ccinit.errors import CcinitError, ConfigError
from host_runtime.programs import process
from host_runtime.programs.locked_folder import locked_folder
from host_runtime.programs.process import OwnedProcess, wait_for_listener
from host_runtime.programs.socket_folder import open_socket_folder
from host_runtime.programs.tools import Tools
from measured_boot.command_line.errors import describe_error

AK_HANDLE: Final = "0x81010002"
_AK_FILE: Final = "ak.der"
_STATE_FOLDER: Final = "state"
_STATE_FILE: Final = "tpm2-00.permall"  # as swtpm names it
_NEW: Final = ".new-"  # in the name of one that is being made
_UNCOUNTED_FILE: Final = "ends-not-counted"  # of a vTPM whose parameters are those below
_START_SECONDS: Final = 10.0
_FILES: Final = (".ctx", ".pub", ".der")  # arguments that name files, below the vTPM's folder

# A TPM loads three objects at most, and swtpm has no resource manager: flush after each.
_FLUSH: Final = ("tpm2_flushcontext", "--transient-object")
# A TPM takes each end without a shutdown, of a killed QEMU say, for a guess at the AK's
# authorisation, which is empty. After three it would refuse the AK to every guest; its clock
# runs while a guest does, so restarts that fail at once do not heal it. No recovery: no count.
_UNCOUNTED: Final = (
    (
        *("tpm2_dictionarylockout", "--setup-parameters", "--max-tries=32"),
        *("--recovery-time=0", "--lockout-recovery-time=0"),
    ),
    ("tpm2_shutdown",),
)
_HEALING: Final = (("tpm2_dictionarylockout", "--clear-lockout"), *_UNCOUNTED)
_PROVISIONING: Final = (
    ("tpm2_createek", "-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub"),
    _FLUSH,
    (
        *("tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-u", "ak.pub"),
        *("-G", "rsa2048", "-g", "sha256", "-s", "rsassa"),
    ),
    _FLUSH,
    ("tpm2_evictcontrol", "-C", "o", "-c", "ak.ctx", AK_HANDLE),
    _FLUSH,
    ("tpm2_readpublic", "-c", AK_HANDLE, "-f", "der", "-o", _AK_FILE),
    *_UNCOUNTED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualTpm:
    """A vTPM at rest: its folder holds swtpm's state and the AK's public part."""

    folder: Path

    def ak_public_der(self) -> bytes:
        """Return the AK's public part (DER SubjectPublicKeyInfo), to be registered with a KBS.

        Raises:
            ConfigError: `tpm.folder`: no vTPM was made here.
        """
        path = self.folder / _AK_FILE
        if not path.is_file():
            raise self._missing()
        return path.read_bytes()

    def require_whole(self) -> None:
        """Check that the TPM's state is there: without it swtpm would begin a new, empty TPM.

        Raises:
            ConfigError: `tpm.folder`.
        """
        self.ak_public_der()
        if not (self.folder / _STATE_FOLDER / _STATE_FILE).is_file():
            raise self._missing()

    def require_free(self) -> None:
        """Check that no guest runs with it; one that begins later is refused by `start`.

        Raises:
            ConfigError: `tpm.busy`, `tpm.lock`: as `start`.
        """
        os.close(self._lock())

    def _missing(self) -> ConfigError:
        told = f"{self.folder} holds no vTPM: name a new folder, to have one made"
        return ConfigError("tpm.folder", told)

    def start(
        self,
        tools: Tools,
        *,
        control_socket: Path,
        log: Path,
        locks: tuple[int, ...] = (),
        say: Callable[[str], None] = lambda _text: None,
    ) -> OwnedProcess:
        """Start swtpm for one boot; it inherits `locks`, and ends when QEMU closes its socket.

        One made by an earlier version, which counts guests that ended suddenly, is healed first.
        If that fails, `say` gets a line, and it is started as it is.

        Raises:
            ConfigError: as `require_whole`; `tpm.busy`: another guest runs with this vTPM;
                `tpm.lock`: it cannot be told; `tpm.sockets`: swtpm cannot take the socket's path.
            ChildError: swtpm ended at once; the text holds what it printed.
        """
        self.require_whole()
        options = ("--ctrl", f"type=unixio,path={_listed(control_socket)}", "--terminate")
        own_lock = self._lock()
        inherited = (own_lock, *locks)
        try:
            self._have_healed(tools, log, inherited, say)
            child = _start_swtpm(tools, self.folder, options, log, inherited)
        finally:
            os.close(own_lock)  # swtpm inherited it, and keeps the lock while it lives
        try:
            wait_for_listener(control_socket, child, _START_SECONDS)
        except BaseException:
            child.stop()
            raise
        return child

    def _have_healed(
        self,
        tools: Tools,
        log: Path,
        descriptors: tuple[int, ...],
        say: Callable[[str], None],
    ) -> None:
        """Have it count no sudden ends, if it still does, and forget those that it has counted.

        The machine's own TPM2_Startup begins with the registers of a TPM that was reset, whatever
        was before, so nothing that is measured depends on this.
        """
        mark = self.folder / _UNCOUNTED_FILE
        if mark.exists():
            return
        try:
            _send(tools, self.folder, _HEALING, log, descriptors)
            mark.touch()
        except (CcinitError, OSError) as error:
            told = "the vTPM may refuse its key to guests after three that end suddenly"
            say(f"{told}, since it cannot be healed: {describe_error(error)}")

    def _lock(self) -> int:
        # swtpm itself locks its state only when QEMU initialises it, which is too late to say why.
        path = self.folder / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                detail = f"a guest runs with the vTPM {self.folder}"
                raise ConfigError("tpm.busy", detail) from error
            detail = f"cannot lock {path}: {error.strerror}; is it on a local disk?"
            raise ConfigError("tpm.lock", detail) from error
        return descriptor


def manufacture_tpm(tools: Tools, folder: Path) -> VirtualTpm:
    """Make a new vTPM in `folder`, which must not exist, and its AK (1 to 3 seconds).

    The folder gets its name only once it is complete, so a killed process leaves no half-made vTPM.

    Raises:
        FileExistsError: `folder` is there, made by another process meanwhile perhaps.
        ConfigError: `tpm.sockets`: swtpm cannot take the path of its sockets.
        ChildError: swtpm or a tpm2 command failed; the text says how. `folder` is not made.
    """
    if folder.exists():
        raise _exists(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder.parent, f".{folder.name}{_NEW}") as new:
        (new / _STATE_FOLDER).mkdir()
        _send(tools, new, _PROVISIONING, new / "manufacture.log")
        (new / _UNCOUNTED_FILE).touch()
        try:
            new.rename(folder)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            raise _exists(folder) from error
    return VirtualTpm(folder=folder)


def _exists(folder: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))


def _send(
    tools: Tools,
    folder: Path,
    steps: Sequence[Sequence[str]],
    log: Path,
    descriptors: tuple[int, ...] = (),
) -> None:
    """Run programs of tpm2-tools on a vTPM that no guest has."""
    with open_socket_folder() as sockets:
        server = sockets / "tpm"
        control = sockets / "tpm.ctrl"  # tpm2-tss adds this suffix to the server's path
        options = (
            *("--server", f"type=unixio,path={_listed(server)}"),
            *("--ctrl", f"type=unixio,path={_listed(control)}"),
            *("--flags", "not-need-init,startup-clear"),
        )
        with _start_swtpm(tools, folder, options, log, descriptors) as child:
            wait_for_listener(server, child, _START_SECONDS)
            environment = {**tools.environment(), "TPM2TOOLS_TCTI": f"swtpm:path={server}"}
            for program, *arguments in steps:
                words = (folder / word if word.endswith(_FILES) else word for word in arguments)
                command = (*tools.command(program), *map(str, words))
                process.run(command, environment=environment)


def _listed(socket: Path) -> str:
    """Return the path of a socket as it stands in a list of swtpm's options, or tpm2-tss's.

    Raises:
        ConfigError: `tpm.sockets`: it has a comma, which neither has a way to say.
    """
    if "," in str(socket):
        told = f"{socket}: swtpm takes no comma: name a folder without by XDG_RUNTIME_DIR or TMPDIR"
        raise ConfigError("tpm.sockets", told)
    return str(socket)


def _start_swtpm(
    tools: Tools,
    folder: Path,
    options: tuple[str, ...],
    log: Path,
    descriptors: tuple[int, ...] = (),
) -> OwnedProcess:
    # Named from where it runs: swtpm has no way to say a comma, which the folder's path may have.
    state = ("--tpmstate", f"dir={_STATE_FOLDER},mode=0600")
    command = (*tools.command("swtpm"), "socket", "--tpm2", *state, *options)
    environment = tools.environment()
    return OwnedProcess(
        command, log=log, environment=environment, folder=folder, descriptors=descriptors
    )
