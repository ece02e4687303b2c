import json

import pytest

from ccinit.errors import FormatError
from ccinit.formats.oci.compression import Compression
from ccinit.formats.oci.image import (
    ImageIndex,
    Manifest,
    MediaType,
    parse_image_config,
    parse_image_document,
    select_platform,
)

HEX = "ab" * 32
DIGEST = f"sha256:{HEX}"
Json = dict[str, object]


def descriptor(media_type: str, **more: object) -> Json:
    return {"mediaType": media_type, "digest": DIGEST, "size": 7, **more}


def manifest(**changes: object) -> Json:
    return {
        "schemaVersion": 2,
        "mediaType": MediaType.OCI_MANIFEST.value,
        "config": descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip")],
        "annotations": {"x": "y"},
        **changes,
    }


def index(*platforms: Json | None, **changes: object) -> Json:
    entries = [
        descriptor(MediaType.OCI_MANIFEST.value, **({} if p is None else {"platform": p}))
        for p in platforms
    ]
    return {"schemaVersion": 2, "manifests": entries, **changes}


def config(**changes: object) -> Json:
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": "2025-01-01T00:00:00Z",
        "config": {
            "User": "app:staff",
            "Env": ["PATH=/bin", "EMPTY="],
            "Entrypoint": ["/app"],
            "Cmd": None,
            "WorkingDir": "/srv",
            "Labels": {"run": "rm -rf /"},
            "Volumes": {"/data": {}, "/var/lib/x/": {}},
            "StopSignal": "SIGQUIT",
        },
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "history": [{"created_by": "x"}],
        **changes,
    }


def text(value: Json) -> bytes:
    return json.dumps(value).encode()


AMD64: Json = {"os": "linux", "architecture": "amd64"}
ARM64: Json = {"os": "linux", "architecture": "arm64", "variant": "v8"}


def test_volumes_and_stop_signal_are_read() -> None:
    found = parse_image_config(text(config()))
    assert (found.volumes, found.stop_signal) == (("/data", "/var/lib/x"), "SIGQUIT")
    empty = parse_image_config(text(config(config={"Volumes": None})))
    assert (empty.volumes, empty.stop_signal) == ((), "")


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("Volumes", ["/data"], "image_config.volumes"),
        ("Volumes", {"data": {}}, "image_config.volumes"),
        ("Volumes", {"": {}}, "image_config.volumes"),
        ("Volumes", {"/": {}}, "image_config.volumes"),
        ("Volumes", {"/a/../b": {}}, "image_config.volumes"),
        ("Volumes", {"/a//b": {}}, "image_config.volumes"),
        ("Volumes", {"/a\nb": {}}, "image_config.volumes"),
        ("Volumes", {f"/{number}": {} for number in range(65)}, "image_config.volumes"),
        ("StopSignal", "SIG\nTERM", "image_config.stop_signal"),
        ("StopSignal", 15, "image_config.stop_signal"),
    ],
)
def test_r70_volumes_and_stop_signal_of_another_form_are_refused(
    member: str, value: object, reason: str
) -> None:
    with pytest.raises(FormatError) as refused:
        parse_image_config(text(config(config={member: value})))
    assert refused.value.reason == reason


def test_manifest_of_a_good_document_has_config_and_layers() -> None:
    document = parse_image_document(text(manifest()), f"{MediaType.OCI_MANIFEST}; charset=utf-8")
    assert isinstance(document, Manifest)
    assert str(document.config.digest) == DIGEST
    assert document.config.size == 7
    assert [layer.compression for layer in document.layers] == [Compression.GZIP]


def test_manifest_without_media_type_or_header_is_known_by_its_members() -> None:
    document = manifest()
    del document["mediaType"]
    assert isinstance(parse_image_document(text(document)), Manifest)


