from ccinit.unlock.filesystem import plan_mkfs


def test_scratch_has_no_journal_and_no_backup_superblocks() -> None:
    assert plan_mkfs("/dev/dm-1", journal=False) == (
        *("-F", "-q", "-t", "ext4", "-b", "4096", "-m", "0"),
        *("-O", "^has_journal,^resize_inode,sparse_super2"),
        *("-E", "nodiscard,lazy_itable_init=1,num_backup_sb=0", "/dev/dm-1"),
    )


def test_volume_has_a_journal_that_is_written_at_once() -> None:
    assert plan_mkfs("/dev/dm-1", journal=True) == (
        *("-F", "-q", "-t", "ext4", "-b", "4096", "-m", "0"),
        *("-O", "^resize_inode,sparse_super2", "-J", "size=16"),
        *("-E", "nodiscard,lazy_itable_init=1,num_backup_sb=0,lazy_journal_init=0", "/dev/dm-1"),
    )
