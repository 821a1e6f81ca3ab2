"""Which chips to design: search over design vectors with the fleet optimiser inside, bounds, sensitivity."""
