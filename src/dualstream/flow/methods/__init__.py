"""Flow methods: one record each, with all that holds for it."""
