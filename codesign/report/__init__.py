"""What people read: tables and text of plans, profiles, explanations and the catalogue.  Never JSON."""
