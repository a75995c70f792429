"""No secret reaches the disk: real programs with a secret at each place, and every byte that they leave."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.sinks.redis_server import RedisServer
from tests.support import run, start_command

PART = 8  # characters: no part of a secret as long as this may be found
HEAD = """
    import functools, hashlib, logging, os, sys, threading
    logging.basicConfig(filename="flowprov.log", level=logging.DEBUG)
    import flowprov

    def secret(place):
        # As random as a password; nothing in it looks like the token of a service.
        return hashlib.sha512(place.encode()).hexdigest()[3:35].upper()

    def token(prefix, place, length=40):
        return prefix + hashlib.sha512(place.encode()).hexdigest()[:length]

    def plant(place, text=None):
        planted = text or secret(place)
        with open("planted", "a") as file:
            file.write(f"{place}\\t{planted}\\n")
        return planted
"""


def program_of(*parts: str) -> str:
    return "".join(map(textwrap.dedent, (HEAD, *parts)))


def planted_in(folder: Path) -> dict[str, str]:
    return dict(line.split("\t") for line in (folder / "planted").read_text().splitlines())


def parts_of(secret: str) -> set[str]:
    """Return the texts that betray a secret; digits alone do not: a number may have them by chance."""
    parts = {secret[i : i + PART] for i in range(len(secret) - PART + 1)}
    return {secret} | {part for part in parts if not part.isdigit()}


def found_in(folder: Path, *outputs: str) -> set[str]:
    """Return the places of the secrets of which a part is in the buffer, in flowprov's log, in an output."""
    kept = [path for path in (folder / "flowprov_buffer").rglob("*") if path.is_file()]
    assert kept
    texts = [path.read_bytes().decode("utf-8", "replace") + str(path) for path in kept]
    texts += [(folder / "flowprov.log").read_text(), *outputs]
    planted = planted_in(folder)
    assert len(planted) > 3
    return {
        place
        for place, secret in planted.items()
        for text in texts
        if any(part in text for part in parts_of(secret))
    }


def assert_clean(folder: Path, *outputs: str) -> None:
    found = found_in(folder, *outputs)
    assert not found, sorted(found)


def printed(folder: Path) -> list[str]:
    """Return what the commands print of a buffer."""
    outputs: list[str] = []
    for arguments in (
        ["show", "flowprov_buffer"],
        ["verify", "flowprov_buffer"],
        ["verify", "--json", "flowprov_buffer"],
    ):
        with start_command(*arguments, cwd=folder) as process:
            outputs += process.communicate(timeout=120)
    return outputs


