"""The steps of a message: plan, entry, commit, announce. Every door publishes through them."""
