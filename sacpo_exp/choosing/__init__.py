"""Choose the most helpful policy of a family among those that are certified to be safe enough."""
