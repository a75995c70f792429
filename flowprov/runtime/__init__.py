"""What one process holds: settings, journals and the current scope, and what its child processes inherit."""
