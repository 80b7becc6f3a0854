"""ArqonBus: a message bus with rooms, channels, durable history and recovery, as a Django app."""
