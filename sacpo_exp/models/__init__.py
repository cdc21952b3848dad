"""Language models: where weights come from, and how policies are loaded."""