def test_docker_manifest_is_read_as_the_same_thing() -> None:
    document = manifest(
        mediaType=MediaType.DOCKER_MANIFEST.value,
        config=descriptor("application/vnd.docker.container.image.v1+json"),
        layers=[descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip")],
    )
    assert isinstance(parse_image_document(text(document), MediaType.DOCKER_MANIFEST), Manifest)


@pytest.mark.parametrize(
    ("ending", "compression"),
    [
        ("diff.tar", Compression.NONE),
        ("diff.tar.gzip", Compression.GZIP),
        ("diff.tar.zstd", Compression.ZSTD),
        ("foreign.diff.tar", Compression.NONE),
        ("foreign.diff.tar.gzip", Compression.GZIP),
    ],
)
def test_layer_types_of_docker_say_the_compression(ending: str, compression: Compression) -> None:
    layer = descriptor(f"application/vnd.docker.image.rootfs.{ending}")
    parsed = parse_image_document(text(manifest(layers=[layer])))
    assert isinstance(parsed, Manifest)
    assert [one.compression for one in parsed.layers] == [compression]


@pytest.mark.parametrize(
    ("document", "content_type", "reason"),
    [
        (manifest(), MediaType.OCI_INDEX.value, "manifest.media_type"),
        (manifest(), MediaType.DOCKER_MANIFEST.value, "manifest.media_type"),
        (manifest(mediaType="text/plain"), "text/plain", "manifest.media_type"),
        (manifest(mediaType=MediaType.OCI_INDEX.value), None, "manifest.media_type"),
        (manifest(mediaType=7), None, "manifest.media_type"),
        (manifest(manifests=[]), None, "manifest.ambiguous"),
        (index(AMD64, layers=[]), None, "manifest.ambiguous"),
        (index(AMD64, config={}), None, "manifest.ambiguous"),
        ({"schemaVersion": 2}, None, "manifest.ambiguous"),
        (manifest(schemaVersion=1), None, "manifest.schema"),
        (manifest(schemaVersion="2"), None, "manifest.schema"),
        (manifest(layers=[]), None, "manifest.layers"),
        (manifest(layers={}), None, "manifest.layers"),
        (manifest(layers=[descriptor("x/y+gzip")]), None, "manifest.layer_type"),
        (
            manifest(layers=[descriptor("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")]),
            None,
            "enc.annotations",
        ),
        (manifest(layers=[descriptor("x/y+encrypted")]), None, "manifest.layer_type"),
        (manifest(layers=[descriptor("x")] * 129), None, "manifest.layers"),
        (
            manifest(config=descriptor("application/vnd.oci.empty.v1+json")),
            None,
            "manifest.config_type",
        ),
        (manifest(config=None), None, "manifest.config"),
        (index(AMD64, mediaType=MediaType.OCI_MANIFEST.value), None, "manifest.media_type"),
        (index(*[AMD64] * 65), None, "manifest.entries"),
        (index(AMD64, manifests=7), None, "manifest.entries"),
    ],
)
def test_document_that_is_not_one_thing_is_refused(
    document: Json, content_type: str | None, reason: str
) -> None:
    with pytest.raises(FormatError) as refused:
        parse_image_document(text(document), content_type)
    assert refused.value.reason == reason
    parse_image_document(text(manifest()), MediaType.OCI_MANIFEST)
    parse_image_document(text(index(AMD64)), MediaType.OCI_INDEX)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": -1}, "manifest.size"),
        ({"size": 2**41}, "manifest.size"),
        ({"size": True}, "manifest.size"),
        ({"size": "7"}, "manifest.size"),
        ({"size": 7.0}, "manifest.number"),
        ({"size": None}, "manifest.size"),
        ({"digest": DIGEST.upper()}, "manifest.digest"),
        ({"digest": "sha256:../../etc/passwd"}, "manifest.digest"),
        ({"digest": "sha512:" + "a" * 128}, "manifest.digest"),
        ({"digest": 7}, "manifest.digest"),
        ({"mediaType": ["x"]}, "manifest.descriptor"),
    ],
)
def test_descriptor_that_is_no_blob_is_refused(change: Json, reason: str) -> None:
    layer = descriptor("application/vnd.oci.image.layer.v1.tar")
    with pytest.raises(FormatError) as refused:
        parse_image_document(text(manifest(layers=[{**layer, **change}])))
    assert refused.value.reason == reason
    parse_image_document(text(manifest(layers=[layer])))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "manifest.json"),
        (b"[]", "manifest.type"),
        (b'{"schemaVersion":2,"schemaVersion":2}', "manifest.duplicate"),
        (b" " * (1 << 21), "manifest.length"),
        (b"[" * 100_000, "manifest.json"),
    ],
)
def test_document_that_is_not_strict_json_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_image_document(data)
    assert refused.value.reason == reason


def select(document: Json) -> str:
    parsed = parse_image_document(text(document))
    assert isinstance(parsed, ImageIndex)
    return str(select_platform(parsed).digest)


MANIFEST = MediaType.OCI_MANIFEST.value


def test_index_selects_the_one_manifest_for_this_platform() -> None:
    attestation: Json = {"os": "unknown", "architecture": "unknown"}
    v3: Json = {**AMD64, "variant": "v3"}
    for ours in (AMD64, {**AMD64, "variant": "v1"}):
        entries = [
            descriptor(MANIFEST, platform=one, digest=f"sha256:{number:064}")
            for number, one in enumerate((ARM64, v3, ours, attestation))
        ]
        assert select(index(manifests=entries)) == f"sha256:{2:064}"


def test_r53_first_of_several_matches_is_taken() -> None:
    first = descriptor(MediaType.OCI_MANIFEST.value, platform=AMD64, digest=f"sha256:{'1' * 64}")
    other = descriptor(MediaType.OCI_MANIFEST.value, platform=AMD64, digest=f"sha256:{'2' * 64}")
    strange = descriptor("application/x.attestation", platform=ARM64)
    assert select(index(manifests=[strange, first, other])) == f"sha256:{'1' * 64}"


