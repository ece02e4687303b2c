"""An interpreter of classic BPF, as far as seccomp filters use it."""

import struct

from ccinit.kernel.seccomp import (
    AUDIT_ARCH_X86_64,
    BPF_AND,
    BPF_JEQ,
    BPF_LD,
    BPF_RET,
    INSTRUCTION,
)


def run_filter(
    program: bytes, number: int, arguments: tuple[int, ...] = (), arch: int = AUDIT_ARCH_X86_64
) -> int:
    """Interpret the program as the kernel would; a jump out of it is an IndexError."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<iIQ6Q", number, arch, 0, *padded)
    instructions = list(INSTRUCTION.iter_unpack(program))
    position: int = 0
    accumulator: int = 0
    while True:
        code, jump_true, jump_false, value = instructions[position]
        position += 1
        if code == BPF_LD:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == BPF_AND:
            accumulator &= value
        elif code == BPF_JEQ:
            position += jump_true if accumulator == value else jump_false
        else:
            assert code == BPF_RET
            return int(value)
