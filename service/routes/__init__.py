"""The HTTP interface: one file a noun; a handler translates, it does not decide."""
