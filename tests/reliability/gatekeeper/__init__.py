"""An app of a project with gates, for the tests of gates on real servers."""
