"""How much memory a stage takes on given hardware, reckoned before anything is loaded."""
