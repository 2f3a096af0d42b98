"""The commands, one module a kind; imported only when used."""
