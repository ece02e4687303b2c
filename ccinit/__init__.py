"""The guest: PID 1 and agent of a confidential-container virtual machine.

The only package of ours in the measured image. Layers, top to bottom: `init`, `agent`, the rooms
(`boot`, `measure`, `attest`, `unlock`, `pull`, `run`, `rpc`, `seal`), `net`, `kernel` beside
`formats`, `secret`, `errors`. ARCHITECTURE.md has the picture.
"""
