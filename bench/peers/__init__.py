"""The peers, each written as its own documentation says."""
