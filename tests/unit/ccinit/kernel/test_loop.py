import struct

from ccinit.kernel.loop import encode_config


def test_config_has_the_layout_of_loop_config() -> None:
    config = encode_config(7, read_only=True)
    assert len(config) == 304
    assert struct.unpack_from("=2I", config) == (7, 0)
    # lo_flags: five 64-bit and three 32-bit members of loop_info64 stand before it.
    assert struct.unpack_from("=I", config, 8 + 5 * 8 + 3 * 4) == (1 | 4,)
    assert not any(config[64:])


def test_config_of_writable_device_still_clears_itself() -> None:
    assert struct.unpack_from("=I", encode_config(7, read_only=False), 60) == (4,)
