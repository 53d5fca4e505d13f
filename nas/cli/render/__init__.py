"""Tables, progress and text for a terminal."""
