"""MLflow: campaigns become experiments, and runs its runs.

Flows in: the journals of campaigns. Flows out: experiments on a tracking server or in its database.
"""
