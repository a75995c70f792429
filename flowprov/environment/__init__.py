"""What this process runs on, as what, and with which code: host, launcher, repository."""
