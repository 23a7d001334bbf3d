"""The service: one process that speaks HTTP and WebSocket, and worker processes that predict.

::

    settings.py    limits and keys
    schemas.py     what goes in and out, as pydantic models with examples
    errors.py      every error in one shape
    uploads.py     a body, read under limits of size and time → recordings and options
    worker.py      the process that answers: batches of clips, long files, streams
    lanes.py       worker processes as the service sees them: queue, batches, deadlines, restarts
    jobs.py        long files, answered later
    sockets.py     the stream over WebSocket
    metrics.py     what Prometheus reads
    openapi.py     what the service says of itself to programs
    reference.py   and to people, at /docs
    app.py         the endpoints
    server.py      uvicorn, impatient with slow clients and patient with SIGTERM

Needs the extra ``serve``; nothing else in serkit imports it.
"""
