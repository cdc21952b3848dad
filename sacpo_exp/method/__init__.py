"""The method without torch: losses, criteria, policies and the theory that connects them."""
