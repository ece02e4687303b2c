"""Write what goes beside built images, so that others can check and register them.

    measurements.json     every register that an image will have, by platform, with its events
    rvps-sample.json      the production image's values as a message to Trustee
    corim.cbor            the same as a CoRIM
    sbom.spdx.json        what the images were made of
    SHA256SUMS            digest of every file above and of the images
    image-id              SHA-256 of SHA256SUMS: one name for all of it
    builder.pub           the builder's public key
    provenance.dsse.json  the builder's signed statement about all of it

The volume with tools for debugging (`guest_image.debug_tools`) is included in the sums and the
signature. All but the last two are the same bytes for every builder of the same inputs.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import FormatError
from measured_boot.command_line.files import write_whole
from measured_boot.image_files import read_report, read_reported
from measured_boot.platforms import PLATFORMS, Boot, Technology
from measured_boot.prediction import (
    DirectKernelBoot,
    Prediction,
    UkiBoot,
    predict,
    predict_launch,
)
from measured_boot.published.corim import encode_corim
from measured_boot.published.dsse import ENVELOPE, IN_TOTO, PUBLIC_KEY, key_id, sign_envelope
from measured_boot.published.measurements import describe, describe_events
from measured_boot.published.reference_values import Profile
from measured_boot.published.rvps import encode_message, name_values
from measured_boot.sev.kernel_hashes import hash_kernel_files
from rootfs_builder.guest_image.debug_tools import DESCRIPTION, VOLUME
from rootfs_builder.guest_image.report import describe_file
from rootfs_builder.packages.lock import LockedPackage, PackageLock
from rootfs_builder.packages.wheels import Requirement, parse_wheel_name
from rootfs_builder.publication.provenance import encode_statement
from rootfs_builder.publication.sbom import Materials, encode_sbom

_SUMS: Final = "SHA256SUMS"
_IMAGE_ID: Final = "image-id"
_RVPS: Final = "rvps-sample.json"
_CORIM: Final = "corim.cbor"
_PRODUCTION_VALUES: Final = frozenset({_RVPS, _CORIM})
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedImage:
    """One built image with its predictions.

    Attributes:
        report: content of its report.
        digests: SHA-256 of each of its files and of the report, by name.
        kernel_hashes: of its direct boot, as AMD's launch digests cover them.
    """

    name: str
    report: Mapping[str, Any]
    digests: Mapping[str, str]
    predictions: tuple[Prediction, ...]
    kernel_hashes: Mapping[str, str]


def publish(
    output: Path, lock: PackageLock, wheels: tuple[Requirement, ...], key: Ed25519PrivateKey
) -> str:
    """Write all files for the images in a folder, those that change; return the image id.

    Args:
        output: where the images and their reports are.
        lock: of the packages, for their digests.
        wheels: the locked ones, for their digests.
        key: the builder's.

    Raises:
        FormatError: a file is not the one that its report names.
        ConfigError: no prediction is known for a stub.
    """
    reports = (output / f"ccinit-{profile.value}.json" for profile in Profile)
    images = tuple(_read_image(report) for report in reports if report.is_file())
    materials = _list_materials(images, lock, wheels)
    contents = {
        "measurements.json": _encode_measurements(images),
        "sbom.spdx.json": encode_sbom(materials),
        **_encode_production_values(images),
    }
    digests = _digest_all(contents)
    for image in images:
        digests |= image.digests
    tools = [output / name for name in (VOLUME, DESCRIPTION) if (output / name).is_file()]
    digests |= {path.name: describe_file(path)["sha256"] for path in tools}
    sums = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()
    image_id = f"sha256:{hashlib.sha256(sums).hexdigest()}"
    identity = {_SUMS: sums, _IMAGE_ID: f"{image_id}\n".encode()}
    public = key.public_key()
    statement = encode_statement(digests | _digest_all(identity), materials, key_id(public))
    contents |= {
        **identity,
        PUBLIC_KEY: public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        ENVELOPE: sign_envelope(statement, IN_TOTO, key),
    }
    for name in _PRODUCTION_VALUES - contents.keys():
        (output / name).unlink(missing_ok=True)
    for name, data in contents.items():
        path = output / name
        if not path.is_file() or path.read_bytes() != data:
            write_whole(path, data)
    return image_id


def _digest_all(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


def _read_image(path: Path) -> PublishedImage:
    report = read_report(path)
    uki, direct = read_reported(path, Boot.UKI), read_reported(path, Boot.DIRECT)
    names = (path.name, *report["files"])
    digests = {name: describe_file(path.with_name(name))["sha256"] for name in names}
    for name, described in report["files"].items():
        if digests[name] != described["sha256"]:
            raise FormatError("image_report.file", f"{name} is not the file that was built")
    return PublishedImage(
        name=path.stem,
        report=report,
        digests=digests,
        predictions=(*_predict_all(uki, Boot.UKI), *_predict_all(direct, Boot.DIRECT)),
        kernel_hashes=_hash_kernel(direct),
    )


def _predict_all(what: UkiBoot | DirectKernelBoot, boot: Boot) -> tuple[Prediction, ...]:
    """Return the predictions that do not depend on the host's machine."""
    launches = (
        predict_launch(what, platform.name)
        for platform in PLATFORMS
        if platform.boot is boot and platform.technology is Technology.TDX
    )
    return (predict(what), *launches)


