"""Take policies out of the store: a plain folder with a model card, and from there to the hub."""
