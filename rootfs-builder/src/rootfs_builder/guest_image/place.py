"""Put finished files where they are published, which may be another disk than where they grew."""

import shutil
from collections.abc import Sequence
from pathlib import Path


def put_in_place(files: Sequence[Path], output: Path) -> None:
    """Move files into a folder, in their order, over those of an earlier build.

    First all of them get there beside the old ones, so that a disk without room leaves these as
    they are, and none that is cut. They are not flushed to the disk.

    Raises:
        OSError: with the name of the file in `output`.
    """
    output.mkdir(parents=True, exist_ok=True)
    places = {path: output / path.name for path in files}
    try:
        for path, place in places.items():
            path.chmod(0o644)
            try:
                shutil.move(path, _beside(place))
            except OSError as error:  # which may name the file that was read, of a disk with room
                raise OSError(error.errno, error.strerror, str(place)) from error
        for place in places.values():
            _beside(place).rename(place)
    finally:
        for place in places.values():
            _beside(place).unlink(missing_ok=True)


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name}.partial")
