"""A Sphinx extension: what a reader needs beside the text. It loads one for each need."""

PARTS = ("explained", "cited", "places", "find", "takeaway")


def setup(app):
    """Called by Sphinx."""
    for part in PARTS:
        app.setup_extension(f"tools.{part}")
    return {"version": "1", "parallel_read_safe": True}
