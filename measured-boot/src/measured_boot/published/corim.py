"""Write predictions as a CoRIM, the form of reference values that verifiers of RATS exchange.

One CoMID for each image; in it one reference triple for each platform, whose environment names the
image and the platform, and one measurement for each register by its name. Not signed: it is a
subject of the builder's provenance (`rootfs_builder.publication.provenance`).

Specification: draft-ietf-rats-corim-10, sections 4.1 (corim-map), 5.1 (concise-mid-tag) and 5.1.4
(triples); hash algorithms by the IANA registry of named information.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from measured_boot.prediction import Prediction
from measured_boot.published.cbor import CborValue, Tagged, encode_cbor

_CORIM, _COMID = 501, 506
_ID, _TAGS = 0, 1
_TAG_IDENTITY, _TRIPLES = 1, 4
_TAG_ID = 0
_REFERENCE_TRIPLES = 0
_CLASS = 0
_VENDOR, _MODEL = 1, 2
_KEY, _VALUE = 0, 1
_DIGESTS = 2
_VENDOR_NAME: Final = "ccinit"
_ALGORITHMS: Final = {32: 1, 48: 7}  # SHA-256 and SHA-384, by the size of a digest


def encode_corim(identity: str, images: Mapping[str, Iterable[Prediction]]) -> bytes:
    """Return the CoRIM of some images.

    Args:
        identity: of the document, for example the digest of what it was made from.
        images: predictions by the name of the image.
    """
    tags = [
        Tagged(_COMID, encode_cbor(_describe_image(identity, name, predictions)))
        for name, predictions in images.items()
    ]
    return encode_cbor(Tagged(_CORIM, {_ID: identity, _TAGS: tags}))


def _describe_image(identity: str, name: str, predictions: Iterable[Prediction]) -> CborValue:
    triples = [_describe_platform(name, prediction) for prediction in predictions]
    return {
        _TAG_IDENTITY: {_TAG_ID: f"{identity}/{name}"},
        _TRIPLES: {_REFERENCE_TRIPLES: triples},
    }


def _describe_platform(name: str, prediction: Prediction) -> CborValue:
    model = f"{name}/{prediction.platform.name}"
    environment: CborValue = {_CLASS: {_VENDOR: _VENDOR_NAME, _MODEL: model}}
    measurements: list[CborValue] = [
        {_KEY: register, _VALUE: {_DIGESTS: [[_ALGORITHMS[len(value)], bytes(value)]]}}
        for register, value in prediction.named_registers.items()
    ]
    return [environment, measurements]
