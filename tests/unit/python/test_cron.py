"""Crontab's fields, and when a schedule asks for a snapshot."""

import time

import pytest

from dfly.cron import Schedule
from dfly.saver import Saver


def at(text):
    return time.strptime(text, "%Y-%m-%d %H:%M")


@pytest.mark.parametrize("schedule, moments, others", [
    ("* * * * *", ["2026-11-26 04:17"], []),
    ("*/30 * * * *", ["2026-11-26 04:00", "2026-11-26 04:30"], ["2026-11-26 04:29", "2026-11-26 04:31"]),
    ("5,10-12,50-59/4 3 * * *", ["2026-11-26 03:05", "2026-11-26 03:11", "2026-11-26 03:58"],
     ["2026-11-26 03:13", "2026-11-26 03:57", "2026-11-26 04:05"]),
    ("10/20 * * * *", ["2026-11-26 04:10", "2026-11-26 04:50"], ["2026-11-26 04:00", "2026-11-26 04:20"]),
    ("0 0 29 FEB *", ["2028-02-29 00:00"], ["2028-03-29 00:00", "2028-02-28 00:00"]),
    # 2026-11-26 is a Thursday; 0 and 7 are Sunday.
    ("0 8-18 * * mon-fri", ["2026-11-26 08:00", "2026-11-27 18:00"], ["2026-11-28 08:00", "2026-11-26 19:00"]),
    ("0 0 * * 7", ["2026-11-29 00:00"], ["2026-11-30 00:00"]),
    ("0 0 * * 0", ["2026-11-29 00:00"], ["2026-11-28 00:00"]),
    ("0 0 * * 5-7", ["2026-11-27 00:00", "2026-11-29 00:00"], ["2026-11-26 00:00"]),
    # Both days are restricted: either will do. One is not: the other decides.
    ("0 0 13 * fri", ["2026-11-13 00:00", "2026-11-27 00:00", "2026-12-13 00:00"], ["2026-11-26 00:00"]),
    ("0 0 13 * *", ["2026-12-13 00:00"], ["2026-11-27 00:00"]),
])
def test_what_a_schedule_matches(schedule, moments, others):
    parsed = Schedule(schedule)
    assert [moment for moment in moments if not parsed.matches(at(moment))] == []
    assert [moment for moment in others if parsed.matches(at(moment))] == []


@pytest.mark.parametrize("text", [
    "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *",
    "*/0 * * * *", "a * * * *", "* * * mon *", "1,,2 * * * *", "-1 * * * *", "1- * * * *", "*/ * * * *",
    "\u0661 * * * *"])
def test_what_is_no_schedule(text):
    with pytest.raises(ValueError):
        Schedule(text)


def test_once_a_minute_and_not_in_that_of_the_start():
    settings = {"snapshot_cron": "*/2 * * * *", "cron-clock-ahead": 0}
    saver = Saver(None, settings)
    noon = time.mktime(at("2026-11-26 12:00"))
    due = [second for second in range(0, 600, 5) if saver.is_cron_due(noon + second)]
    assert due == [120, 240, 360, 480]
    settings["snapshot_cron"] = ""
    assert not saver.is_cron_due(noon + 720)
