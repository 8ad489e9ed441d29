"""What all launchers share: an instance's environment and its log's end."""

import json

from inferoxy.messages import InstanceConfig
from task_manager.launchers.base import TAIL_LINE_LENGTH, LaunchRequest, environment_of, readable_tail
from tests.unit.running import spec


def request(threads: int = 2, **environment: str) -> LaunchRequest:
    config = InstanceConfig(instance="i", model="scale", model_version="1", backend="ipc:///x", threads=threads)
    return LaunchRequest(config, spec(environment=environment), "digest")


def test_numeric_libraries_are_given_the_instances_threads() -> None:
    made = environment_of(request(threads=3), request(threads=3).config)
    assert made["OMP_NUM_THREADS"] == made["OPENBLAS_NUM_THREADS"] == made["MKL_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in environment_of(request(threads=0), request(threads=0).config)


def test_a_models_own_variables_win_but_for_what_the_instance_is() -> None:
    asked = request(OMP_NUM_THREADS="7", MINE="yes", INFEROXY_INSTANCE="{}")
    made = environment_of(asked, asked.config)
    assert (made["OMP_NUM_THREADS"], made["MINE"]) == ("7", "yes")
    assert json.loads(made["INFEROXY_INSTANCE"])["instance"] == "i"


def test_structured_events_become_plain_text_with_their_traceback() -> None:
    event = {
        "event": "the model cannot be loaded",
        "level": "error",
        "timestamp": "2024-01-01T00:00:00Z",
        "path": "/app",
        "exception": "Traceback (most recent call last):\n  File …\nValueError: broken",
    }
    text = "warming up\n" + json.dumps(event) + "\n"
    assert readable_tail(text) == [
        "warming up",
        "the model cannot be loaded path=/app",
        "Traceback (most recent call last):",
        "  File …",
        "ValueError: broken",
    ]


def test_only_the_last_lines_are_kept_and_empty_ones_do_not_count() -> None:
    text = "\n\n".join(f"line {n}" for n in range(30)) + "\n\n"
    assert readable_tail(text, 3) == ["line 27", "line 28", "line 29"]


def test_an_endless_line_is_cut() -> None:
    (line,) = readable_tail("x" * 10_000)
    assert len(line) == TAIL_LINE_LENGTH
    assert line.endswith("…")


def test_a_line_that_only_looks_structured_stays_as_it_is() -> None:
    assert readable_tail('{"a": 1}\n{broken\n') == ['{"a": 1}', "{broken"]
