"""Who may do what: one row for each kind of child that PID 1 starts.

Children parse what comes from outside, so this table is the guest's inner wall. Every child has its
role's user id, no_new_privs, a Landlock domain and a seccomp filter, whatever the row says; a row
can only add rights. `child` applies a row, and `children` is the other end.
"""

import enum
from collections.abc import Mapping

from ccinit.agent.processes.syscall_sets import (
    APPENDER,
    ATTESTER,
    NETLINK,
    PARSER,
    PROGRAM,
    STARTER,
    TLS_CLIENT,
    TLS_CLIENT_WITH_KEY,
    TLS_SERVER,
    TREE_WALK,
)
from ccinit.kernel.credentials import Capability
from ccinit.kernel.seccomp import SyscallPolicy
from ccinit.values import frozen

MIB = 1 << 20
FIRST_UID = 900


class Role(enum.StrEnum):
    """The kinds of children."""

    INITDATA = "initdata"
    MEASURE = "measure"
    EXTEND = "extend"
    CONFIG = "config"
    NET = "net"
    EVIDENCE = "evidence"
    ENDORSE = "endorse"
    KBS = "kbs"
    LAUNCH = "launch"
    LUKS2 = "luks2"
    FORMAT = "format"
    REGISTRY = "registry"
    SIGNATURE = "signature"
    INSPECT = "inspect"
    UNWRAP = "unwrap"
    DECRYPT = "decrypt"
    UNPACK = "unpack"
    LAYERS = "layers"
    INDEX = "index"
    FEED = "feed"
    COMPRESS = "compress"
    TREE = "tree"
    USER = "user"
    OWNER = "owner"
    WORKLOAD = "workload"
    REAPER = "reaper"


class Workspace(enum.Enum):
    """What a role may do with the path that a job names."""

    NONE = enum.auto()
    READ = enum.auto()
    WRITE = enum.auto()


@frozen
class Rights:
    """The rights of one role.

    Attributes:
        job: `module:function` of a job in Python, or the absolute path of a program.
        uid: user and group id.
        syscalls: what the seccomp filter allows.
        capabilities: kept across the change of user; not by a program.
        connect: may make TCP connections.
        may_start: absolute path of a program that the job may start, or empty.
        preload: modules that would be imported on first use, when files can no longer be read.
        without: modules that a library of the role would use if they were there.
        read: paths that may be read.
        workspace: what it may do with the one path that a job names.
        memory_bytes: address space, and memory of the child's cgroup.
        stores: it fills files of the store; if that is in memory, its cgroup gets a higher limit.
        reply_bytes: the longest message to PID 1.
        messages: the most messages to PID 1 in one job.
        own_processes: is the first process of a new PID namespace, which containers will join; so
            it also has no view of the guest's mounts.
        oom_score: its OOM score adjustment; at 1000 the kernel kills it first.
    """

    job: str
    uid: int
    syscalls: SyscallPolicy
    capabilities: frozenset[Capability] = frozenset()
    connect: bool = False
    may_start: str = ""
    preload: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    workspace: Workspace = Workspace.NONE
    memory_bytes: int = 512 * MIB
    stores: bool = False
    reply_bytes: int = 4 * MIB
    messages: int = 4096
    own_processes: bool = False
    oom_score: int = 500

    def is_program(self) -> bool:
        """Return whether the job is a program of the image."""
        return self.job.startswith("/")


LIBRARIES = ("/etc/ld.so.cache", "/usr")
RESOLVER = ("/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf", "/usr")
DECODERS = ("zstandard",)
"""What httpx would decode content codings with; only children without network may decompress."""

