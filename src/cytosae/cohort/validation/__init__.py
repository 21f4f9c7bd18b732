"""Later patients whose diagnosis is known: what was promised, and what is kept."""
