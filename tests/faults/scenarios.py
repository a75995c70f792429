"""The scenarios: each plays one fault on a stage, and names the result that must follow.

Flows in: a stage. Flows out: the list of all scenarios, in the order of the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.faults import servers_fail, surroundings_fail, writers_fail
from tests.faults.stage import Stage

BOTH = ("redis", "mongodb")
_OTHER = ("mongodb",)  # with this one in every run, so that it meets a few faults of each kind
_COMPLETE, _INCOMPLETE = "COMPLETE", "INCOMPLETE"


class Scenario(NamedTuple):
    """A fault and its expected result.

    Attributes
    ----------
    name
        Name of the test case.
    sentence
        What happens, for people.
    play
        Function that plays the fault on a stage, and then repairs it.
    sinks
        The servers with which it is played.
    always
        The servers with which every run of the tests plays it; only the soak tests play the others.
    verdict
        The verdict of ``flowprov verify`` on the buffer afterwards.
    killed
        Whether the program is killed.
    lost
        Number of records that the files cannot give back; None if the program counts those that it dropped.
    stop_timeout
        ``sinks.stop_timeout`` of the program, in seconds.
    """

    name: str
    sentence: str
    play: Callable[[Stage], None]
    sinks: tuple[str, ...] = BOTH
    always: tuple[str, ...] = ("redis",)
    verdict: str = _COMPLETE
    killed: bool = False
    lost: int | None = 0
    stop_timeout: float = 1.0


_ONE = ("redis",)

SCENARIOS = [
    Scenario("no_fault", "none", servers_fail.no_fault, stop_timeout=5.0),
    Scenario(
        "away_at_the_start",
        "the server is down when the program starts, and comes later",
        servers_fail.away_at_the_start,
    ),
    Scenario(
        "dies_and_stays_away",
        "the server dies at half and stays away to the end; delivered by hand when it is back",
        servers_fail.dies_and_stays_away,
    ),
    Scenario(
        "comes_back_empty",
        "the server dies at half and comes back empty",
        servers_fail.comes_back_empty,
        always=_OTHER,
    ),
    Scenario(
        "comes_back_with_its_data",
        "the server dies at half and comes back with its data",
        servers_fail.comes_back_with_its_data,
    ),
    Scenario(
        "frozen_then_thawed",
        "the server is frozen (SIGSTOP) at half and thawed while the program runs",
        servers_fail.frozen_then_thawed,
    ),
    Scenario(
        "frozen_to_the_end",
        "the server is frozen until after the end of the program",
        servers_fail.frozen_to_the_end,
    ),
    Scenario(
        "read_only",
        "the server is read-only from the half on, until after the program",
        servers_fail.read_only,
        _ONE,
    ),
    Scenario(
        "out_of_memory",
        "the server is out of memory from the half on, until after the program",
        servers_fail.out_of_memory,
        _ONE,
    ),
    Scenario(
        "refuses_documents",
        "the server refuses what it is given from the half on, until after the program",
        servers_fail.refuses_documents,
        _OTHER,
        always=_OTHER,
    ),
    Scenario(
        "wrong_password",
        "the password is wrong; delivered by hand with the right one",
        servers_fail.wrong_password,
    ),
    Scenario("slow", "every answer of the server is 100 ms late", servers_fail.slow),
    Scenario(
        "cut_in_a_batch",
        "connections are cut in the middle of a batch",
        servers_fail.cut_in_a_batch,
        always=BOTH,
    ),
    Scenario(
        "cut_before_the_answer",
        "connections are cut when a batch was taken, before the answer",
        servers_fail.cut_before_the_answer,
    ),
    Scenario(
        "program_killed",
        "the program is killed (SIGKILL) while the server is away, which comes back",
        writers_fail.program_killed,
        always=BOTH,
        verdict=_INCOMPLETE,
        killed=True,
    ),
    Scenario(
        "shipper_killed",
        "the process that delivers is killed at random points; in the end, delivered by hand",
        writers_fail.shipper_killed,
    ),
    Scenario(
        "two_deliveries",
        "two commands deliver one buffer at once",
        writers_fail.two_deliveries,
    ),
    Scenario("two_hosts", "two hosts write and deliver one buffer", writers_fail.two_hosts),
    Scenario(
        "disk_full",
        "the disk under the buffer is full; the program counts what it could not write",
        surroundings_fail.disk_full,
        verdict=_INCOMPLETE,
        lost=None,
    ),
    Scenario("threads", "three threads write", writers_fail.threads),
    Scenario("fork", "three forked processes write", writers_fail.fork, always=_OTHER),
    Scenario("spawn", "three spawned processes write", writers_fail.spawn),
    Scenario(
        "unclosed",
        "the program ends without closing its workflow",
        writers_fail.unclosed,
        verdict=_INCOMPLETE,
    ),
    Scenario(
        "exit_at_once",
        "the program ends by `os._exit` in the middle of its workflow",
        writers_fail.exit_at_once,
        always=_OTHER,
        verdict=_INCOMPLETE,
    ),
    Scenario(
        "damaged_journal",
        "bytes of one record in a journal are overwritten before it is delivered",
        surroundings_fail.damaged_journal,
        verdict=_INCOMPLETE,
        lost=1,
    ),
    Scenario(
        "clock_jumps",
        "the clock jumps an hour ahead, and two back",
        surroundings_fail.clock_jumps,
        always=_OTHER,
    ),
]
