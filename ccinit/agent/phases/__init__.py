"""The phases of a boot, each from what the one before returned; their order is `init.phases`'."""
