"""Run a command of `rootfs-builder container-image` with tools that are played."""

import argparse
import gzip
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.oci.image import Manifest, parse_image_document
from rootfs_builder.container_image.command import add_parser
from rootfs_builder.container_image.oci_layout import open_layout, read_blob
from rootfs_builder.tools_tree import ToolsTree

CALLS: list[tuple[str, ...]] = []


class Tools(ToolsTree):
    """Plays gzip, and a registry that takes everything."""

    def run(self, arguments: Sequence[str | os.PathLike[str]], **keywords: object) -> bytes:
        words = tuple(os.fspath(argument) for argument in arguments)
        CALLS.append(words)
        if words[0] == "gzip":
            data = keywords["input_data"]
            assert isinstance(data, bytes)
            return gzip.compress(data, mtime=0)
        return b"the raw manifest" if "inspect" in words else b""


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["container-image", *map(str, words)])
    status: int = arguments.func(arguments)
    return status


def refusal(*words: object) -> str:
    with pytest.raises(CcinitError) as refused:
        run(*words)
    return refused.value.reason


def manifest(layout: Path) -> Manifest:
    document = parse_image_document(read_blob(layout, open_layout(layout).digest))
    assert isinstance(document, Manifest)
    return document
