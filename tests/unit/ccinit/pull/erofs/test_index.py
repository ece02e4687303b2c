from ccinit.pull.erofs.index import compression_arguments, index_arguments


def test_index_is_made_with_fixed_options_over_the_tar() -> None:
    arguments = index_arguments("/s/layer-0.tar", "/s/layer-0.erofs")
    assert arguments[-2:] == ("/s/layer-0.erofs", "/s/layer-0.tar")
    assert {"--tar=i", "--aufs", "--mkfs-time", "-T0"} <= set(arguments)


def test_whole_file_system_is_made_of_what_comes_by_standard_input() -> None:
    arguments = compression_arguments("/s/layer-0.erofs")
    assert [one for one in arguments if not one.startswith("-")] == ["/s/layer-0.erofs"]
    assert {"--tar=f", "--aufs", "--mkfs-time", "-T0"} <= set(arguments)
