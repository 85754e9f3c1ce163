"""Data sets on disk: annotation files, checked manifests, and a synthetic set."""
