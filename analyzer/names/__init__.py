"""Data tables: numbers of Windows by their names, each with its source. Standard library only."""
