"""Other readers' test archives as layers: umoci's tree, or a refusal whose reason stands here.

Reasons, beyond archives that are broken and meant to be: readers disagree on the archive (fields of
GNU and star where ustar has the prefix, two statements of one size, global records), a form that
mkfs.erofs reads otherwise (v7, more than one extension), or a thing that no layer may hold
(devices, names that are no UTF-8, security.selinux).
"""

from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from tests.integration.pull.layer_oracle import assert_same_tree_as_umoci, image_of
from tests.integration.pull.tar_corpora import open_corpora

REFUSED = {
    # broken, as their names say
    "go/issue10968.tar": "tar.magic",
    "go/issue11169.tar": "tar.checksum",
    "go/issue12435.tar": "tar.checksum",
    "go/neg-size.tar": "tar.padding",
    "go/pax-bad-hdr-file.tar": "tar.pax",
    "go/pax-bad-mtime-file.tar": "tar.pax_mtime",
    "go/pax-nul-path.tar": "tar.path_nul",
    "go/pax-nul-xattrs.tar": "tar.pax",
    "go/pax-path-hdr.tar": "tar.truncated",
    "go/writer-big-long.tar": "tar.truncated",
    "go/writer-big.tar": "tar.truncated",
    "python/recursion.tar": "tar.magic",
    # headers that readers read differently
    "go/gnu-incremental.tar": "tar.gnu_prefix",
    "go/gnu-nil-sparse-data.tar": "tar.gnu_prefix",
    "go/gnu-nil-sparse-hole.tar": "tar.gnu_prefix",
    "go/gnu-sparse-big.tar": "tar.gnu_prefix",
    "go/invalid-go17.tar": "tar.gnu_prefix",
    "go/nil-uid.tar": "tar.gnu_prefix",
    "go/sparse-formats.tar": "tar.gnu_prefix",
    "go/star.tar": "tar.padding",
    "go/v7.tar": "tar.v7",
    "python/gnu/sparse": "tar.gnu_prefix",
    "python/misc/regtype-old-v7": "tar.v7",
    "python/misc/regtype-xstar": "tar.padding",
    "python/misc/dirtype-old-v7": "tar.mode",
    "python/misc/regtype-hpux-signed-chksum-???????": "tar.checksum",
    "python/misc/regtype-old-v7-signed-chksum-???????": "tar.checksum",
    # two statements about one entry
    "go/gnu-long-nul.tar": "tar.long_name",
    "go/gnu-multi-hdrs.tar": "tar.long_name",
    "go/pax-multi-hdrs.tar": "tar.long_name",
    "go/pax-global-records.tar": "tar.pax_global",
    "go/pax-pos-size-file.tar": "tar.pax_size",
    "python/pax/regtype1": "tar.pax_global",
    "python/pax/regtype2": "tar.pax_global",
    "python/pax/regtype4": "tar.pax_size",
    "python/ustar/dirtype-with-size": "tar.size_type",
    # records without a known meaning
    "go/pax-records.tar": "tar.pax_key",
    "python/pax/hdrcharset-???": "tar.pax_key",
    "python/pax/umlauts-???????": "tar.pax_key",
    # sparse files: image-spec says that layers should not have them
    "go/pax-nil-sparse-data.tar": "tar.sparse",
    "go/pax-nil-sparse-hole.tar": "tar.sparse",
    "go/pax-sparse-big.tar": "tar.sparse",
    "python/gnu/sparse-0.0": "tar.sparse",
    "python/gnu/sparse-0.1": "tar.sparse",
    "python/gnu/sparse-1.0": "tar.sparse",
    # what no layer may hold
    "go/gnu-not-utf8.tar": "tar.path_utf8",
    "go/hdr-only.tar": "tar.fifo",
    "go/xattrs.tar": "tar.xattr",
    "python/pax/bad-pax-???": "tar.path_utf8",
    "python/ustar/umlauts-???????": "tar.path_utf8",
    "python/ustar/blktype": "tar.device",
    "python/ustar/chrtype": "tar.device",
    "python/ustar/fifotype": "tar.fifo",
    "python/ustar/conttype": "tar.type",
    "python/gnu/regtype-gnu-uid": "tar.uid",
    "python/misc/regtype-suntar": "tar.type",
}


@pytest.fixture(scope="module")
def corpora() -> dict[str, bytes]:
    return open_corpora()


def test_corpora_give_the_tree_that_umoci_unpacks_or_a_reason(
    corpora: dict[str, bytes], tmp_path: Path
) -> None:
    accepted = set()
    for number, (name, tar) in enumerate(sorted(corpora.items())):
        work = tmp_path / str(number)
        work.mkdir()
        reason = REFUSED.get(name)
        if reason is None:
            assert_same_tree_as_umoci((tar,), work)
            accepted.add(name)
            continue
        with pytest.raises(CcinitError) as refused, image_of((tar,), work / "pull"):
            pass
        assert refused.value.reason == reason, name
    assert corpora.keys() >= REFUSED.keys()
    assert len(accepted) >= 25
