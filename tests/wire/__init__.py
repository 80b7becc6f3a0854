"""The contract over real sockets, against a real daphne process, in both dialects."""
