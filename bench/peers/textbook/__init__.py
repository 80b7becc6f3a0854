"""A chat server as the Channels tutorial has it: one consumer per socket, one `group_send` per message."""
