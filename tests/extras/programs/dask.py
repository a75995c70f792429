"""The extra ``dask``: tasks of a cluster are recorded, in processes of their own."""

from __future__ import annotations

import flowprov

plugin = flowprov.DaskWorkerPlugin()  # says what is missing

from distributed import Client, LocalCluster  # noqa: E402 - after that


def double(x: int) -> int:
    """Return twice a number."""
    return 2 * x


if __name__ == "__main__":
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(plugin)
        with flowprov.workflow("W", dask_client=client):
            assert client.gather(client.map(double, range(4))) == [0, 2, 4, 6]
    rows = flowprov.read_buffer(merge=True, return_df=False)
    tasks = [row for row in rows if row["activity_id"] == "double"]
    assert [row["status"] for row in tasks] == ["FINISHED"] * 4, rows
    print(f"done: {len(tasks)} Dask tasks")
