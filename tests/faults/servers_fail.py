"""Faults of servers and of the network to them.

Flows in: a stage. Flows out: the fault, played on it.
"""

from __future__ import annotations

from tests.faults.stage import Program, Stage

_PASSWORD = "open-sesame"  # noqa: S105 - the password of a server that lives for seconds


def no_fault(stage: Stage) -> None:
    stage.server.start()
    stage.run(FLOWPROV__SINKS__STOP_TIMEOUT="5")
    stage.await_shippers_gone()


def away_at_the_start(stage: Stage) -> None:
    program = stage.start(GATES="0.5")
    program.wait_at_gate()
    stage.await_delivery_error()
    stage.server.start()
    program.resume()
    program.finish()
    stage.await_shippers_gone()


def dies_and_stays_away(stage: Stage) -> None:
    program = _half_way(stage, FLOWPROV__SINKS__GIVE_UP_AFTER="1")
    stage.server.kill()
    program.resume()
    program.finish()
    stage.await_shippers_gone()
    stage.server.start()
    stage.ship()


def comes_back_empty(stage: Stage) -> None:
    program = _half_way(stage)
    stage.server.kill()
    stage.server.delete_data()
    stage.server.start()
    program.resume()
    program.finish()
    stage.await_shippers_gone()


def comes_back_with_its_data(stage: Stage) -> None:
    program = _half_way(stage)
    stage.server.kill()
    stage.server.start()
    program.resume()
    program.finish()
    stage.await_shippers_gone()


def frozen_then_thawed(stage: Stage) -> None:
    program = _half_way(stage, gates="0.5 0.9", PACE="0.002")
    stage.server.freeze()
    program.resume()
    program.wait_at_gate()
    stage.server.thaw()
    program.resume()
    program.finish()
    stage.await_shippers_gone()


def frozen_to_the_end(stage: Stage) -> None:
    program = _half_way(stage)
    stage.server.freeze()
    program.resume()
    program.finish()
    stage.await_delivery_error()
    stage.server.thaw()
    stage.await_shippers_gone()


def read_only(stage: Stage) -> None:
    _refuses(stage, "read-only")


def out_of_memory(stage: Stage) -> None:
    _refuses(stage, "out of memory")


def refuses_documents(stage: Stage) -> None:
    _refuses(stage, "every document")


def _refuses(stage: Stage, how: str) -> None:
    program = _half_way(stage)
    stage.server.refuse(how)
    program.resume()
    program.finish()
    stage.await_delivery_error()
    stage.server.accept()
    stage.await_shippers_gone()


def wrong_password(stage: Stage) -> None:
    stage.require_password(_PASSWORD)
    stage.server.start()
    stage.environment.update(stage.sink_settings(stage.server.uri("wrong")))
    program = stage.run(FLOWPROV__SINKS__GIVE_UP_AFTER="1")
    stage.await_shippers_gone()
    assert "wrong" not in program.stderr
    stage.environment.update(stage.sink_settings(stage.server.uri()))
    stage.ship()


def slow(stage: Stage) -> None:
    stage.server.start()
    stage.put_proxy(delay=0.1)
    stage.run()
    stage.await_shippers_gone()


def cut_in_a_batch(stage: Stage) -> None:
    _cut(stage, taken=False)


def cut_before_the_answer(stage: Stage) -> None:
    _cut(stage, taken=True)


def _cut(stage: Stage, *, taken: bool) -> None:
    stage.server.start()
    # The handshake of a connection is shorter than this; a batch of 500 lines is many times as long.
    proxy = stage.put_proxy()
    proxy.cut_each(4, after=10_000, taken=taken)
    stage.run(TASKS="2000")
    stage.await_shippers_gone()
    assert proxy.cuts == 4


def _half_way(stage: Stage, *, gates: str = "0.5", **environment: str) -> Program:
    """Start a program and return it at its first gate, when the server holds some of its records."""
    stage.server.start()
    program = stage.start(GATES=gates, delivering=True, **environment)
    program.wait_at_gate()
    stage.await_some_delivered()
    return program
