"""The phases of a boot, each taking what earlier ones returned; `init.phases` has their order."""
