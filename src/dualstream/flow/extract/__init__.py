"""Bulk extraction: the flow of many videos, by processes of this machine or a cluster."""
