"""What one process holds: settings, journals, the current scope, and what its children inherit."""
