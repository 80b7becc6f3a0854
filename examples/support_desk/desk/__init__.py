"""An app for a support desk: agents draft answers, and people approve them."""
