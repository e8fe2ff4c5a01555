"""Two clients in lockstep: the same operations, each through one of the APIs."""
