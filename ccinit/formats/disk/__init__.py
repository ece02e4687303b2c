"""What lies on a disk: verity and its hash tree, ext4 and LUKS2 superblocks, an erofs index over a
tar, and how much dm-integrity stores.
"""
