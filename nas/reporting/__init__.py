"""Reports: HTML page, model card and export bundle."""
