"""A cache that is bounded in bytes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from stylebatch.pair.cache import ByteCache, Turns


def cache_of(capacity: int) -> ByteCache[bytes]:
    return ByteCache(capacity, len)


def test_values_come_back() -> None:
    cache = cache_of(10)
    assert cache.get("a") is None
    cache.put("a", b"123")
    assert cache.get("a") == b"123"
    assert cache.get("b") is None


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = cache_of(10)
    for name in "abc":
        cache.put(name, b"123")
    cache.get("a")
    cache.put("d", b"123")
    assert [cache.get(name) is None for name in "abcd"] == [False, True, False, False]


def test_as_many_go_as_must() -> None:
    cache = cache_of(10)
    for name in "abc":
        cache.put(name, b"123")
    cache.put("large", b"1234567")
    assert [cache.get(name) is None for name in ("a", "b", "c", "large")] == [True, True, False, False]


def test_bytes_are_counted_not_values() -> None:
    cache = cache_of(1000)
    for number in range(500):
        cache.put(number, b"ab")
    assert cache.get(0) == b"ab"
    cache.put("one more", b"a")
    assert cache.get(0) == b"ab"  # 1, the one used longest ago, went
    assert cache.get(1) is None


def test_a_value_can_be_replaced_without_counting_twice() -> None:
    cache = cache_of(10)
    cache.put("a", b"12345")
    cache.put("b", b"12345")
    for _ in range(5):
        cache.put("b", b"54321")
    assert cache.get("a") == b"12345"
    assert cache.get("b") == b"54321"


def test_a_value_that_is_too_large_is_not_kept() -> None:
    cache = cache_of(10)
    cache.put("large", b"12345678901")
    assert cache.get("large") is None


def test_a_value_that_is_too_large_costs_the_others_nothing() -> None:
    cache = cache_of(10)
    cache.put("a", b"123")
    cache.put("large", b"12345678901")
    assert cache.get("a") == b"123"


def test_a_value_that_is_replaced_by_one_too_large_is_gone() -> None:
    cache = cache_of(10)
    cache.put("a", b"123")
    cache.put("a", b"12345678901")
    assert cache.get("a") is None


def test_without_capacity_nothing_is_kept() -> None:
    cache = cache_of(0)
    cache.put("a", b"1")
    assert cache.get("a") is None


def test_threads_may_share_it() -> None:
    cache = cache_of(100)

    def work(seed: int) -> None:
        for number in range(2000):
            key = (seed * number) % 60
            cache.put(key, bytes(key % 9 + 1))
            found = cache.get(key)
            assert found is None or len(found) == key % 9 + 1

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = [cache.get(key) for key in range(60)]
    assert 90 <= sum(len(value) for value in kept if value) <= 100


class TestTurns:
    def test_one_thread_at_a_time_has_its_turn_at_a_key(self) -> None:
        turns, met = Turns(), threading.Barrier(2)

        def meet() -> bool:
            with turns.turn("a"):
                try:
                    met.wait(timeout=0.2)
                except threading.BrokenBarrierError:
                    return False
                return True

        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(meet) for _ in range(2)]
        assert [future.result() for future in futures] == [False, False]

    def test_another_key_has_a_turn_of_its_own(self) -> None:
        turns = Turns()
        with turns.turn("a"), turns.turn("b"):
            pass

    def test_what_goes_wrong_ends_a_turn(self) -> None:
        turns = Turns()
        with suppress(ValueError), turns.turn("a"):
            raise ValueError
        with turns.turn("a"):
            pass
