"""What holds for every test."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Speed is a matter for benchmarks: on a busy machine no law may fail for having been slow to check.
settings.register_profile("slipway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("slipway")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """In CI nothing may be missing, so a skip is a failure there; an expected failure stays what it is."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under CI=true, where nothing may be missing: {report.longrepr}"
    return report
