"""Every setting of the bus: the table, how values are read and held to their bounds, and the keys of JWTs."""
