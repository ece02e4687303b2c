"""Sizes of published files against mkosi's smallest system with systemd, compressed as it is.

Goals are the budgets that the builder enforces, as fractions of the peer: root 27 MiB, the initrd
of stage 0 6 MiB, UKI 45 MiB. The UKI's peer is the kernel with that system as its initrd.
"""

from pathlib import Path
from typing import Final

from tests.bench.measurement import Bench, Row, compare
from tests.bench.systemd_image import build_systemd_images

PEER: Final = "mkosi, systemd"
_MIB: Final = 1 << 20


def measure(bench: Bench) -> tuple[Row, ...]:
    """Look at the files."""
    stem = bench.images / "ccinit-prod"
    system = _size(build_systemd_images(bench).initrd)
    whole = system + _size(stem.with_suffix(".vmlinuz"))
    return (
        _row("root (erofs with its hash tree)", stem.with_suffix(".root.erofs"), system, 27),
        _row("initrd of stage 0", stem.with_suffix(".direct.initrd"), system, 6),
        _row("UKI with the root inside", stem.with_suffix(".efi"), whole, 45),
    )


def _row(name: str, path: Path, peer: float, budget: float) -> Row:
    return compare(
        f"size: {name}", "MiB", ours=[_size(path)], peer=[peer], peer_name=PEER, goal=budget / peer
    )


def _size(path: Path) -> float:
    return path.stat().st_size / _MIB
