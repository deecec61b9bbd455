"""The circuit breaker, with time as a number."""

import itertools

from chatcore.circuit import FIRST_PROBE_SECONDS, LAST_PROBE_SECONDS, THRESHOLD, Circuit


def _opened(at: float = 100.0) -> Circuit:
    circuit = Circuit()
    opened = [circuit.failed(at) for _ in range(THRESHOLD)]
    assert opened == [False] * (THRESHOLD - 1) + [True]
    return circuit


def test_a_few_failures_do_not_open_it() -> None:
    circuit = Circuit()
    for _ in range(10):
        for _ in range(THRESHOLD - 1):
            assert not circuit.failed(0.0)
        circuit.connected()
    assert not circuit.is_open


def test_failures_in_a_row_open_it_once() -> None:
    circuit = _opened()
    assert circuit.is_open
    assert not circuit.failed(101.0), "it is open already"


def test_probes_come_ever_more_rarely() -> None:
    circuit = _opened(at=0.0)
    due = [tenth / 10 for tenth in range(2000) if circuit.probe_due(tenth / 10)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(due)]
    assert due[0] == FIRST_PROBE_SECONDS
    assert gaps[0] < gaps[1] < gaps[2]
    assert max(gaps) <= LAST_PROBE_SECONDS + 0.1


def test_a_closed_circuit_is_not_probed() -> None:
    assert not Circuit().probe_due(1e9)


def test_a_probe_that_succeeds_closes_it_on_probation() -> None:
    circuit = _opened()
    circuit.probe_succeeded()
    assert not circuit.is_open
    assert circuit.failed(200.0), "the next failure opens it again"


def test_an_answer_ends_the_probation() -> None:
    circuit = _opened()
    circuit.probe_succeeded()
    circuit.connected()
    assert not circuit.failed(200.0)
    assert not circuit.is_open
