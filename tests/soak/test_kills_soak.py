"""Twenty thousand kills, with alarms that raise and with forks, lose nothing that was acknowledged.

A host process forks children that record. Each child notes in shared memory what it was told: a call of
flowprov that returned. The host kills it at a random moment and looks for each of these notes in the bytes of
the journals. It asks flowprov for nothing but, now and then, its verdict.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import run

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("FLOWPROV_TEST_KILLS", "20000"))
_WAYS = [
    (writer, way)
    for writer in ("auto", "mapped", "write")
    for way in ("plain", "signals", "forks", "both", "both, rolling")
]

_HOST = """
    import contextlib, faulthandler, mmap, os, random, re, shutil, signal, struct, sys, time
    from pathlib import Path
    import flowprov
    from flowprov.read.buffer import Buffer

    writer, way, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
    roll_bytes = 16_384 if way.endswith(", rolling") else 64 << 20  # many files, or one
    way = way.removesuffix(", rolling")
    chance = random.Random(f"{writer} {way}")
    ROOM = 1 << 19  # bytes of notes of one process
    PROCESSES = 4
    NUMBER = re.compile(rb'"used":\\{"number":(\\d+)')
    GIVEN = re.compile(rb'"given":(\\d+)')


    class Notes:
        '''What one process was told, in memory that outlives it: numbers, behind their count.'''

        def __init__(self, memory, place):
            self.memory, self.begin = memory, place * ROOM

        def add(self, number):
            count, = struct.unpack_from("<q", self.memory, self.begin)
            struct.pack_into("<q", self.memory, self.begin + 8 + 8 * count, number)
            struct.pack_into("<q", self.memory, self.begin, count + 1)

        def full(self):
            return struct.unpack_from("<q", self.memory, self.begin)[0] > ROOM // 8 - 64

        def numbers(self):
            count, = struct.unpack_from("<q", self.memory, self.begin)
            return struct.unpack_from(f"<{count}q", self.memory, self.begin + 8)


    ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT


    class Alarm(Exception):
        pass


    def ring(*_):
        wind()
        raise Alarm


    def wind():
        signal.setitimer(signal.ITIMER_REAL, 0.0005 + chance.expovariate(100))


    def record(memory, place, first):
        '''Record for ever; note every number that was told to be recorded.'''
        tasks, values = Notes(memory, 2 * place), Notes(memory, 2 * place + 1)
        number = first
        while not tasks.full():
            with contextlib.suppress(Alarm):
                while not tasks.full():
                    number += 1
                    step(number)
                    tasks.add(number)
                    with flowprov.task_scope("scope") as scope:
                        scope.set_generated(given=number)
                        values.add(number)
                    loop = flowprov.Loop(2)
                    for _ in loop:
                        number += 1
                        loop.end_iter(given=number)
                        values.add(number)
        signal.pause()


    @flowprov.task
    def step(number):
        return number


    def child(memory, folder):
        os.setpgid(0, 0)
        flowprov.configure(journal={"path": str(folder), "writer": writer, "roll_bytes": roll_bytes})
        if way in ("signals", "both"):
            signal.signal(signal.SIGALRM, ring)
            wind()
        while True:
            with contextlib.suppress(Alarm):
                with flowprov.workflow("killed"):
                    if way in ("forks", "both"):
                        for place in (1, 2):
                            if os.fork() == 0:
                                while True:
                                    with contextlib.suppress(Alarm):
                                        record(memory, place, place * 1_000_000)
                    record(memory, 0, 0)


    killed = lost = acknowledged = number = 0
    while killed < kills:
        number += 1
        folder = Path("buffers") / str(number)
        memory = mmap.mmap(-1, 2 * PROCESSES * ROOM)
        pid = os.fork()
        if pid == 0:
            try:
                faulthandler.dump_traceback_later(20)  # should it hang
                child(memory, folder)
            except Alarm:  # one that rang between two places that expect it: the program is as dead as killed
                os._exit(0)
            finally:
                os._exit(3)
        deadline = time.monotonic() + 30
        while not memory[0] and time.monotonic() < deadline and not os.waitid(os.P_PID, pid, ENDED):
            time.sleep(0.0005)
        assert memory[0] or way in ("signals", "both"), f"kill {number}: nothing was recorded"
        time.sleep(chance.expovariate(100))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        ended = os.waitstatus_to_exitcode(status)
        killed += ended == -signal.SIGKILL
        assert ended in (-signal.SIGKILL, 0), f"kill {number}: the program ended by itself: {ended}"
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        journals = b"".join(path.read_bytes() for path in folder.rglob("*.jsonl"))
        found = set(map(int, NUMBER.findall(journals))), set(map(int, GIVEN.findall(journals)))
        for place in range(2 * PROCESSES):
            told = Notes(memory, place).numbers()
            acknowledged += len(told)
            missing = set(told) - found[place % 2]
            if missing:
                lost += len(missing)
                print(f"kill {number}: process {place // 2} lost {sorted(missing)[:5]}", file=sys.stderr)
        if number % 100 == 0 and any(found):
            assert any(Buffer(folder).records())
        memory.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(killed, acknowledged, lost)
"""


@pytest.mark.parametrize(("writer", "way"), _WAYS)
def test_no_kill_loses_what_was_acknowledged(tmp_path: Path, writer: str, way: str) -> None:
    printed, _ = run(_HOST, tmp_path, writer, way, str(KILLS // len(_WAYS)), timeout=3000)
    kills, acknowledged, lost = map(int, printed.split())
    assert acknowledged > kills
    print(f"{kills} kills, {acknowledged} acknowledged, {lost} lost")  # noqa: T201 - a figure for people
    assert lost == 0
