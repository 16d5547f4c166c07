"""Who asks: command line, HTTP, importers and reports."""
