"""Crontab's five fields: minute, hour, day of month, month, day of week (https://man7.org/linux/man-
pages/man5/crontab.5.html).

Lists, ranges, steps and names ("*/30 8-18 * * mon-fri"). As there, a day matches if either of the two day fields
does, when both are restricted.
"""

import re

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = (("minute", 0, 59, ()), ("hour", 0, 23, ()), ("day of month", 1, 31, ()), ("month", 1, 12, MONTHS),
          ("day of week", 0, 7, DAYS))


def parse_number(text, name, low, high, names):
    if text.lower() in names:
        return names.index(text.lower()) + low
    if re.fullmatch("[0-9]{1,2}", text) and low <= int(text) <= high:
        return int(text)
    raise ValueError(f"'{text}' is no {name}")


def parse_field(text, name, low, high, names):
    """The set of values that a field allows."""
    found = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        if slash and not re.fullmatch("[1-9][0-9]?", step):
            raise ValueError(f"'{part}' is no {name}")
        first, dash, last = span.partition("-")
        if span == "*":
            first, last = low, high
        else:
            first = parse_number(first, name, low, high, names)
            last = parse_number(last, name, low, high, names) if dash else high if slash else first
        if last < first:
            raise ValueError(f"'{part}' is no {name}")
        found.update(range(first, last + 1, int(step or 1)))
    return found


class Schedule:
    """A parsed expression. ValueError if it is none."""

    def __init__(self, text):
        words = text.split()
        if len(words) != 5:
            raise ValueError(f"'{text}' has not the five fields of a crontab line")
        sets = [parse_field(word, *field) for word, field in zip(words, FIELDS, strict=True)]
        self.minutes, self.hours, self.days, self.months, weekdays = sets
        self.weekdays = {day % 7 for day in weekdays}
        self.any_day, self.any_weekday = words[2].startswith("*"), words[4].startswith("*")

    def matches(self, moment):
        """Is a time.struct_time in one of its minutes?"""
        if (moment.tm_min not in self.minutes or moment.tm_hour not in self.hours
                or moment.tm_mon not in self.months):
            return False
        day = moment.tm_mday in self.days
        weekday = (moment.tm_wday + 1) % 7 in self.weekdays
        return (day and weekday) if self.any_day or self.any_weekday else (day or weekday)