VALUES = """
    import dataclasses, collections
    P = plant

    class Hiding(str):
        def __repr__(self):
            return "***"

    @dataclasses.dataclass
    class Config:
        user: str
        inner: str = dataclasses.field(repr=False, default="")

    def connect(host, password, retries=3): ...
    class Client:
        def __init__(self, host, token): ...

    HeaderPair = collections.namedtuple("HeaderPair", "name value")

    @flowprov.task
    def step(value, **more):
        return {"echo": value}

    pem = "-----BEGIN PRIVATE KEY-----\\n" + P("pem") + "\\n" + P("pem2") + "\\n-----END PRIVATE KEY-----"
    values = {
        "key": {"password": P("key")},
        "key of bytes": {b"password": P("key of bytes")},
        "tuple as key": {("db", "password"): P("tuple as key")},
        "headers": [("Authorization", "Bearer " + P("headers")), ("Accept", "*/*")],
        "header lists": [["X-Api-Key", P("header lists")]],
        "headers of bytes": [(b"authorization", b"Bearer " + P("headers of bytes").encode())],
        "pair": ("password", P("pair")),
        "named pair": HeaderPair("Cookie", P("named pair")),
        "name and value": [{"name": "DB_PASSWORD", "value": P("name and value")}],
        "repr=False": Config("bob", P("repr=False")),
        "hiding str": Hiding(P("hiding str")),
        "partial": functools.partial(connect, "host", P("partial")),
        "partial of class": functools.partial(Client, "host", P("partial of class")),
        "partial keywords": functools.partial(connect, password=P("partial keywords")),
        "argv": ["prog", "--password", P("argv"), "--lr", "5"],
        "argv =": ["prog", "--api-key=" + P("argv =")],
        "command line": "mysql --password " + P("command line") + " -h x",
        "assignment": "host=h password=" + P("assignment") + " dbname=d",
        "json": '{"a": 1, "client_secret": "' + P("json") + '"}',
        "yaml": "user: bob\\npassword: " + P("yaml") + "\\n",
        "url": "postgres://bob:" + P("url") + "@host/db",
        "long url": "x" * 990 + " postgres://bob:" + P("long url") * 10 + "@host/db",
        "url at every cut": [
            "y" * lead + "redis://:" + P("url at cut") + "@h " + "z" * 99 for lead in range(970, 1000, 3)
        ],
        "token at every cut": [
            "y " * lead + P("token at cut", token("hf_", "cut", 34)) + " z" * 99
            for lead in range(470, 500, 2)
        ],
        "azure": "AccountName=a;AccountKey=" + P("azure") + "==;EndpointSuffix=core.windows.net",
        "sas": "https://a.blob.core.windows.net/c?sv=1&sig=" + P("sas") + "%3D",
        "cookie": "Cookie: id=" + P("cookie") + "; other=" + P("cookie 2"),
        "pem": pem,
        "cut pem": pem[:60] + "…",
        "exception": ValueError("cannot log in with password='" + P("exception") + "'"),
        "github": P("github", token("ghp_", "github", 36)),
        "set": {P("set", token("glpat-", "set", 20))},
        "slack": "see https://hooks.slack.com/services/T0/B0/" + P("slack"),
        "bearer": "Bearer " + P("bearer"),
        "aws": ["AKIAIOSFODNN7EXAMPLE", P("aws", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")],
        "wandb": {"wandb": P("wandb", hashlib.sha1(b"wandb").hexdigest())},
        "otp": {"otp": P("otp"), "license_key": P("license_key"), "conn_str": P("conn_str"), "pin": P("pin")},
        "deep": [[{"a": {"b": [{"secret": P("deep")}]}}]],
    }
    with flowprov.workflow("W", used=values, custom_metadata=values) as run:
        for name, value in values.items():
            step(value, **{name: value})
            step(name, x=value)
            with flowprov.task_scope("s", used={"v": value}, custom_metadata={"v": value}) as scope:
                scope.set_generated(out=value)
                scope.custom_metadata["late"] = value
        loop = flowprov.Loop(list(values.values()), name="values")
        for value in loop:
            loop.end_iter({"seen": value})
        for number in flowprov.Loop([int(P("pin of a loop", "4711081512"))], item_name="pin"):
            pass
"""

NAMES = """
    P = plant
    def url(place):
        return "https://bob:" + P(place) + "@host/x"

    tags = [url("tag"), {"password": P("tag mapping")}]

    @flowprov.task(activity_id=url("activity"), subtype=url("subtype"), tags=tags)
    def step(x):
        return x

    def in_thread():
        with flowprov.workflow("in thread"):
            step(1)
            for _ in flowprov.Loop([1], name=url("loop in thread")):
                pass

    with flowprov.campaign(url("campaign")):
        ids = {"workflow_id": url("workflow id"), "subtype": url("workflow subtype")}
        with flowprov.workflow(url("workflow"), **ids):
            flowprov.current_workflow().add_tags(url("late tag"), "password=" + P("tag"))
            step(1)
            tag = P("scope tag", token("ghp_", "scope tag", 36))
            with flowprov.task_scope(url("scope"), tags=[tag]):
                flowprov.current_task().add_tags(url("scope late tag"))
            for _ in flowprov.Loop([1, 2.5, "x"], name=url("loop"), item_name=url("item")):
                pass
            for _ in flowprov.EpochLoop([1]):
                for _ in flowprov.BatchLoop([1], step=url("batch")):
                    pass
            thread = threading.Thread(target=in_thread, name=url("thread"))
            thread.start(); thread.join()
            long = flowprov.task_scope("n" * 990 + url("long name"))
            with long:
                pass
"""

