"""An app for a chat with an agent."""
