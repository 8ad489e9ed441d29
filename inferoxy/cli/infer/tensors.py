"""`inferoxy infer MODEL --inputs FILE.npz`: one request of tensors."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from inferoxy.cli.infer.inputs import shown
from inferoxy.cli.infer.model import find_model
from inferoxy.cli.infer.results import STDOUT, json_line
from inferoxy.cli.infer.targets import check_is_file_name, check_parent
from inferoxy.client import Client, InferResult
from inferoxy.errors import InferoxyError, InvalidRequest
from inferoxy.tensors import BYTES, Array, datatype_of

if TYPE_CHECKING:
    from collections.abc import Mapping

SUFFIX = ".npz"
VALUES_SHOWN = 8


class Job:
    """Everything that a command line asks for.

    Args:
        model: Its name.
        version: Empty: the default one.
        inputs_file: An array for each input, under its name.
        output_file: For an array for each output; None: not wanted.
        json_file: For a JSON line for each answer; "-": standard output; None: not wanted.
        parameters: For the model.
        in_sequence: Whether the request is a sequence; None: if the model is stateful.
        is_quiet: Whether to print nothing.

    Raises:
        InvalidRequest: A file cannot be read, or its name is wrong.
    """

    def __init__(
        self,
        model: str,
        version: str,
        inputs_file: Path,
        output_file: Path | None,
        json_file: str | None,
        parameters: dict[str, Any],
        in_sequence: bool | None,
        is_quiet: bool,
    ) -> None:
        self._model = model
        self._version = version
        self._inputs_file = inputs_file
        self._output_file = output_file
        self._json_file = json_file
        self._parameters = parameters
        self._in_sequence = in_sequence
        self._is_quiet = is_quiet
        check_is_file_name("--json", json_file)
        self._inputs = read_tensors(inputs_file)
        if output_file is not None:
            if output_file.suffix != SUFFIX:
                raise InvalidRequest(f"--output: expected a name ending in {SUFFIX}, found {shown(output_file)}")
            check_parent("--output", output_file)
        if json_file not in (None, STDOUT):
            check_parent("--json", Path(str(json_file)))

    def run(self, client: Client) -> int:
        """Ask, and show or write what comes; the exit code.

        Raises:
            InferoxyError: What happened instead.
        """
        info = find_model(client, self._model, self._version)
        if self._in_sequence or (self._in_sequence is None and info.stateless is False):
            with client.sequence(self._model, version=self._version) as sequence:
                result = sequence.infer(self._inputs, parameters=self._parameters)
        else:
            result = client.infer(self._model, self._inputs, parameters=self._parameters, version=self._version)
        if self._output_file is not None:
            write_tensors(self._output_file, result)
        if self._json_file is not None:
            self._write_json(self._json_file, result)
        elif not self._is_quiet:
            self._print(result)
        return 0

    def _write_json(self, file: str, result: InferResult) -> None:
        text = "".join(json_line(self._record(part)) for part in result.parts or (result,))
        if file == STDOUT:
            print(text, end="")
            return
        try:
            Path(file).write_text(text, "utf-8")
        except OSError as exc:
            raise _unwritable(file, exc) from exc

    def _record(self, result: InferResult) -> dict[str, Any]:
        served = result.served
        return {
            "path": shown(self._inputs_file),
            "model": result.model,
            "version": result.version,
            "request_id": result.request_id,
            "served": {name: getattr(served, name) for name in served.__dataclass_fields__},
            "parameters": result.parameters,
            "outputs": {
                name: {"datatype": datatype_of(array), "shape": list(array.shape), "data": _values(array).tolist()}
                for name, array in result.items()
            },
        }

    def _print(self, result: InferResult) -> None:
        from rich.markup import escape
        from rich.table import Table

        from inferoxy.cli.show import console_of_output

        console = console_of_output()
        table = Table("output", "datatype", "shape", "values")
        for name, array in result.items():
            flat = [str(value) for value in _values(array).ravel()[:VALUES_SHOWN].tolist()]
            more = " …" if array.size > VALUES_SHOWN else ""
            table.add_row(escape(name), datatype_of(array), str(list(array.shape)), escape(" ".join(flat) + more))
        console.print(table)
        served = result.served
        console.print(
            f"[dim]{escape(result.model)} version {escape(result.version)}: queue {served.queue_ms:.1f} ms, "
            f"compute {served.compute_ms:.1f} ms, batch of {served.batch_size} ({served.closed})[/]",
            soft_wrap=True,
        )
        if self._output_file is not None:
            console.print(f"saved: {escape(shown(self._output_file))}", soft_wrap=True)


def read_tensors(file: Path) -> dict[str, Array]:
    """The arrays of an .npz file by name.

    Raises:
        InvalidRequest: It cannot be read, is none, or holds Python objects.
    """
    try:
        loaded = np.load(file, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise InvalidRequest(
                f"--inputs: expected an .npz file, an array for each input, found one array in {shown(file)}"
            )
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as exc:
        raise InvalidRequest(f"--inputs: {shown(file)}: {(exc.strerror or str(exc)).lower()}") from exc
    except (ValueError, BadZipFile, EOFError) as exc:
        why = "it holds Python objects" if "pickle" in str(exc) and "PK" in str(exc) else str(exc)
        raise InvalidRequest(f"--inputs: {shown(file)}: expected an .npz file of numbers and texts: {why}") from exc


def write_tensors(file: Path, arrays: "Mapping[str, Array]") -> None:
    """Write arrays into an .npz file, whole or not at all; BYTES become numpy's fixed-width bytes.

    Raises:
        InferoxyError: It cannot be written.
    """
    kept = {name: _fixed(name, array) for name, array in arrays.items()}
    part = file.with_name(f".{file.stem}.part{SUFFIX}")
    try:
        with part.open("wb") as target:
            np.savez(target, allow_pickle=False, **kept)
        os.replace(part, file)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise _unwritable(file, exc) from exc


def _fixed(name: str, array: Array) -> Array:
    if datatype_of(array) != BYTES:
        return array
    if any(bytes(item).endswith(b"\0") for item in array.ravel().tolist()):
        raise InferoxyError(f"output {name!r} has elements that end in NUL, which an .npz file cannot hold; use --json")
    return array.astype(np.bytes_)


def _values(array: Array) -> Array:
    """The same with texts for bytes."""
    if datatype_of(array) != BYTES:
        return array
    texts = np.empty(array.size, object)
    texts[:] = [bytes(item).decode("utf-8", "backslashreplace") for item in array.ravel().tolist()]
    return texts.reshape(array.shape)


def _unwritable(file: str | Path, exc: OSError) -> InferoxyError:
    return InferoxyError(f"{shown(file)}: cannot be written: {(exc.strerror or str(exc)).lower()}")