FAILURES = """
    P = plant
    @flowprov.task
    def connect(host, password, *, token=None):
        raise ConnectionError("no " + host)

    @flowprov.task
    def fail(error):
        raise error

    def attempt(function, *args, **kwargs):
        try:
            function(*args, **kwargs)
        except Exception:
            pass

    def in_scope(scope, message):
        with scope:
            raise ValueError(message)

    # What a program has in its source is planted there.
    source = "def login(connect):\\n    connect('db', password=%r, token=%r)\\n"
    source += "def login2(db):\\n    db.set_password('root', %r)\\n"
    source += "def login3(headers):\\n    headers.refuse('Authorization', %r)\\n"
    with open("login.py", "w") as file:
        places = ("source line", "source line token", "source positional", "source header")
        file.write(source % tuple(map(P, places)))
    sys.path.insert(0, os.getcwd())
    import login

    class Api:
        def set_password(self, *_):
            raise RuntimeError("refused")

    with flowprov.workflow("W"):
        attempt(connect, "host", P("argument"))
        attempt(connect, "host", P("too many"), P("too many 2"), "x")
        attempt(connect, P("too few"))
        attempt(connect, "host", pasword=1, secret=P("unknown keyword"))
        attempt(fail, ValueError("password='" + P("message") + "'"))
        attempt(fail, ValueError("x" * 1990 + " redis://:" + P("cut message") + "@host"))
        for lead in range(1960, 2000, 3):
            attempt(fail, ValueError("x" * lead + " token=" + P("halved message")))
            lines = "\\n".join(["y" * 50] * 150) + "y" * lead
            attempt(fail, ValueError(lines + "redis://:" + P("halved traceback") + "@h " + "z" * 6000))
        attempt(fail, ValueError("password='" + P("quoted") + " " + P("second word") + "' for bob"))
        attempt(fail, ValueError({"headers": {"Authorization": "Bearer " + P("repr")}}))
        attempt(fail, ValueError([("Cookie", P("pair in repr"))]))
        attempt(fail, ValueError("Command '['curl', '--password', '" + P("argv in repr") + "']' returned 1"))
        attempt(fail, RuntimeError(P("token in message", token("sk-ant-api03-", "message", 60))))
        attempt(fail, OSError(2, "no file", "https://" + P("user of http") + "@host/x"))
        try:
            try:
                fail(ValueError("secret=" + P("cause")))
            except ValueError as error:
                error.__notes__ = ["api_key: " + P("note")]
                raise RuntimeError("outer") from error
        except RuntimeError as error:
            attempt(fail, error)
        attempt(flowprov.task(login.login), lambda *a, **k: connect(*a, **k))
        attempt(flowprov.task(login.login2), Api())
        attempt(flowprov.task(login.login3), Api())
        for _ in flowprov.Loop([1]):
            attempt(fail, ValueError("pwd=" + P("in loop")))
        attempt(in_scope, flowprov.task_scope("s"), "passphrase: " + P("scope error"))
        attempt(in_scope, flowprov.workflow("inner"), "DB_PASS=" + P("workflow error"))
"""

DASK = """
    from dask.distributed import Client, LocalCluster
    P = plant

    def work(config, password):
        return {"api_key": password}

    def fail(password):
        raise ValueError("password='" + password + "'")

    if __name__ == "__main__":
        cluster = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False)
        with cluster, Client(cluster) as client:
            with flowprov.workflow("D", dask_client=client):
                key = "https://u:" + P("dask key") + "@h"
                client.submit(work, {"token": P("dask value")}, P("dask argument"), key=key).result()
                client.submit(work, {"token": P("dask keyword")}, password=P("dask keyword 2")).result()
                failing = client.submit(fail, P("dask error"))
                assert failing.exception() is not None
                client.submit(work, [("Authorization", P("dask pair"))], 1).result()
"""

TORCH = """
    import torch
    P = plant

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)
        def extra_repr(self):
            api_key = P("module repr key")
            return "endpoint='https://bob:" + P("module repr") + "@host', api_key='" + api_key + "'"
        def forward(self, x, password=None, headers=None):
            if password == "bad":
                raise RuntimeError("token=" + P("forward error"))
            return {"out": self.linear(x), "secret": P("module output")}

    name = "https://bob:" + P("model name") + "@host"
    net = flowprov.torch_capture(Net(), name=name, what="parent_and_children", get_profile=True)
    with flowprov.workflow("T"):
        net(torch.ones(1, 2), P("module input"), headers=[("Authorization", P("module pair"))])
        try:
            net(torch.ones(1, 2), "bad")
        except RuntimeError:
            pass
"""

