"""What all tests share."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None)  # a timing never decides a test
settings.load_profile("house")

PLAYS = {"play", "visit"}  # what tests in virtual time import
_traced = set[str]()


@pytest.fixture(scope="session", autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever a test starts keeps what it learned of limits here, not in the home of who runs the tests."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Iterator[None]:
    """Of a test in virtual time the first case is traced for coverage. The others go through the same lines with other
    servers, and being traced would take two thirds of their time.
    """
    test = item.nodeid.partition("[")[0]
    is_traced = test not in _traced or PLAYS.isdisjoint(vars(item.module))
    _traced.add(test)
    tracer = sys.gettrace()
    if not is_traced:
        sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)
