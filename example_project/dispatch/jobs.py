"""Starting a job: the input, the first call and the last are stored in one transaction.

Used by the page, the ``dispatch`` command and the demo alike. Nothing here talks to a broker or to
a service; if it returns, the job will run.
"""

from contextlib import nullcontext
from uuid import UUID

from django.db import transaction

from example_project.dispatch.helpers import airports_csv, webhooks
from example_project.dispatch.models import Job
from example_project.dispatch.tasks import build_report, open_job
from tasks_app import own_request_id, request_id


def start_job(data: bytes | None = None, source: str = "airportsdata", seed: int = 0) -> Job:
    """Start a job over the bytes of a CSV file, or over the airports that come with the demo.

    Raises:
        BadFile: The bytes are not a table of airports; nothing was started.
    """
    # What no request began, such as a command, gets one id for both calls all the same.
    with nullcontext() if request_id() else own_request_id(), transaction.atomic():
        webhooks.register_subscribers()
        table = airports_csv.bundled() if data is None else data
        job = airports_csv.create_job(table, source, seed)
        root = open_job.enqueue(job.pk)
        # One of the same tree, so that it is counted with all the others.
        waiting = build_report.apply_async((job.pk,), root_id=root.id, parent_id=root.id)
        job.root_id, job.request_id, job.report_id = root.id, root.request_id, UUID(waiting.id)
        job.save(update_fields=["root_id", "request_id", "report_id"])
    return job
