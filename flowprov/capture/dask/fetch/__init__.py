"""Fetching the journals of Dask workers that do not see the client's buffer, over Dask's own connections."""
