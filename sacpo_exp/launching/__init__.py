"""Worker groups: started, watched, stopped, and explained when they fail."""