OURS = descriptor(MANIFEST, platform=AMD64)
FOREIGN: dict[str, Json] = {
    "digest by another algorithm": descriptor(
        MANIFEST, platform=ARM64, digest="sha512:" + "a" * 128
    ),
    "no digest": {"mediaType": MANIFEST, "size": 7, "platform": ARM64},
    "size beyond the cap": descriptor(MANIFEST, platform=ARM64, size=2**40),
    "no type": {"digest": DIGEST, "size": 7, "platform": ARM64},
    "unknown type": descriptor("application/x.attestation", platform=ARM64),
    "unknown type for this platform": descriptor("application/x.attestation", platform=AMD64),
    "no platform": descriptor("application/x.attestation", size=-1),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_r53_entry_that_is_not_used_is_passed_over(name: str) -> None:
    """image-spec, "Image Index": an unknown mediaType is no error."""
    assert select(index(manifests=[FOREIGN[name], OURS])) == DIGEST
    assert select(index(manifests=[OURS, FOREIGN[name]])) == DIGEST
    with pytest.raises(FormatError) as refused:
        select(index(manifests=[FOREIGN[name]]))
    assert refused.value.reason == "manifest.platform"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"digest": "sha512:" + "a" * 128}, "manifest.digest"),
        ({"digest": None}, "manifest.digest"),
        ({"size": -1}, "manifest.size"),
        ({"size": 2 << 20}, "manifest.size"),
        ({"mediaType": 7}, "manifest.descriptor"),
        ({"platform": [AMD64]}, "manifest.platform"),
        ({"platform": {**AMD64, "variant": 1}}, "manifest.platform"),
    ],
)
def test_r53_entry_for_this_platform_is_read_strictly(change: Json, reason: str) -> None:
    """Even if the next one would do: the first is the one that everybody uses."""
    with pytest.raises(FormatError) as refused:
        select(index(manifests=[{**OURS, **change}, OURS]))
    assert refused.value.reason == reason
    assert select(index(manifests=[OURS, OURS])) == DIGEST


def test_r53_entry_that_is_no_object_is_refused() -> None:
    with pytest.raises(FormatError) as refused:
        select(index(manifests=[OURS, 7]))
    assert refused.value.reason == "manifest.entry"


@pytest.mark.parametrize("platforms", [(), (ARM64,), (None,)])
def test_index_without_a_match_is_refused(platforms: tuple[Json | None, ...]) -> None:
    with pytest.raises(FormatError) as refused:
        select(index(*platforms))
    assert refused.value.reason == "manifest.platform"
    assert select(index(AMD64)) == DIGEST


def test_index_that_names_an_index_is_refused() -> None:
    nested = [descriptor(MediaType.OCI_INDEX.value, platform=AMD64)]
    with pytest.raises(FormatError) as refused:
        select(index(manifests=nested))
    assert refused.value.reason == "manifest.nested"
    assert select(index(AMD64)) == DIGEST


def test_config_of_a_good_document_has_what_a_container_needs() -> None:
    parsed = parse_image_config(text(config()))
    assert parsed.user == "app:staff"
    assert parsed.env == ("PATH=/bin", "EMPTY=")
    assert parsed.entrypoint == ("/app",)
    assert parsed.cmd == ()
    assert parsed.working_dir == "/srv"
    assert [str(digest) for digest in parsed.diff_ids] == [DIGEST]


def test_config_without_a_process_is_empty() -> None:
    document = config()
    del document["config"]
    assert parse_image_config(text(document)).env == ()


def process(**changes: object) -> Json:
    return config(config=changes)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (config(os="windows"), "image_config.platform"),
        (config(architecture="arm64"), "image_config.platform"),
        (config(rootfs=None), "image_config.rootfs"),
        (config(rootfs={"type": "x", "diff_ids": [DIGEST]}), "image_config.rootfs"),
        (config(rootfs={"type": "layers", "diff_ids": ["x"]}), "image_config.diff_ids"),
        (config(rootfs={"type": "layers", "diff_ids": [7]}), "image_config.diff_ids"),
        (config(config=[]), "image_config.config"),
        (process(Env=["NAME"]), "image_config.env"),
        (process(Env=["=value"]), "image_config.env"),
        (process(Env=["A=b\nLD_PRELOAD=/x"]), "image_config.env"),
        (process(Env=["A=b\0"]), "image_config.env"),
        (process(Env=["A=" + "x" * 40_000]), "image_config.env"),
        (process(Env="A=b"), "image_config.env"),
        (process(User="root\n"), "image_config.user"),
        (process(User="x" * 300), "image_config.user"),
        (process(User=0), "image_config.user"),
        (process(WorkingDir="/a\x1b[0m"), "image_config.working_dir"),
        (process(Entrypoint=["a\0b"]), "image_config.entrypoint"),
        (process(Cmd=["x"] * 600), "image_config.cmd"),
        (process(Cmd=["\ud800"]), "image_config.unicode"),
    ],
)
@pytest.mark.fault_row("R70")
def test_config_that_cannot_be_honoured_is_refused(document: Json, reason: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_image_config(text(document))
    assert refused.value.reason == reason
    parse_image_config(text(config()))


@pytest.mark.parametrize("item", ["MOTD", "MOTD=first\nsecond"])
def test_variable_that_cannot_be_honoured_is_named_without_its_value(item: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_image_config(text(process(Env=["PATH=/bin", item])))
    assert str(refused.value).startswith("image_config.env: 'MOTD'")
    assert "second" not in str(refused.value)
