"""What lies on a disk: verity and its hash tree, ext4 and LUKS2 superblocks."""