def _hash_kernel(direct: UkiBoot | DirectKernelBoot) -> Mapping[str, str]:
    if not isinstance(direct, DirectKernelBoot):
        return {}
    hashes = hash_kernel_files(direct.kernel, direct.initrd, direct.command_line)
    return {
        "kernel": hashes.kernel.hex(),
        "initrd": hashes.initrd.hex(),
        "command_line": hashes.command_line.hex(),
    }


def _encode_measurements(images: tuple[PublishedImage, ...]) -> bytes:
    value = {
        "version": _VERSION,
        "images": [
            {
                "name": image.name,
                "profile": image.report["profile"],
                "files": dict(image.digests),
                "kernel_hashes": dict(image.kernel_hashes),
                "predictions": [
                    {**describe(prediction), "events": describe_events(prediction)}
                    for prediction in image.predictions
                ],
            }
            for image in images
        ],
    }
    return json.dumps(value, indent=1).encode() + b"\n"


def _encode_production_values(images: tuple[PublishedImage, ...]) -> Mapping[str, bytes]:
    """Return the files that a verifier registers: never a value of a test image."""
    production = [image for image in images if image.report["profile"] == Profile.PROD.value]
    identity = "ccinit:" + ",".join(str(image.report["inputs"]) for image in production)
    predictions = [row for image in production for row in image.predictions]
    if not predictions:
        return {}
    return {
        _RVPS: encode_message(name_values(predictions)),
        _CORIM: encode_corim(identity, {image.name: image.predictions for image in production}),
    }


def _list_materials(
    images: tuple[PublishedImage, ...], lock: PackageLock, wheels: tuple[Requirement, ...]
) -> Materials:
    """Return what the reports name, with digests where that is what the locks have.

    An image may be older than the locks; then nothing claims that it was made of what they have.
    """
    digests = {(package.name, package.version): package.sha256 for package in lock.packages}
    used = {row for image in images for row in image.report["packages"].items()}
    packages = tuple(
        LockedPackage(name=name, version=version, sha256=digests.get((name, version), ""))
        for name, version in sorted(used)
    )
    locked = {(wheel.name.lower().replace("_", "-"), wheel.version): wheel for wheel in wheels}
    names = {parse_wheel_name(name) for image in images for name in image.report["wheels"]}
    opened = tuple(
        locked.get((name.lower(), version))
        or Requirement(name=name, version=version, sha256=frozenset())
        for name, version in sorted(names)
    )
    inputs = {image.report["profile"]: image.report["inputs"] for image in images}
    return Materials(packages=packages, wheels=opened, date=lock.date, inputs=inputs)
