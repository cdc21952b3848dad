"""Put one prompt to several policies, and lay their answers side by side."""
