"""Jobs, who runs them, and whole studies: kept results, backends, plans."""

from __future__ import annotations

import dataclasses
import pickle
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from two_networks import STUDY, mlp

torch = pytest.importorskip("torch")
joblib = pytest.importorskip("joblib")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import noisycells as nc  # noqa: E402
from noisycells.studies import isik_figures  # noqa: E402
from noisycells.studies.engine import study as engine  # noqa: E402
from noisycells.studies.engine import training  # noqa: E402
from noisycells.studies.engine.cache import Cache  # noqa: E402
from noisycells.studies.engine.jobs import Job, Workers, job, run  # noqa: E402
from noisycells.studies.engine.recipes import (  # noqa: E402
    Source,
)
from noisycells.studies.engine.study import Settings  # noqa: E402

calls: list[int] = []  # arguments of all calls of square
refused: set[int] = set()  # those that it refuses


@job
def square(number: int) -> dict[str, int]:
    calls.append(number)
    if number in refused:
        raise KeyboardInterrupt
    return {"square": number**2}


@job
def threads() -> list[int]:
    return [torch.get_num_threads(), nc.get_num_threads()]


@job
def nothing() -> None:
    pass


@pytest.fixture
def counted() -> list[int]:
    """Arguments of all calls of ``square``."""
    calls.clear()
    refused.clear()
    return calls


def squares(*numbers: int) -> list[Job]:
    return [Job(square, {"number": number}) for number in numbers]


def test_results_by_key(tmp_path: Path, cache: Cache, counted: list[int]) -> None:
    jobs = squares(2, 5, 2)
    steps = []
    results = run(jobs, tmp_path / "jobs", cache, lambda: steps.append(1))
    assert results == {jobs[0].key: {"square": 4}, jobs[1].key: {"square": 25}}
    assert sorted(counted) == [2, 5] and len(steps) == 2
    written = {file.stem for file in (tmp_path / "jobs").iterdir()}
    assert written == set(results)


def test_interrupted_run_goes_on(tmp_path: Path, cache: Cache, counted: list[int]) -> None:
    jobs = squares(1, 2, 3, 4)
    refused.add(3)
    with pytest.raises(KeyboardInterrupt):
        run(jobs, tmp_path, cache)
    assert counted == [1, 2, 3]
    assert {file.stem for file in tmp_path.glob("*.json")} == {job.key for job in jobs[:2]}
    refused.clear()
    results = run(jobs, tmp_path, cache)
    assert counted == [1, 2, 3, 3, 4]
    assert [results[job.key]["square"] for job in jobs] == [1, 4, 9, 16]
    again = run(jobs, tmp_path, cache)
    assert again == results and len(counted) == 5


def test_damaged_result_is_named(tmp_path: Path, cache: Cache, counted: list[int]) -> None:
    (job,) = squares(2)
    (tmp_path / f"{job.key}.json").write_text("{")
    with pytest.raises(ValueError, match=f"{job.key}.json: expected the result of a job"):
        run([job], tmp_path, cache)
    assert not counted


def test_keys_tell_jobs_apart(source: Source) -> None:
    recipe = mlp(source)
    jobs = [
        Job(nothing, {}, recipe),
        Job(nothing, {"a": 1}, recipe),
        Job(square, {}, recipe),
        Job(nothing, {}, mlp(source, seed=1)),
        Job(nothing, {}),
    ]
    assert len({job.key for job in jobs}) == len(jobs)
    assert dataclasses.replace(jobs[0], passes=9).key == jobs[0].key


def test_only_registered_functions_are_jobs() -> None:
    """What is not at the top of a module, no worker would find."""
    with pytest.raises(ValueError, match="function: expected one registered as a job, got <built"):
        Job(len)
    with pytest.raises(ValueError, match=r"job: expected a function at the top .*<locals>"):
        job(lambda: None)
    script = types.FunctionType((lambda: None).__code__, {"__name__": "__main__"}, "measure")
    script.__qualname__ = "measure"
    with pytest.raises(ValueError, match=r"job: expected .* imported module, got __main__:measure"):
        job(script)
    assert job(square) is square and Job(square).name == f"{__name__}:square"


def test_a_new_process_finds_the_function(tmp_path: Path) -> None:
    """One that has imported nothing but what unpickles the job."""
    file = tmp_path / "job"
    file.write_bytes(pickle.dumps((Job(isik_figures.response, small_response(7)), Cache(tmp_path))))
    code = "import pickle, sys; job, cache = pickle.load(open(sys.argv[1], 'rb'));"
    code += "print(job.name, job.key, job(cache)['mean'][0])"
    done = subprocess.run(
        [sys.executable, "-c", code, file], capture_output=True, text=True, check=True
    )
    same = Job(isik_figures.response, small_response(7))
    expected = isik_figures.response(**small_response(7))["mean"][0]
    assert done.stdout.split() == [
        "noisycells.studies.isik_figures:response",
        same.key,
        str(expected),
    ]


def test_jobs_have_one_thread(cache: Cache, thread_setting: None) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    nc.set_num_threads(2)
    try:
        assert Job(threads)(cache) == [1, 1]
        assert [torch.get_num_threads(), nc.get_num_threads()] == [2, 2]
    finally:
        torch.set_num_threads(before)


def test_error_of_a_worker_is_the_error(tmp_path: Path, cache: Cache) -> None:
    good = Job(isik_figures.response, small_response(7))
    bad = Job(isik_figures.response, {**small_response(7), "points": -1})
    with Workers("loky", 2)(), pytest.raises(ValueError, match="-1"):
        run([good, bad], tmp_path, cache)
    run([good], tmp_path, cache)
    assert (tmp_path / f"{good.key}.json").exists()


