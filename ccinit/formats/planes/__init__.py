"""The planes of host, owner and workload: methods, frames and the text they travel in."""
