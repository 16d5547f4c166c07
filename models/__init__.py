"""What is decided: pure descriptions of problems and plans."""