def small_response(seed: int) -> dict[str, Any]:
    channel = nc.devices.pcm_array().to_dict()
    return {"channel": channel, "points": 5, "draws": 10, "seed": seed}


def test_unknown_backend_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"backend: .*abacus"), Workers("abacus", 2)():
        pass


def test_ray_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's backend is one of joblib's after a call of ``ray.util.joblib.register_ray``."""
    from joblib._parallel_backends import ThreadingBackend

    module = types.ModuleType("ray.util.joblib")
    module.register_ray = lambda: joblib.register_parallel_backend("ray", ThreadingBackend)  # type: ignore[attr-defined]
    for name in ("ray", "ray.util"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "ray.util.joblib", module)
    try:
        with Workers("ray", 2)():
            assert isinstance(joblib.parallel.get_active_backend()[0], ThreadingBackend)
    finally:
        joblib.parallel.BACKENDS.pop("ray", None)


def test_loky_gives_the_same_report(
    settings: Settings, alone: dict[str, Any], tmp_path: Path
) -> None:
    steps: list[str] = []

    @engine.contextmanager
    def progress(label: str, length: int) -> Iterator[Callable[[], None]]:
        done: list[None] = []
        yield lambda: done.append(None)
        steps.append(f"{label} {len(done)} of {length}")

    workers = Workers("loky", 2)
    cache = Cache(tmp_path / "cache")
    assert engine.run_study(STUDY, settings, tmp_path, cache, workers, progress) == alone
    assert steps == ["train 4 of 4", "evaluate 8 of 8"]


@pytest.mark.filterwarnings("ignore")
def test_dask_gives_the_same_report(
    settings: Settings, alone: dict[str, Any], tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    cache = Cache(tmp_path / "cache")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        workers = Workers("dask", 2, cluster.scheduler_address)
        assert engine.run_study(STUDY, settings, tmp_path, cache, workers) == alone


@pytest.mark.parametrize("streaming", [True, False])
def test_any_registered_backend_gives_the_same_report(
    settings: Settings, alone: dict[str, Any], tmp_path: Path, streaming: bool
) -> None:
    """Also one that gives results only when all are there, and jobs in threads of one process."""
    from joblib._parallel_backends import ThreadingBackend

    class Own(ThreadingBackend):
        supports_return_generator = streaming

    joblib.register_parallel_backend("own", Own)
    try:
        cache = Cache(tmp_path / "cache")
        assert engine.run_study(STUDY, settings, tmp_path, cache, Workers("own", 2)) == alone
    finally:
        joblib.parallel.BACKENDS.pop("own")


def test_finished_study_needs_no_networks(
    settings: Settings, alone: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    engine.run_study(STUDY, settings, tmp_path, cache)
    for file in cache.directory.iterdir():
        file.unlink()
    monkeypatch.setattr(training, "_train", None)
    assert engine.run_study(STUDY, settings, tmp_path, cache) == alone


def test_no_training_where_results_cannot_be_kept(
    settings: Settings, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").write_text("a file")
    monkeypatch.setattr(training, "_train", None)
    other = dataclasses.replace(settings, seed=77)
    with pytest.raises(OSError, match="out"):
        engine.run_study(STUDY, other, tmp_path / "out", cache)


def test_networks_are_shared_between_studies(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    engine.run_study(STUDY, settings, tmp_path / "one", cache)
    monkeypatch.setattr(training, "_train", None)
    other = dataclasses.replace(settings, repeats=3)
    report = engine.run_study(STUDY, other, tmp_path / "two", cache)
    assert len(report["tables"][0]["entries"][0]["runs"][0]) == 3


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from noisycells.cli import main
main(sys.argv[2:], prog_name="noisycells")
"""


def test_a_full_disk_is_one_line_and_the_study_goes_on(tmp_path: Path) -> None:
    """Files that may not grow fail as on a full disk: first a checkpoint, then a figure."""
    tiny = ("--epochs", "1", "--subset", "100", "--test-subset", "50", "--quick")
    options = (*tiny, "--cache", tmp_path / "cache", "-o", tmp_path / "out")
    stopped = []
    for name, limit in (("isik-fig3", 20_000), ("isik-fig1", 20_000), ("isik-fig1", 10**9)):
        command = [sys.executable, "-c", LIMITED, str(limit), "study", name, *map(str, options)]
        command += ["--model", "MLP"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        stopped.append((done.returncode, done.stderr))
    (code, message), (second_code, second), (last_code, last) = stopped
    assert code == second_code == 2
    assert re.fullmatch(r"noisycells: .* too large: '.*cache/\w+\.checkpoint'\n", message), message
    assert re.fullmatch(r"noisycells: .* too large: '.*isik-fig1.*\.png'\n", second), second
    assert last_code == 0 and "Wrote isik-fig1" in last
    assert not list((tmp_path / "cache").iterdir())


def test_plan_trains_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    monkeypatch.setattr(training, "_train", None)
    found = engine.plan(STUDY, settings, tmp_path, cache)
    assert (len(found.networks), found.jobs, found.done) == (4, 4, 0)
    assert all(hours > 0 for _, hours in found.networks) and found.hours > 0
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    engine.run_study(STUDY, settings, tmp_path, cache)
    after = engine.plan(STUDY, settings, tmp_path, cache)
    assert (after.networks, after.jobs, after.done, after.hours) == ([], 0, 4, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, r"seeds: expected an int in \[1, \d+\], got 0"),
        ({"repeats": 1}, r"repeats: expected an int in \[2, \d+\], got 1"),
        ({"model": "VGG"}, "model: expected one of 'LeNet', .* got 'VGG'"),
        ({"seed": -1}, "seed: expected"),
    ],
)
def test_settings_are_checked(settings: Settings, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(settings, **change)
