"""An app whose handler counts messages in the database. `settings` is the site with this app."""
