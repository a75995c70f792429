"""MLflow: experiments become campaigns, and their runs workflows.

Flows in: experiments on a tracking server or in its database. Flows out: journals in a buffer.
"""
