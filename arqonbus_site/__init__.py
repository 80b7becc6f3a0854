"""The ready project: settings and URLs, no behaviour."""
