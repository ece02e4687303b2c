from ccinit.pull.index import index_arguments


def test_index_is_made_with_fixed_options_over_the_tar() -> None:
    arguments = index_arguments("/s/layer-0.tar", "/s/layer-0.erofs")
    assert arguments[-2:] == ("/s/layer-0.erofs", "/s/layer-0.tar")
    assert {"--tar=i", "--aufs", "--mkfs-time", "-T0"} <= set(arguments)
