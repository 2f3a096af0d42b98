"""Sends the messages of the outbox. Any number of senders may run, on any number of hosts."""

from __future__ import annotations

import json
import logging
import random
import ssl
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from standardwebhooks import Webhook

from service.jobs.leased_work import LeasedWork
from service.jobs.web_target import WebPolicy
from service.jobs.webhook_request import Answer, post
from service.operations.logs import working_on
from service.storage.records import WebhookState

if TYPE_CHECKING:
    from service.settings import Settings
    from service.storage import Storage
    from service.storage.records import WebhookMessage, WebhookSecret

__all__ = ["WebhookSender", "signed_headers"]

logger = logging.getLogger(__name__)

_PAUSE_FACTOR = 3.0
_LONGEST_LOOK_UP = 60.0
_PER_OWNER = 2


def signed_headers(message_id: str, at: datetime, body: str, secret: WebhookSecret) -> dict[str, str]:
    """Headers of Standard Webhooks: id, time of this attempt, and a signature by each secret that is valid now."""
    signatures = [
        Webhook(one).sign(message_id, at, body) for one in (secret.secret, secret.previous) if one is not None
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


class WebhookSender(LeasedWork):
    """Threads that take messages which are due, send them and write down what came of it.

    A message is sent at least once: a sender that dies between the answer and the note leaves it to be sent again,
    under the same id, when its lease is over.

    Parameters
    ----------
    storage : Storage
        Has the outbox.
    settings : Settings
        Number of threads, limits, what is allowed.
    """

    def __init__(self, storage: Storage, settings: Settings) -> None:
        super().__init__(
            "webhooks",
            threads=settings.webhook_threads,
            poll=settings.webhook_poll,
            patience=settings.webhook_timeout,
        )
        self._storage = storage
        self._settings = settings
        self._policy = WebPolicy.of_webhooks(settings)

    def step(self) -> bool:
        """Send the message that is longest due; whether there was one."""
        lease = self._settings.webhook_timeout + _LONGEST_LOOK_UP
        message = self._storage.webhooks.take(lease, per_owner=_PER_OWNER)
        if message is None:
            return False
        with working_on(job_id=message.job_id):
            self._settle(message, self._send(message))
        return True

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def _send(self, message: WebhookMessage) -> Answer:
        secret = self._storage.webhooks.secret(message.owner)
        if secret is None:
            return Answer(None, "no_secret")
        body = json.dumps(message.payload, separators=(",", ":"), sort_keys=True)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "visitcal",
            **signed_headers(message.id, datetime.now(UTC), body, secret),
        }
        timeout = self._settings.webhook_timeout
        return post(message.url, body.encode(), headers, self._policy, deadline=timeout, tls=self._tls)

    def _settle(self, message: WebhookMessage, answer: Answer) -> None:
        retry_in = None
        if answer.error is None:
            state = WebhookState.DELIVERED
        elif answer.error == "gone" or message.attempts >= self._settings.webhook_attempts:
            state = WebhookState.GIVEN_UP
        else:
            state = WebhookState.WAITING
            retry_in = self._pause(message.attempts, answer.retry_after)
        level = logging.INFO if answer.error is None else logging.WARNING
        logger.log(
            level,
            "message %s, attempt %d: %s",
            message.id,
            message.attempts,
            answer.error or "delivered",
        )
        self._storage.webhooks.settle(message, state=state, status=answer.status, error=answer.error, retry_in=retry_in)

    def _pause(self, attempts: int, asked: float | None) -> float:
        """Seconds until the next attempt: growing, scattered so that messages of one outage do not come at once."""
        longest = self._settings.webhook_longest_pause
        pause = min(self._settings.webhook_first_pause * _PAUSE_FACTOR ** (attempts - 1), longest)
        return max(pause * random.uniform(0.75, 1.25), min(asked or 0.0, longest))  # noqa: S311