DETAILS = {
    "default": {},
    "exact telemetry": {
        "FLOWPROV__TELEMETRY_CAPTURE__CPU": "true",
        "FLOWPROV__TELEMETRY_CAPTURE__MODE": "exact",
    },
    "tensor statistics": {"FLOWPROV__INSTRUMENTATION__TORCH__TENSOR_STATISTICS": "true"},
}


@pytest.mark.parametrize("detail", DETAILS)
@pytest.mark.parametrize("program", [VALUES, NAMES, FAILURES], ids=["values", "names", "failures"])
def test_no_secret_of_a_program_reaches_the_disk(tmp_path: Path, program: str, detail: str) -> None:
    _, stderr = run(program_of(program), tmp_path, env=DETAILS[detail])
    assert_clean(tmp_path, stderr, *printed(tmp_path))


@pytest.mark.parametrize("detail", ["default", "tensor statistics"])
def test_no_secret_of_a_model_reaches_the_disk(tmp_path: Path, detail: str) -> None:
    pytest.importorskip("torch")
    _, stderr = run(program_of(TORCH), tmp_path, env=DETAILS[detail])
    assert_clean(tmp_path, stderr, *printed(tmp_path))


def test_no_secret_of_a_dask_task_reaches_the_disk(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    run(program_of(DASK), tmp_path)
    # The log of this program has what Dask itself says of the failing task.
    (tmp_path / "flowprov.log").write_text("")
    assert_clean(tmp_path, *printed(tmp_path))


def test_no_secret_of_a_crashed_program_reaches_the_disk(tmp_path: Path) -> None:
    program = """
        P = plant
        @flowprov.task
        def outer(password):
            inner("redis://:" + password + "@host", password)

        @flowprov.task
        def inner(url, password):
            raise SystemError("cannot reach " + url + " with password=" + password)

        with flowprov.workflow("https://u:" + P("name") + "@h", used={"pwd": P("used"), "pin": P("pin")}):
            outer(P("crash"))
    """
    run(program_of(program), tmp_path, status=1)
    assert_clean(tmp_path, *printed(tmp_path))


def test_no_secret_of_a_killed_program_reaches_the_disk(tmp_path: Path) -> None:
    program = """
        import signal
        P = plant
        with flowprov.workflow("W", used={"password": P("used")}):
            used = {"x": "token=" + P("value")}
            with flowprov.task_scope("https://u:" + P("open scope") + "@h", used=used) as scope:
                scope.set_generated(y="secret=" + P("generated"))
                os.kill(os.getpid(), signal.SIGKILL)
    """
    run(program_of(program), tmp_path, status=-9)
    assert_clean(tmp_path, *printed(tmp_path))


def test_no_secret_is_delivered_to_a_sink(tmp_path: Path, own_redis: RedisServer) -> None:
    run(program_of(VALUES), tmp_path)
    uri = f"redis://127.0.0.1:{own_redis.port}"
    with start_command("ship", "flowprov_buffer", "--to", uri, cwd=tmp_path) as process:
        outputs = process.communicate(timeout=120)
    assert process.returncode == 0, outputs
    redis = pytest.importorskip("redis")
    with redis.Redis(port=own_redis.port) as client:
        delivered = "".join(
            str(client.xrange(key)) for key in client.scan_iter() if client.type(key) == b"stream"
        )
    assert len(delivered) > 1_000
    assert_clean(tmp_path, delivered, *outputs)


def test_no_secret_of_an_internal_error_is_logged(tmp_path: Path) -> None:
    program = """
        P = plant
        from flowprov import guard
        for place in ("log", "log 2", "log 3", "log 4"):
            try:
                raise ValueError("password='" + P(place) + "'")
            except ValueError as error:
                guard.report_internal_error("testing " + place, error)
        with flowprov.workflow("W"):
            pass
    """
    run(program_of(program), tmp_path)
    assert "a fault of its own" in (tmp_path / "flowprov.log").read_text()
    assert_clean(tmp_path)


def test_what_is_planted_would_be_found(tmp_path: Path) -> None:
    program = program_of(VALUES, NAMES, FAILURES)
    run(program, tmp_path, env={"FLOWPROV__PRIVACY__REDACT": "false"})
    found = found_in(tmp_path)
    # Some secrets are concealed whatever the settings say, some places keep nothing of a value.
    assert len(found) > 0.7 * len(planted_in(tmp_path)), sorted(set(planted_in(tmp_path)) - found)
