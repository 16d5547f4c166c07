"""Problems from other people's formats. Files are read here and nowhere below."""
