"""Settings of hypothesis for these tests."""

import os

from hypothesis import HealthCheck, settings

# Time says nothing on a shared machine or under a sanitizer, neither per example nor to draw some.
# In CI the same examples each time: a finding belongs into a test, not into a failed landing.
settings.register_profile("no-deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow],
                          derandomize=bool(os.environ.get("CI")))
settings.load_profile("no-deadline")
