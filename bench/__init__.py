"""The benchmark: this bus and its peers side by side, in one run. See `bench/README.md`."""
