"""Safe on the open internet: who may come in, what they may do, and what attacks find."""
