"""A worker: receives deliveries, claims jobs, runs them in its slots, shows signs of life, mends what others broke."""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING

from service.jobs import states
from service.jobs.attempt import CANCELLED, LOST, SHUTDOWN, Attempt
from service.jobs.embedded import WorkerProcess
from service.jobs.engine import DbosDelivery, DbosReceiver, Delivery
from service.jobs.kernel_cache import kernel_environment, remove_old_caches
from service.jobs.parent import die_with_parent
from service.jobs.prepare import prepare
from service.jobs.presence import Presence
from service.jobs.reconcile import Reconciler
from service.jobs.retention import Sweeper
from service.jobs.runner import Child, ChildStartError, Spawner
from service.jobs.scratch import clear_scratch
from service.jobs.source_fetcher import SourceFetcher
from service.jobs.spec import child_spec
from service.jobs.task import load_task
from service.jobs.turns import Turn, take
from service.jobs.wakeup import WorkListener
from service.jobs.webhook_sender import WebhookSender
from service.operations.logs import configure_logs, working_on
from service.settings import Settings
from service.storage import Storage
from service.storage.errors import StorageUnavailableError
from service.storage.records import JobRecord, Scope

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Worker", "WorkerProcess", "main", "run_worker", "warmup"]

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_BLOCKED_SECONDS = 0.5


