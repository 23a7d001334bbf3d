"""Every error of the service in one shape: ``{"error": {"code", "message"}}``."""

from __future__ import annotations

from typing import Any

from serkit.errors import SerkitError

STATUS = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_slow": 408,
    "too_large": 413,
    "too_long": 413,
    "unsupported_media_type": 415,
    "bad_audio": 422,
    "bad_option": 422,
    "upgrade_required": 426,
    "busy": 429,
    "internal": 500,
    "shutting_down": 503,
    "not_ready": 503,
    "timeout": 504,
}
CODE = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 422: "bad_request"}


class Refused(SerkitError):
    """A request that is not answered.

    Args:
        code: one of :data:`STATUS`. message: one line that a person can act on. retry_after_s: when to come again.
    """

    def __init__(self, code: str, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.retry_after_s = code, message, retry_after_s

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.code]

    def to_row(self) -> dict[str, Any]:
        """``{"code", "message"}``."""
        return {"code": self.code, "message": self.message}

    def headers(self) -> dict[str, str]:
        """What goes with the status."""
        found = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        asked = {"unauthorized": {"WWW-Authenticate": "Bearer"}, "upgrade_required": {"Upgrade": "websocket"}}
        return {**found, **asked.get(self.code, {})}
