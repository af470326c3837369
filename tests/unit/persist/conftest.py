"""Settings of hypothesis for the tests of this folder."""

import os

from hypothesis import settings

# Time per example says nothing on a shared machine or under a sanitizer.
settings.register_profile("no-deadline", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("no-deadline")