class Worker:
    """One worker process's parts.

    Parameters
    ----------
    settings : Settings
        Slots, lease, limits and where everything is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.id = f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._storage = Storage(settings)
        self._delivery = DbosDelivery(settings)
        self._spawner = Spawner(settings)
        self._webhooks = WebhookSender(self._storage, settings)
        self._sources = SourceFetcher(self._storage, settings)
        self._presence = Presence(
            self._storage, self.id, settings.slots, lambda: len(self._attempts()), settings.alive_file
        )
        self._idle: queue.SimpleQueue[Child | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: dict[Delivery, Attempt] = {}
        self._under_way: set[Delivery] = set()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._reconciler = Reconciler(self._storage, self._delivery, settings, self._received)
        self._sweeper = Sweeper(self._storage, settings, self._stopping)
        self._receiver = DbosReceiver(settings, uuid.uuid4().hex, self._receive)

    def run(self) -> None:
        """Work until `stop` is called; running jobs are given `shutdown_grace` seconds, then handed back."""
        clear_scratch(self._storage, self._settings)
        self._warm_up()
        threads = [
            threading.Thread(target=self._heart, name="heart", daemon=True),
            threading.Thread(target=self._mend, name="reconcile", daemon=True),
            threading.Thread(target=self._sweeper.run, name="sweep", daemon=True),
            threading.Thread(target=self._presence.run, args=[self._ended], name="presence", daemon=True),
        ]
        self._receiver.start()
        listener = WorkListener(self._settings, self._look) if self._receiver.calls else None
        for thread in threads:
            thread.start()
        self._webhooks.start()
        self._sources.start()
        logger.info("worker %s is ready with %d slot(s)", self.id, self._settings.slots)
        # Signal handlers run between two instructions of the main thread: it must not sleep for ever in C.
        while not self._stopping.wait(0.5):
            pass
        if listener is not None:
            listener.close()
        self._drain()
        untouched = self._received()
        self._ended.set()
        for thread in threads:
            thread.join()
        self._webhooks.stop()
        self._sources.stop()
        self._receiver.stop()
        self._give_back(untouched)
        self._close()

    def stop(self) -> None:
        """Begin to end; safe in a signal handler."""
        self._stopping.set()

    def _warm_up(self) -> None:
        # One after the other: the first may compile kernels, the others find them in the cache.
        for _ in range(self._settings.slots):
            try:
                self._idle.put(self._spawner.start(self._stopping))
            except ChildStartError:
                if self._stopping.is_set():
                    return
                raise

    def _receive(self, job_id: str, number: int) -> None:
        delivery = Delivery(job_id, number)
        with self._lock:
            self._under_way.add(delivery)
        try:
            if self._stopping.is_set() or not self._attempt():
                self._ended.wait()  # returning would count as done; `_give_back` sends it again
        finally:
            with self._lock:
                self._under_way.discard(delivery)
            self._look()

    def _look(self) -> None:
        """Take what waits, if there is a slot for it."""
        with self._lock:
            free = len(self._under_way) < self._settings.slots
        if free:
            self._receiver.look()

    def _attempt(self) -> bool:
        """Use a delivery: begin the job whose turn it is. False where the worker stopped before there was one."""
        child = self._idle.get()
        try:
            if child is None or not child.alive or self._worn(child):
                child = self._renewed(child)
            job = self._claim()
            if isinstance(job, JobRecord):
                self._run(job, child)
        except ChildStartError:
            logger.exception("no child process")
            child = None
            job = self._claim()
            if isinstance(job, JobRecord):
                Attempt(self._storage, self._settings, job).hand_back("no child process could be started", died=True)
        finally:
            self._idle.put(child if child is not None and child.alive else None)
        return job is not Turn.ALL_BLOCKED

    def _run(self, job: JobRecord, child: Child) -> None:
        delivery = Delivery(job.id, job.attempt)
        attempt = Attempt(self._storage, self._settings, job)
        with self._lock:
            self._running[delivery] = attempt
        try:
            with working_on(job_id=job.id):
                logger.info("attempt %d begins", job.attempt)
                attempt.run(child, lambda: child_spec(self._storage, self._settings, job, attempt.directory))
                logger.info("attempt %d ends", job.attempt)
        finally:
            with self._lock:
                del self._running[delivery]

    def _claim(self) -> JobRecord | Turn:
        """The job whose turn it is; where all that wait are blocked by limits, the slot waits with them."""
        while not self._stopping.is_set():
            try:
                turn = take(self._storage, self._settings, self.id)
            except StorageUnavailableError as error:
                logger.warning("no job could be taken: %s; trying again", error)
                time.sleep(_RETRY_SECONDS)
                continue
            if turn is not Turn.ALL_BLOCKED:
                return turn
            self._stopping.wait(_BLOCKED_SECONDS)
        return Turn.ALL_BLOCKED

    def _worn(self, child: Child) -> bool:
        if child.jobs >= self._settings.max_jobs_per_child:
            return True
        return child.jobs > 0 and child.resident_bytes() > self._settings.child_memory_mark_bytes

    def _renewed(self, child: Child | None) -> Child:
        if child is not None:
            child.kill()
        return self._spawner.start(self._stopping)

    def _heart(self) -> None:
        """Renew the leases; see soon that a job is to stop."""
        next_beat = 0.0
        while not self._ended.wait(self._settings.cancel_poll):
            with self._lock:
                attempts = dict(self._running)
            if not attempts:
                continue
            try:
                self._look_for_cancels(attempts)
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + self._settings.heartbeat
                    for attempt in attempts.values():
                        self._beat(attempt)
            except StorageUnavailableError as error:
                logger.warning("heartbeat: %s", error)

    def _look_for_cancels(self, attempts: dict[Delivery, Attempt]) -> None:
        held = self._storage.job_changes.executing_on(self.id)
        for delivery, attempt in attempts.items():
            cancelled = held.get((delivery.job_id, delivery.attempt))
            if cancelled is None:
                attempt.stop(LOST)
            elif cancelled:
                attempt.stop(CANCELLED)

    def _beat(self, attempt: Attempt) -> None:
        report = attempt.progress.report()
        if states.beat(self._storage, attempt.fence, self._settings.lease, report) is None:
            attempt.stop(LOST)
        else:
            attempt.progress.acknowledge(report)

    def _mend(self) -> None:
        first = True
        while not self._ended.is_set():
            try:
                if first:
                    sent = self._reconciler.send_all()
                    logger.info("%d waiting job(s) sent again", sent)
                    first = False
                else:
                    self._reconciler.step()
            except Exception:
                # Whatever it was, the next round finds the same things to mend.
                logger.exception("reconcile")
            self._ended.wait(self._settings.reconcile)

    def _drain(self) -> None:
        deadline = time.monotonic() + self._settings.shutdown_grace
        while self._attempts() and time.monotonic() < deadline:
            time.sleep(0.1)
        for attempt in self._attempts():
            attempt.stop(SHUTDOWN)
        while self._attempts():
            time.sleep(0.1)

    def _attempts(self) -> list[Attempt]:
        with self._lock:
            return list(self._running.values())

    def _received(self) -> set[Delivery]:
        with self._lock:
            return set(self._under_way)

    def _give_back(self, deliveries: set[Delivery]) -> None:
        """Send again what was received too late to be claimed: the engine counts it as done."""
        for delivery in deliveries:
            job = self._storage.jobs.get(Scope.everything(), delivery.job_id)
            if job is not None:
                self._delivery.forget(delivery)
                self._delivery.send(delivery, priority=job.priority)

    def _close(self) -> None:
        while not self._idle.empty():
            child = self._idle.get()
            if child is not None:
                child.kill()
        self._spawner.close()
        self._delivery.close()
        self._storage.close()


def run_worker(settings: Settings) -> int:
    """Work until SIGTERM or SIGINT; the exit code of the process."""
    prepare(settings)
    remove_old_caches(settings.numba_cache_dir)
    worker = Worker(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopper(worker.stop))
    worker.run()
    return 0


def warmup(settings: Settings) -> None:
    """Compile the kernels into the cache directory of the settings, so that no job has to."""
    os.environ.update(kernel_environment(settings))
    _, warm_up = load_task(settings.task)
    warm_up()


def _stopper(stop: Callable[[], None]) -> Callable[[int, object], None]:
    def handle(_number: int, _frame: object) -> None:
        stop()

    return handle


def main(arguments: list[str]) -> int:
    """``python -m service.jobs.worker [PARENT_PID]``; settings from the environment."""
    settings = Settings()
    configure_logs(settings)
    if arguments:
        die_with_parent(int(arguments[0]), signal.SIGTERM)
    return run_worker(settings)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    os._exit(code)  # threads of the delivery engine may still hold a delivery that was given back
