"""The database below the models: its faults, and the model classes that share a table's rows."""
