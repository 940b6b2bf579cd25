"""The subcommands of `ntk`, one module for each kind of them."""
