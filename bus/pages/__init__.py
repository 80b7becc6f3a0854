"""Parts of a project's own pages: what a template includes, and the views behind it. They use the session and its CSRF token."""

from __future__ import annotations
