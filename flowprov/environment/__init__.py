"""The surroundings of this process: the host, the launcher, the user, and the code repository."""
