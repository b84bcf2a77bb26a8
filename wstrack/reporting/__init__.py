"""Reporting: an analysis as a page, pictures, Markdown and JSON."""
