"""The template tags of tasks."""
