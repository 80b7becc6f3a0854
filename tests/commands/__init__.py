"""Each command over a real socket, in both dialects."""
