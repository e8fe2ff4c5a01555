"""Time-outs that share one timer of the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from persistence.timers import LazyTimeout, LazyTimer
from tests.people import Person


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts the timers that are started."""

    timers = 0

    def call_at(self, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(*arguments, **options)


@pytest.fixture
def run() -> Any:
    """Runs a coroutine on a loop that counts, and returns the loop."""

    def run(work: Callable[[CountingLoop], Any]) -> CountingLoop:
        loop = CountingLoop()
        try:
            loop.run_until_complete(asyncio.wait_for(work(loop), 5))
        finally:
            loop.close()
        return loop

    return run


def test_many_blocks_start_one_timer(run: Any) -> None:
    async def work(loop: CountingLoop) -> None:
        before = loop.timers
        for seconds in range(10, 100):
            with LazyTimeout(seconds):
                pass
        assert loop.timers == before + 1

    run(work)


def test_a_block_that_takes_too_long_raises_timeout_error_also_after_others(run: Any) -> None:
    async def work(loop: CountingLoop) -> None:
        for seconds in 60.0, 0.05, 0.05:
            with LazyTimeout(seconds):
                pass
            started = loop.time()
            with pytest.raises(TimeoutError), LazyTimeout(0.05):
                await asyncio.Event().wait()
            assert loop.time() - started >= 0.04
        current = asyncio.current_task()
        assert current is not None
        assert not current.cancelling()

    run(work)


def test_a_task_that_is_cancelled_meanwhile_stays_cancelled(run: Any) -> None:
    async def work(loop: CountingLoop) -> None:
        async def wait() -> None:
            with LazyTimeout(0.05):
                await asyncio.Event().wait()

        for both in False, True:
            task = loop.create_task(wait())
            await asyncio.sleep(0)
            if both:
                loop.call_later(0.05, task.cancel)
                time.sleep(0.06)  # noqa: ASYNC251  # so that both happen in one turn of the loop
            else:
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(work)


def test_a_timer_that_is_put_off_ends_once_and_a_stopped_one_never(run: Any) -> None:
    async def work(loop: CountingLoop) -> None:
        ended = asyncio.Event()
        times: list[float] = []
        timer = LazyTimer(loop, lambda: (times.append(loop.time()), ended.set()))
        timer.start(0.05)
        await asyncio.sleep(0.03)
        timer.start(0.05)
        put_off_at = loop.time()
        await ended.wait()
        timer.start(0.02)
        timer.stop()
        assert not timer.is_running
        await asyncio.sleep(0.05)

        [ended_at] = times
        assert ended_at - put_off_at >= 0.04

    run(work)


def test_an_earlier_end_than_that_of_the_timer_that_runs_is_kept(run: Any) -> None:
    async def work(loop: CountingLoop) -> None:
        ended = asyncio.Event()
        timer = LazyTimer(loop, ended.set)
        timer.start(60)
        timer.start(0.02)
        await ended.wait()
        assert not timer.is_running

    run(work)


def test_blocks_at_the_same_time_each_end_in_their_own(run: Any) -> None:
    async def work(loop: CountingLoop) -> None:
        async def wait(seconds: float) -> float:
            started = loop.time()
            with pytest.raises(TimeoutError), LazyTimeout(seconds):
                await asyncio.Event().wait()
            return loop.time() - started

        seconds = [0.15, 0.05, 0.25, 0.1]
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(wait(each)) for each in seconds]

        took = [each.result() for each in waits]
        assert all(each > least - 0.01 for each, least in zip(took, seconds, strict=True))
        assert sorted(took) == [took[1], took[3], took[0], took[2]]

    run(work)


async def test_a_warm_request_starts_no_timer_of_the_event_loop(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        task = await ada.create_task("water the plants")
        await ada.get_task(task.id)
        await ada.list_tasks()
        await ada.change_task(task.id, completed=True)
        await ada.delete_task(task.id)

    await work()
    loop, started = asyncio.get_running_loop(), []
    call_at = loop.call_at

    def note(when: float, callback: Any, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        # The proxy in front of PostgreSQL delays what it writes.
        if not isinstance(getattr(callback, "__self__", None), asyncio.StreamWriter):
            started.append(callback)
        return call_at(when, callback, *arguments, **options)

    monkeypatch.setattr(loop, "call_at", note)
    await work()

    assert not started
