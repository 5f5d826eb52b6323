"""How dates and times are written, in the place of Django's own formats."""
