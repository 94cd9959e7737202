"""Jobs that take turns: one runs at a time, until all wait for work that can be done together.

Each job runs in a thread of its own, but only the one that holds the turn moves. So the jobs may
use global state (random generators, logging, warnings) as if they were alone.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dal.utils.logs import REPLICA


@dataclass(eq=False)
class Request:
    """Work that a job waits for.

    Attributes:
        order: Round and step of the round; the furthest behind are served first, so that jobs
            which are ahead wait and all come together.
        key: Requests with equal keys may be done as one; None for alone.
        work: What is asked, for whoever does it.
        context: Context variables of the asking thread.
        threads: Its number of CPU threads, under which the work must be done.
        result: The answer.
        error: Raised in the asking thread instead of an answer.
    """

    order: tuple[int, int]
    key: Hashable
    work: Any
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    threads: int = field(default_factory=torch.get_num_threads)
    result: Any = None
    error: BaseException | None = None

    def attempt(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the context of the request; what it raises becomes its error."""
        try:
            return self.context.run(function, *args)
        except Exception as error:
            self.error = error
            return None


class Replica:
    """One job's place among those that take turns.

    Args:
        name: Shown before its lines.
        body: The job.
    """

    def __init__(self, name: str, body: Callable[[Replica], None]) -> None:
        self.name = name
        self.request: Request | None = None
        self.done = False
        self._body = body
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.error: BaseException | None = None

    def ask(self, request: Request) -> Any:
        """Wait for an answer, in the job's own thread, while others have their turn."""
        self.request = request
        self._paused.release()
        self._go.acquire()
        self.request = None
        if request.error is not None:
            raise request.error
        return request.result

    def resume(self) -> None:
        """Let the job run until it asks or ends.

        Raises:
            KeyboardInterrupt: It came meanwhile; raised when the job has come to rest.
        """
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        try:
            self._paused.acquire()
        except KeyboardInterrupt:
            self._paused.acquire()
            raise

    def _run(self) -> None:
        REPLICA.set(self.name)
        try:
            self._body(self)
        except BaseException as error:
            self.error = error
        finally:
            self.done = True
            self._paused.release()


class Engine:
    """Runs jobs in turns and has their requests done, together where they can be.

    Args:
        execute: Does the requests of a list, which share order and key, and fills in result or
            error of each.
    """

    def __init__(self, execute: Callable[[list[Request]], None]) -> None:
        self._execute = execute

    def run(self, replicas: Sequence[Replica]) -> None:
        """Run all jobs to their ends; `Replica.error` says how.

        Raises:
            KeyboardInterrupt: As it came; the jobs have been ended by it as well.
        """
        moving = list(replicas)
        try:
            while True:
                for replica in moving:
                    replica.resume()
                waiting = [replica for replica in replicas if not replica.done]
                if not waiting:
                    return
                moving = self._serve(waiting)
        except KeyboardInterrupt:
            for replica in replicas:
                if replica.request is not None:
                    replica.request.error = KeyboardInterrupt()
                    replica.resume()
            raise

    def _serve(self, waiting: Sequence[Replica]) -> list[Replica]:
        """Have the requests done of those furthest behind; gives whose they were."""
        requests = {replica: replica.request for replica in waiting if replica.request}
        first = min(request.order for request in requests.values())
        served = [replica for replica, request in requests.items() if request.order == first]
        groups: dict[Hashable, list[Request]] = {}
        for replica in served:
            request = requests[replica]
            groups.setdefault(id(request) if request.key is None else request.key, []).append(
                request
            )
        for group in groups.values():
            self._execute(group)
        return served
