"""Stored flow: one ZIP a video, folders of images, and Middlebury `.flo` files."""
