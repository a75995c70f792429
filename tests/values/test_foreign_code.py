"""Recording a value runs no code of its class: nothing is queried, loaded, computed or waited for."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowprov
from flowprov.values import Limits, Summarizer
from tests.values import hostile
from tests.values.hostile import hostile_object
from tests.values.support import ASKING, recorded

# -- Django ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def book() -> Any:
    """Return a model of Django whose table is in memory."""
    django = pytest.importorskip("django")
    conf = import_module("django.conf")
    if not conf.settings.configured:
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        conf.settings.configure(DATABASES={"default": database}, INSTALLED_APPS=[], USE_TZ=True)
        django.setup()
    models: Any = import_module("django.db.models")
    connection: Any = import_module("django.db").connection
    meta = type("Meta", (), {"app_label": "flowprov_tests"})
    fields = {"title": models.TextField(), "text": models.TextField(), "Meta": meta, "__module__": __name__}
    model = type("Book", (models.Model,), fields)
    with connection.schema_editor() as editor:
        editor.create_model(model)
    for number in range(3):
        model.objects.create(title=f"title {number}", text="long")  # type: ignore[attr-defined]
    return model


@pytest.fixture
def queries(book: Any) -> Iterator[Any]:
    """Yield the queries that are sent meanwhile."""
    connection: Any = import_module("django.db").connection
    capture: Any = import_module("django.test.utils").CaptureQueriesContext
    with capture(connection) as captured:
        yield captured


def test_a_query_set_is_not_evaluated(book: Any, queries: Any, buffer: Path) -> None:
    @flowprov.task
    def select(books: Any, more: Any) -> Any:
        return books

    chosen = book.objects.filter(title__startswith="title")
    with flowprov.workflow("w"):
        select(chosen, [chosen, {"values": book.objects.values("title"), "raw": book.objects}])
    assert len(queries) == 0
    (row,) = (row for row in flowprov.read_buffer(str(buffer), return_df=False) if row["type"] == "task")
    assert row["used"]["books"] == row["generated"]["result"]
    assert row["used"]["books"] == {"$type": "django.db.models.query.QuerySet"}


def test_a_deferred_field_is_not_loaded(book: Any, queries: Any) -> None:
    (first, *_) = book.objects.only("title")
    before = len(queries)
    assert recorded(first) == {"$type": f"{__name__}.Book"}
    recorded(
        {"book": first, "lazy": import_module("django.utils.functional").SimpleLazyObject(hostile_object)}
    )
    assert len(queries) == before


# -- SQLAlchemy --------------------------------------------------------------------------------------------


@pytest.fixture
def session() -> Iterator[Any]:
    """Yield a session with two classes, one of them a dataclass, and what it did as `statements`."""
    sa: Any = pytest.importorskip("sqlalchemy")
    orm: Any = import_module("sqlalchemy.orm")

    class Base(orm.DeclarativeBase):  # type: ignore[misc]
        pass

    class Run(Base):
        __tablename__ = "run"
        id = orm.mapped_column(sa.Integer, primary_key=True)
        name = orm.mapped_column(sa.String)
        notes = orm.deferred(orm.mapped_column(sa.String))
        metrics = orm.relationship("Metric")

        def to_dict(self) -> Any:
            """Read all fields."""
            return {"name": self.name, "notes": self.notes, "metrics": self.metrics}

    columns = {
        "id": orm.mapped_column(sa.Integer, primary_key=True),
        "run_id": orm.mapped_column(sa.ForeignKey("run.id"), default=1),
        "value": orm.mapped_column(sa.Float, default=0.5),
    }
    annotations = {"id": orm.Mapped[int], "run_id": orm.Mapped[int], "value": orm.Mapped[float]}
    namespace = {"__tablename__": "metric", "__annotations__": annotations, "__module__": __name__, **columns}
    Metric: Any = type("Metric", (orm.MappedAsDataclass, Base), namespace)  # noqa: N806 - a class

    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    Base.metadata.create_all(engine)
    statements: list[str] = []
    with orm.Session(engine) as session:
        session.add_all([Run(id=1, name="first", notes="long"), Metric(id=1, value=0.25)])
        session.commit()
        sa.event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
        session.statements, session.Run, session.Metric = statements, Run, Metric
        yield session


def test_an_expired_entity_is_not_loaded_and_no_transaction_stays_open(session: Any, buffer: Path) -> None:
    run, metric = session.get(session.Run, 1), session.get(session.Metric, 1)
    session.commit()
    session.statements.clear()

    @flowprov.task
    def step(run: Any, metric: Any) -> Any:
        return [run, metric]

    with flowprov.workflow("w"):
        step(run, metric)
    assert session.statements == []
    assert not session.in_transaction()


def test_what_an_entity_holds_is_recorded_and_what_it_would_load_is_named(session: Any) -> None:
    metric, run = session.get(session.Metric, 1), session.get(session.Run, 1)
    session.statements.clear()
    form = recorded(metric)
    assert (form["id"], form["value"]) == (1, 0.25)
    assert recorded(run)["name"] == "first"
    assert "notes" not in recorded(run)
    session.expire(metric)
    form = recorded(metric)
    assert form["value"] == {"$not_read": "sqlalchemy.orm.attributes.InstrumentedAttribute"}
    assert session.statements == []


def test_a_result_that_was_not_fetched_is_not_consumed(session: Any) -> None:
    sa: Any = import_module("sqlalchemy")
    result = session.execute(sa.select(session.Run))
    recorded([result, sa.select(session.Run), session, session.get_bind()])
    assert len(result.all()) == 1


# -- lazy values of other packages -------------------------------------------------------------------------


def test_a_proxy_does_not_touch_what_it_stands_for() -> None:
    wrapt = pytest.importorskip("wrapt")
    made = []
    lazy = wrapt.LazyObjectProxy(lambda: made.append(1)) if hasattr(wrapt, "LazyObjectProxy") else None
    recorded([wrapt.ObjectProxy([1]), wrapt.CallableObjectProxy(print), lazy])
    assert made == []


def test_dask_computes_nothing() -> None:
    dask: Any = pytest.importorskip("dask")
    array: Any = import_module("dask.array")
    bag: Any = import_module("dask.bag")
    computed: list[int] = []
    delayed = dask.delayed(computed.append)(1)
    lazy = array.from_delayed(delayed, (3,), "f4")
    form = recorded([delayed, lazy, bag.from_delayed([delayed]), delayed.attribute, delayed[0]])
    assert form[1]["shape"] == [3]
    frames: Any = pytest.importorskip("dask.dataframe")
    pandas: Any = import_module("pandas")
    frame = frames.from_delayed([dask.delayed(computed.append)(1)], meta=pandas.DataFrame({"a": [1]}))
    recorded([frame, frame["a"], frame.groupby("a")])
    assert computed == []


def test_a_mapped_array_is_not_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "array"
    np.zeros(1_000).tofile(path)
    mapped = np.memmap(path, mode="r")
    path.write_bytes(b"")  # to read one of its pages would end the process by SIGBUS
    assert recorded({"x": mapped, "again": [mapped]})["x"]["shape"] == [8_000]


class LazyDataset:
    """A data set as h5py has them: it reads its file for every question."""

    shape = property(hostile.spy("shape"))
    dtype = property(hostile.spy("dtype"))
    nbytes = property(hostile.spy("nbytes"))
    __len__ = __getitem__ = __array__ = __repr__ = hostile.spy("a data set")


class LazyFrame:
    """A frame that learns its columns by running its query."""

    shape = property(hostile.spy("shape"))
    columns = property(hostile.spy("columns"))
    dtypes = property(hostile.spy("dtypes"))


class LazyMapping(Mapping[str, Any]):
    """A mapping that computes."""

    __getitem__ = __iter__ = __len__ = items = hostile.spy("a mapping")


class Answering:
    """Is equal to nothing, has no hash, no length, no truth and no class."""

    __eq__ = __len__ = __bool__ = __iter__ = __hash__ = __contains__ = hostile.spy("an answer")
    __class__ = property(hostile.spy("__class__"))


@pytest.mark.parametrize("cls", [LazyDataset, LazyFrame, LazyMapping, Answering])
def test_an_object_of_an_unknown_class_is_not_asked(cls: type, buffer: Path) -> None:
    value: Any = object.__new__(cls)
    hostile.CALLS.clear()

    @flowprov.task(output_names=["first", "second"])
    def step(*values: Any, **named: Any) -> Any:
        return value, [value]

    @flowprov.task
    def same(x: Any) -> Any:
        return x

    with flowprov.workflow("w"):
        step(value, {"key": [value]}, name=value)
        same(value)
        loop = flowprov.Loop([value, (value,)])
        for item in loop:
            loop.end_iter({"item": item})
        flowprov.current_workflow().set_generated(value=value)  # type: ignore[union-attr]
    assert hostile.CALLS == []
    rows = flowprov.read_buffer(str(buffer), return_df=False)
    assert len(rows) == 5
    form = {"$type": f"{__name__}.{cls.__name__}"}
    assert {str(row["generated"]["result"]) for row in rows if row.get("activity_id") == "same"} == {
        str(form)
    }


def test_an_object_is_asked_if_the_settings_say_so(buffer: Path) -> None:
    class Model:
        def __repr__(self) -> str:
            return "Model(layers=3)"

    @flowprov.task
    def step(model: Any) -> None: ...

    flowprov.configure(journal={"path": str(buffer)}, values={"object_reprs": True})
    with flowprov.workflow("w"):
        step(Model())
    (row,) = (row for row in flowprov.read_buffer(str(buffer), return_df=False) if row["type"] == "task")
    assert row["used"]["model"]["repr"] == "Model(layers=3)"


# -- fields ------------------------------------------------------------------------------------------------


class Computed:
    """A descriptor that computes."""

    def __get__(self, instance: object, owner: object = None) -> int:
        hostile.CALLS.append("a descriptor")
        return 1


@dataclasses.dataclass
class WithDescriptors:
    """A dataclass with a property, a descriptor and a default."""

    lr: float = 0.1
    computed: Any = None
    described: Any = None
    default: Any = "d"


WithDescriptors.computed = property(hostile.spy("a property"), lambda _self, _value: None)
WithDescriptors.described = Computed()


def test_a_field_that_is_computed_is_named_and_not_read() -> None:
    value = WithDescriptors()
    del value.described, value.default
    hostile.CALLS.clear()
    form = recorded(value)
    assert hostile.CALLS == []
    assert form == {
        "lr": 0.1,
        "computed": {"$not_read": "property"},
        "described": {"$not_read": f"{__name__}.Computed"},
        "default": "d",
    }
    assert recorded(value, summarizer=ASKING)["described"] == 1


@pytest.mark.parametrize("where", ["a list", "a tuple", "a dict", "a field", "a set of classes", "a key"])
def test_a_class_that_is_no_key_costs_itself_alone(where: str) -> None:
    odd: Any = hostile.OfUnhashableMeta()
    name = "tests.values.hostile.OfUnhashableMeta"
    form = {"$type": name}
    values: dict[str, tuple[Any, Any]] = {
        "a list": ([1, odd, "a"], [1, form, "a"]),
        "a tuple": ((odd, 0.5), [form, 0.5]),
        "a dict": ({"a": 1, "odd": odd, "b": 2}, {"a": 1, "odd": form, "b": 2}),
        "a field": (WithDescriptors(lr=odd), recorded(WithDescriptors()) | {"lr": form}),
        "a set of classes": ([int, hostile.OfUnhashableMeta], [{"$class": "int"}, {"$class": name}]),
        "a key": ({odd: 1, "b": 2}, {f"<{name}>": 1, "b": 2}),
    }
    value, expected = values[where]
    hostile.CALLS.clear()
    assert recorded(value) == expected
    assert hostile.CALLS == []


def test_a_class_whose_id_another_class_had_has_its_own_handler() -> None:
    for number in range(3_000):
        made: Any = dataclasses.make_dataclass("Made", ["x"]) if number % 2 else type("Other", (), {})
        form = recorded(made(1) if number % 2 else made())
        assert form == ({"x": 1} if number % 2 else {"$type": f"{made.__module__}.Other"})
        del made
    gc.collect()


_NAMES = st.sampled_from(["lr", "x", "_private", "computed"])


@given(st.dictionaries(_NAMES, st.integers(0, 9), max_size=4), st.sets(_NAMES, max_size=3))
def test_any_mixture_of_stored_and_computed_fields_is_read_without_code(
    stored: dict[str, int], computed: set[str]
) -> None:
    namespace = {name: property(hostile.spy(name)) for name in computed}
    cls = type("Mixed", (), {**namespace, "__dataclass_fields__": dict.fromkeys({*stored, *computed})})
    value: Any = cls()
    value.__dict__.update(stored)
    hostile.CALLS.clear()
    form = msgspec.json.decode(Summarizer(Limits()).encode(value))
    assert hostile.CALLS == []
    assert form == {**{name: {"$not_read": "property"} for name in computed}, **stored}
