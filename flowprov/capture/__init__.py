"""Where events come from: scopes, loops, and the adapters of torch and Dask."""
