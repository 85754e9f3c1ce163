"""Networks that see one stream, one file a family."""
