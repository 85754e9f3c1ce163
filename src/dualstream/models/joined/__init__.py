"""Networks that see several streams, each through a tower of its own."""
