"""Hardware beyond its data sheet: what it costs to own."""
