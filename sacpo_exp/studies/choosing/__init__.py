"""Choose the best policy of a family among those that are certified to keep their constraints."""
