"""The database beneath the models: what is wrong with it, and which classes write the rows of a model."""
