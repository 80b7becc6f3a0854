"""The services as Django code calls them."""
