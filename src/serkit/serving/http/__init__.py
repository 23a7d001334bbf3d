"""The service: one process that speaks HTTP and WebSocket, and worker processes that predict.

A request goes ``app`` → ``uploads`` → ``service`` → ``lanes`` → ``process``, and in the worker process ``worker`` →
``answering``; what each file holds is in docs/architecture.md.

Needs the extra ``serve``; nothing else in serkit imports it.
"""
