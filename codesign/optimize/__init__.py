"""The fleet optimiser: columns, pricing, the MILP, bounds, and why there is no plan."""
