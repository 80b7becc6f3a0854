"""The servers that the bus is measured against, each as its own documentation would write it."""
