"""Every deployment configuration and operating point that the planner considers, as numbers."""
