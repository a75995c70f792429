"""Where events come from: scopes, loops, and the adapters for torch and Dask."""
