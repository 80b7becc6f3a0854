"""Who somebody is, and what they may do: identity, permissions, JWTs, tickets, and how often credentials may be wrong."""
