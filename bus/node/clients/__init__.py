"""The clients of a process: admission, registration, membership, presence and rights."""
