"""Lines about long work: the first ones are told, then one now and then, and the last; none is lost unseen."""

from __future__ import annotations

from executors.sandbox.sparing import Sparing, told_seconds


def told(*, first: int, pause_seconds: float, count: int) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    sparing = Sparing(lambda text, level: lines.append((text, level)), first=first, pause_seconds=pause_seconds)
    for number in range(count):
        sparing.tell(str(number), "warning" if number == count - 1 else "info")
    sparing.end()
    sparing.end()
    return lines


def test_few_lines_are_all_told() -> None:
    assert told(first=3, pause_seconds=60, count=3) == [("0", "info"), ("1", "info"), ("2", "warning")]
    assert told(first=3, pause_seconds=60, count=0) == []


def test_of_many_the_first_and_the_last_are_told() -> None:
    assert told(first=2, pause_seconds=60, count=3) == [("0", "info"), ("1", "info"), ("2", "warning")]
    lines = told(first=2, pause_seconds=60, count=10_000)
    assert lines == [("0", "info"), ("1", "info"), ("9999 (9,997 lines before it were left out)", "warning")]


def test_after_a_pause_one_more_is_told() -> None:
    assert [text for text, _ in told(first=1, pause_seconds=0, count=3)] == ["0", "1", "2"]
    assert told(first=0, pause_seconds=60, count=2) == [("1 (1 lines before it were left out)", "warning")]


def test_times_are_for_people() -> None:
    assert [told_seconds(seconds) for seconds in (0.0001, 0.0123, 75.5)] == ["0.1 ms", "12 ms", "75,500 ms"]
