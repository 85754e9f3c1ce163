"""Teaching one's own actions from a few marked intervals."""
