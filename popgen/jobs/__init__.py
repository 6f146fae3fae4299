"""One job a command: each takes its settings, does all checks first, and returns data."""