RIGHTS: Mapping[Role, Rights] = {
    # the host's disks, read-only by fd: finds and inflates the document
    Role.INITDATA: Rights(
        job="ccinit.boot.configuration:initdata_job", uid=FIRST_UID + 1, syscalls=PARSER
    ),
    # the TPM or the TEE's report by fd
    Role.MEASURE: Rights(job="ccinit.agent.jobs.measure:run", uid=FIRST_UID + 2, syscalls=ATTESTER),
    # the event log's register by fd
    Role.EXTEND: Rights(job="ccinit.agent.jobs.extend:run", uid=FIRST_UID + 15, syscalls=PARSER),
    # the document, now bound to the platform
    Role.CONFIG: Rights(
        job="ccinit.boot.configuration:config_job",
        uid=FIRST_UID + 3,
        syscalls=PARSER,
        preload=("re", "tomllib", "ccinit.formats.initdata.guest_files"),
        reply_bytes=6 * MIB,  # a document, and each of 64 images with the roots of its cdh.toml
    ),
    # the host's network offer, already validated
    Role.NET: Rights(
        job="ccinit.agent.jobs.net:run",
        uid=FIRST_UID + 4,
        syscalls=NETLINK,
        capabilities=frozenset({Capability.NET_ADMIN}),
    ),
    # the TPM or the TEE's report by fd
    Role.EVIDENCE: Rights(
        job="ccinit.agent.jobs.evidence:run", uid=FIRST_UID + 5, syscalls=ATTESTER
    ),
    # a cloud's metadata service
    Role.ENDORSE: Rights(
        job="ccinit.agent.jobs.endorse:run",
        uid=FIRST_UID + 18,
        syscalls=TLS_CLIENT,
        connect=True,
        preload=("encodings.idna",),
        without=DECODERS,
        read=RESOLVER,
        reply_bytes=256 * 1024,
    ),
    # the Key Broker Service
    Role.KBS: Rights(
        job="ccinit.agent.jobs.kbs:run",
        uid=FIRST_UID + 6,
        syscalls=TLS_CLIENT_WITH_KEY,
        connect=True,
        preload=("encodings.idna",),
        without=DECODERS,
        read=RESOLVER,
        reply_bytes=6 * MIB,  # contents (`MAX_RELEASED_BYTES`), and names from a document
    ),
    # the secrets of a launch that its owner judged, by fd
    Role.LAUNCH: Rights(job="ccinit.agent.jobs.launch:run", uid=FIRST_UID + 21, syscalls=PARSER),
    # the header of a LUKS2 volume, in memory; its passphrase by pipe
    Role.LUKS2: Rights(
        job="ccinit.unlock.luks2:luks2_job",
        uid=FIRST_UID + 20,
        syscalls=PARSER,
        preload=("cryptography.hazmat.backends.openssl.backend",),
        memory_bytes=256 * MIB,
    ),
    # an empty file system on an encrypted device
    Role.FORMAT: Rights(
        job="/usr/bin/mkfs.ext4",
        uid=FIRST_UID + 7,
        syscalls=PROGRAM,
        read=LIBRARIES,
        workspace=Workspace.WRITE,
    ),
    # manifests, and the blobs of layers, which go on into a pipe
    Role.REGISTRY: Rights(
        job="ccinit.pull.registry.fetch:registry_job",
        uid=FIRST_UID + 8,
        syscalls=TLS_CLIENT_WITH_KEY,
        connect=True,
        preload=("encodings.idna",),
        without=DECODERS,
        read=RESOLVER,
        stores=True,  # encrypted layers
        messages=1 << 16,
    ),
    # the registry's signatures, and the owner's policy for them
    Role.SIGNATURE: Rights(
        job="ccinit.pull.signature.judge:signature_job",
        uid=FIRST_UID + 16,
        syscalls=PARSER,
        preload=("cryptography.hazmat.backends.openssl.backend",),
    ),
    # an image's documents, from its index to its configuration
    Role.INSPECT: Rights(
        job="ccinit.pull.inspect:inspect_job", uid=FIRST_UID + 12, syscalls=PARSER
    ),
    # wraps of layer keys; one key of the KBS by pipe
    Role.UNWRAP: Rights(
        job="ccinit.pull.encryption.unwrap:unwrap_job", uid=FIRST_UID + 13, syscalls=PARSER
    ),
    # encrypted layers in a file by fd, decrypted into a pipe; their keys by pipe
    Role.DECRYPT: Rights(
        job="ccinit.pull.encryption.decrypt:decrypt_job", uid=FIRST_UID + 14, syscalls=PARSER
    ),
    # compressed layers by pipe, and files to append to
    Role.UNPACK: Rights(
        job="ccinit.pull.layers.unpack:unpack_job",
        uid=FIRST_UID + 22,
        syscalls=APPENDER,
        memory_bytes=1024 * MIB,
        stores=True,
    ),
    # those files while they grow
    Role.LAYERS: Rights(
        job="ccinit.pull.layers.verify:layers_job",
        uid=FIRST_UID + 9,
        syscalls=PARSER,
        memory_bytes=1024 * MIB,
        stores=True,
    ),
    # an erofs index over each layer's tar
    Role.INDEX: Rights(
        job="ccinit.agent.jobs.index:run",
        uid=FIRST_UID + 10,
        syscalls=STARTER,
        may_start="/usr/bin/mkfs.erofs",
        read=LIBRARIES,
        workspace=Workspace.WRITE,
        memory_bytes=2048 * MIB,
    ),
    # a tar in memory by fd, into a pipe
    Role.FEED: Rights(job="ccinit.pull.erofs.feed:feed_job", uid=FIRST_UID + 24, syscalls=PARSER),
    # compressed erofs of a tar that comes by pipe
    Role.COMPRESS: Rights(
        job="/usr/bin/mkfs.erofs",
        uid=FIRST_UID + 25,
        syscalls=PROGRAM,
        read=LIBRARIES,
        workspace=Workspace.WRITE,
        memory_bytes=2048 * MIB,
        stores=True,
    ),
    # mounted layers, whoever their files belong to, and the marks that only root may see: see
    # docs/decisions/0040
    Role.TREE: Rights(
        job="ccinit.pull.erofs.walk:tree_job",
        uid=FIRST_UID + 11,
        syscalls=TREE_WALK,
        capabilities=frozenset({Capability.DAC_READ_SEARCH, Capability.SYS_ADMIN}),
        workspace=Workspace.READ,
        memory_bytes=1024 * MIB,
    ),
    # /etc/passwd and /etc/group of a container's root, by fd
    Role.USER: Rights(
        job="ccinit.run.users:user_job",
        uid=FIRST_UID + 26,
        syscalls=PARSER,
        memory_bytes=128 * MIB,
        reply_bytes=64 * 1024,
        messages=1,
    ),
    # one connection of the owner plane; calls are questions, so there may be many
    Role.OWNER: Rights(
        job="ccinit.agent.jobs.owner:run",
        uid=FIRST_UID + 17,
        syscalls=TLS_SERVER,
        memory_bytes=256 * MIB,
        reply_bytes=512 * 1024,
        messages=1 << 20,
    ),
    # one HTTP request of a container; the call is a question
    Role.WORKLOAD: Rights(
        job="ccinit.agent.jobs.workload:run",
        uid=FIRST_UID + 19,
        syscalls=PARSER,
        preload=("urllib.parse",),
        memory_bytes=128 * MIB,
        reply_bytes=64 * 1024,
        messages=2,
    ),
    # nothing; with its end the kernel ends the pod's main containers
    Role.REAPER: Rights(
        job="ccinit.agent.jobs.reaper:run",
        uid=FIRST_UID + 23,
        syscalls=PARSER,
        memory_bytes=128 * MIB,
        reply_bytes=1024,
        messages=1,
        own_processes=True,
        oom_score=0,
    ),
}
