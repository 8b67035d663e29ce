"""Savepoints of a bound session: each takes the tasks that were added in it with it, or keeps them."""

from __future__ import annotations

import pytest

from postlude import BackgroundTasks


class Undo(Exception):
    pass


async def _undone(till, work):
    async def undo():
        async with till.savepoint():
            await work()
            raise Undo

    with pytest.raises(Undo):
        await undo()


@pytest.mark.parametrize("written", [True, False], ids=["its row was written", "it was noted only"])
def test_one_that_is_rolled_back_takes_its_tasks_with_it(shop, keep, written):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.order("ada")
            tasks.add_task(keep, "before")

            async def work():
                tasks.add_task(keep, "inside")
                if written:
                    await till.order("bob")

            await _undone(till, work)
            tasks.add_task(keep, "after")
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert shop.orders() == ["ada"]
    assert shop.tasks() == [("before", "queued"), ("after", "queued")]


def test_one_that_is_released_has_stored_nothing_yet(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            async with till.savepoint():
                await till.order("ada")
                tasks.add_task(keep, 1)
            shop.events.append((shop.orders(), shop.tasks()))
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert shop.events == [([], [])]
    assert (shop.orders(), shop.tasks()) == (["ada"], [(1, "queued")])


def test_one_that_is_released_falls_with_the_transaction_around_it(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            async with till.savepoint():
                await till.order("ada")
                tasks.add_task(keep, 1)
            await till.rollback()

    assert shop.post(endpoint).status_code == 200
    assert (shop.orders(), shop.tasks()) == ([], [])


def test_one_that_is_released_falls_with_the_savepoint_around_it(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)

            async def work():
                async with till.savepoint():
                    await till.order("ada")
                    tasks.add_task(keep, "inner")
                tasks.add_task(keep, "outer")

            await _undone(till, work)
            async with till.savepoint(), till.savepoint():
                tasks.add_task(keep, "kept")
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert (shop.orders(), shop.tasks()) == ([], [("kept", "queued")])


def test_a_row_that_one_has_taken_back_is_written_again_if_its_task_was_added_before(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            async with till.savepoint():
                tasks.add_task(keep, "one savepoint earlier")
            await till.read()

            async def work():
                tasks.add_task(keep, "gone")
                async with till.savepoint():  # its release writes what is noted so far
                    await till.order("ada")

            tasks.add_task(keep, "before")
            await _undone(till, work)
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert shop.orders() == []
    assert shop.tasks() == [("one savepoint earlier", "queued"), ("before", "queued")]


def test_a_flush_that_fails_takes_the_tasks_of_its_savepoint_with_it(shop, keep, order):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.order("ada")
            tasks.add_task(keep, "before")

            async def work():
                async with till.savepoint():
                    tasks.add_task(keep, "inside")
                    till.session.add(order(name="ada"))

            with pytest.raises(Exception, match="UNIQUE"):
                await work()
            tasks.add_task(keep, "after")
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert shop.tasks() == [("before", "queued"), ("after", "queued")]


@pytest.mark.parametrize("names", [["ada"], []], ids=["with a row", "with tasks alone"])
def test_one_that_is_left_open_is_committed_with_the_transaction(sync_shop, keep, order, names):
    shop = sync_shop

    def endpoint(tasks: BackgroundTasks):
        with shop.session() as session:
            tasks.bind(session)
            with session.begin():
                tasks.add_task(keep, "outside")
                session.begin_nested()
                session.add_all(order(name=name) for name in names)
                tasks.add_task(keep, "inside")

    assert shop.post(endpoint).status_code == 200
    assert shop.orders() == names
    assert shop.tasks() == [("outside", "queued"), ("inside", "queued")]


def test_one_that_is_left_open_falls_with_the_transaction(sync_shop, keep):
    shop = sync_shop

    def work(tasks, session):
        with session.begin():
            session.begin_nested()
            tasks.add_task(keep, 1)
            raise Undo

    def endpoint(tasks: BackgroundTasks):
        with shop.session() as session:
            tasks.bind(session)
            with pytest.raises(Undo):
                work(tasks, session)

    assert shop.post(endpoint).status_code == 200
    assert shop.tasks() == []


def test_hundreds_of_them_are_kept_apart(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            for n in range(200):

                async def work(n=n):
                    tasks.add_task(keep, n)

                if n % 2:
                    await _undone(till, work)
                else:
                    async with till.savepoint():
                        await work()
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    with shop.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT arguments FROM postlude_tasks ORDER BY seq")
        assert [row[0] for row in found] == [f'{{"x":{n}}}' for n in range(0, 200, 2)]
