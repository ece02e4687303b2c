from ccinit.unlock.profile import AEAD, CRYPT, plan_aead_target, plan_crypt_target


def test_profile_is_aes_256_xts_with_hmac_and_random_iv() -> None:
    assert AEAD.cipher == "capi:authenc(hmac(sha256),xts(aes))-random"
    assert AEAD.key_bytes == 96
    assert AEAD.tag_bytes == 32


def test_aead_target_names_the_key_and_pins_every_length() -> None:
    target = plan_aead_target(1 << 30, "/dev/dm-3", "ccinit:data")
    assert (target.kind, target.start_sectors, target.length_sectors) == ("crypt", 0, 1 << 21)
    assert target.parameters == (
        "capi:authenc(hmac(sha256),xts(aes))-random :96:logon:ccinit:data 0 /dev/dm-3 0"
        " 2 integrity:32:aead sector_size:4096"
    )


def test_crypt_target_is_aes_256_xts_over_the_disk_itself() -> None:
    target = plan_crypt_target(1 << 30, "/dev/vdb", "ccinit:data")
    assert CRYPT.key_bytes == 64
    assert (target.kind, target.start_sectors, target.length_sectors) == ("crypt", 0, 1 << 21)
    assert target.parameters == (
        "capi:xts(aes)-plain64 :64:logon:ccinit:data 0 /dev/vdb 0 1 sector_size:4096"
    )


def test_crypt_target_leaves_out_what_lies_before_the_ciphertext() -> None:
    target = plan_crypt_target(1 << 30, "253:16", "ccinit:data", start_bytes=16 << 20)
    assert target.length_sectors == (1 << 21) - (1 << 15)
    assert target.parameters == (
        "capi:xts(aes)-plain64 :64:logon:ccinit:data 0 253:16 32768 1 sector_size:4096"
    )
