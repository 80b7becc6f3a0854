"""An app with a gate that takes longer than its limit, for ``bench.gates``."""
