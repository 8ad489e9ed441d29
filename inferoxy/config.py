"""Settings of every component: flag > INFEROXY_* environment > file > default.

One class holds them all, so that one file configures a whole stack and each component reads what concerns it.
Nested keys are joined by two underscores in the environment: INFEROXY_DOCKER__NETWORK.
Invariant: after `load` every path is absolute and every endpoint is complete.
"""

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from inferoxy.arena import arena_root
from inferoxy.errors import ConfigError
from inferoxy.sockets import runtime_dir

# Names that the first Inferoxy's .env files use.
ALIASES = {
    "LOGGING_LEVEL": "INFEROXY_LOG_LEVEL",
    "TASK_MANAGER_DOCKER_CONFIG_NETWORK": "INFEROXY_DOCKER__NETWORK",
    "TASK_MANAGER_DOCKER_CONFIG_ADDRESS": "INFEROXY_DOCKER__REGISTRY",
    "TASK_MANAGER_DOCKER_CONFIG_LOGIN": "INFEROXY_DOCKER__LOGIN",
    "TASK_MANAGER_DOCKER_CONFIG_PASSWORD": "INFEROXY_DOCKER__PASSWORD",
    "MODEL_STORAGE_DATABASE_HOST": "INFEROXY_REDIS__HOST",
    "MODEL_STORAGE_DATABASE_PORT": "INFEROXY_REDIS__PORT",
    "MODEL_STORAGE_DATABASE_NUMBER": "INFEROXY_REDIS__DATABASE",
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class DockerSettings(_Section):
    """The Docker launcher."""

    base_url: str = ""
    """Engine address, such as unix:///var/run/docker.sock; empty: as the docker command finds it."""
    network: str = "none"
    """Network mode of model containers; they need none."""
    registry: str = ""
    """Private registry to log in to."""
    login: str = ""
    """Registry user."""
    password: str = Field(default="", repr=False)
    """Registry password."""
    runtime_image: str = "inferoxy/model:latest"
    """Image that serves models given as an artifact instead of an address."""
    pull: Literal["always", "missing", "never"] = "missing"
    """When to pull a model's image."""
    user: str = "10001:10001"
    """User and group that model containers run as."""
    pids_limit: int = 512
    """Processes and threads a model container may have."""
    stop_grace_s: float = 10.0
    """Seconds between asking a container to end and killing it."""


class RedisSettings(_Section):
    """The Redis registry store."""

    host: str = ""
    """Redis host; empty: the registry lies in SQLite."""
    port: int = 6379
    """Redis port."""
    database: int = 0
    """Redis database number."""


class LimitSettings(_Section):
    """What is accepted from clients."""

    body_mib: float = 64.0
    """Largest request body, in MiB."""
    picture_pixels: int = 50_000_000
    """Most pixels a picture may declare."""
    picture_side: int = 20_000
    """Longest side a picture may declare, in pixels."""
    pictures_per_request: int = 64
    """Most pictures in one predict call."""
    header_timeout_s: float = 10.0
    """Seconds a connection may take to send a request's headers."""
    body_timeout_s: float = 60.0
    """Seconds a connection may take to send a request's body."""


class V2Settings(_Section):
    """What clients of the Open Inference Protocol may do beyond asking models."""

    repository: bool = True
    """Whether they may load and unload models."""
    shared_memory: bool | None = None
    """Whether they may name system shared memory that tensors lie in; unset: where the bridge listens on loopback."""


class CurveSettings(_Section):
    """Encryption of the ZeroMQ bridge."""

    secret_key: Path | None = None
    """File with the bridge's secret key, as `inferoxy keys` makes it; empty: nothing is encrypted."""
    clients: Path | None = None
    """File with the public keys of the clients that may connect, one a line; empty: all that know the bridge's key."""


class Settings(BaseSettings):
    """All settings of a stack."""

    model_config = SettingsConfigDict(
        env_prefix="INFEROXY_",
        env_nested_delimiter="__",
        extra="forbid",
        use_attribute_docstrings=True,
    )

    models: Path | None = None
    """The models.yaml to serve."""
    data_dir: Path = Path(".inferoxy")
    """Registry, logs and run-time files of this stack."""
    launcher: Literal["process", "docker"] = "process"
    """How instances are started."""
    rest: str = "127.0.0.1:8698"
    """HOST:PORT of the REST bridge; empty: not started."""
    grpc: str = "127.0.0.1:50051"
    """HOST:PORT of the gRPC bridge; empty: not started."""
    zmq: str = "tcp://127.0.0.1:7789"
    """Endpoint of the ZeroMQ bridge; empty: not started."""
    admin: str = "127.0.0.1:8000"
    """HOST:PORT of the admin API; empty: not started."""
    legacy_requests: str = ""
    """Endpoint for the first Inferoxy's ZeroMQ clients, such as tcp://127.0.0.1:7787; empty: not started."""
    legacy_results: str = ""
    """Endpoint for the answers to them, such as tcp://127.0.0.1:7788."""

    frontend: str = ""
    """Socket between bridges and batch manager; empty: a unix socket in the data directory."""
    backend: str = ""
    """Socket between batch manager and instances; empty: a unix socket in the data directory."""
    control: str = ""
    """Socket between batch manager and task manager; empty: a unix socket in the data directory."""
    registry: str = ""
    """Socket of the model manager; empty: a unix socket in the data directory."""
    secret: str = Field(default="", repr=False)
    """Shared by batch manager and task manager to prove which instance may serve which model; empty: made at start."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """auto: console on a terminal, JSON elsewhere."""
    drain_s: float = 10.0
    """Seconds that in-flight requests get when a component is told to end."""
    gpus: list[str] = []
    """GPUs by index or UUID; empty: found by NVML where there is one."""
    gpu_memory_mib: int = 0
    """Memory of each declared GPU, in MiB; 0: unknown, not checked."""
    arena_mib: int = 1024
    """Most shared memory that each bridge takes for large tensors, in MiB; 0: none, tensors travel in frames."""
    arena_dir: Path | None = None
    """Folder of shared-memory segments; empty: under /dev/shm, or in the data directory where there is none."""
    instance_lost_s: float = 5.0
    """Silence after which an instance counts as lost."""
    cpu_slots: int = Field(default=0, ge=0)
    """Batches that may run on the CPU at a time, whatever their models; 0: one for each core."""
    gpu_slots: int = Field(default=2, ge=1)
    """The same for each GPU. Two: while one batch computes, the other is copied or post-processed."""
    telemetry: Path | None = None
    """File that what happens to requests is written to, as JSON lines; empty: not written."""
    telemetry_mib: float = Field(default=64.0, gt=0)
    """Size at which that file is put aside as FILE.1, replacing an older one, and begun anew, in MiB."""

    docker: DockerSettings = DockerSettings()
    redis: RedisSettings = RedisSettings()
    limits: LimitSettings = LimitSettings()
    v2: V2Settings = V2Settings()
    curve: CurveSettings = CurveSettings()

    @field_validator("rest", "grpc", "admin")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("zmq", "legacy_requests", "legacy_results", "frontend", "backend", "control", "registry")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if value and not value.startswith(("tcp://", "ipc://")):
            raise ValueError("expected tcp://HOST:PORT or ipc://PATH")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags first, then the environment; the file comes in through `load`."""
        return init_settings, env_settings, _FileSource(settings_cls)

    @property
    def run_dir(self) -> Path:
        """Folder of this stack's socket files."""
        return runtime_dir(self.data_dir)

    @property
    def arena_root(self) -> Path:
        """Folder of this stack's shared-memory segments."""
        return self.arena_dir or arena_root(self.data_dir, self.stack)

    @property
    def stack(self) -> str:
        """Tells this stack from others on the machine, in the names of shared-memory files say."""
        return hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:12]


class _FileSource(PydanticBaseSettingsSource):
    """The settings file named by `load`, or nothing."""

    path: Path | None = None

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Unused: `__call__` gives all values at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The file's content.

        Raises:
            ConfigError: It cannot be read or is not a mapping.
        """
        if self.path is None:
            return {}
        try:
            found = yaml.safe_load(self.path.read_text())
        except OSError as exc:
            raise ConfigError(f"{self.path}: cannot be read: {exc.strerror}") from exc
        except yaml.YAMLError as exc:
            raise ConfigError(f"{self.path}: not valid YAML: {exc}") from exc
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise ConfigError(f"{self.path}: expected a mapping of settings, found {type(found).__name__}")
        for where in (found, found.get("curve")):
            for key in ("models", "data_dir", "telemetry", "secret_key", "clients"):
                if isinstance(where, dict) and isinstance(where.get(key), str):
                    where[key] = str(self.path.parent / where[key])
        return found


def load(file: Path | None = None, **flags: Any) -> Settings:
    """The settings that hold: flags that are not None, then the environment, then the file, then defaults.

    Raises:
        ConfigError: A value is wrong; the message names the setting, the expected and the found value.
    """
    for old, new in ALIASES.items():
        if old in os.environ and new not in os.environ:
            os.environ[new] = os.environ[old].lower() if old == "LOGGING_LEVEL" else os.environ[old]
    _FileSource.path = file
    try:
        settings = Settings(**{key: value for key, value in flags.items() if value is not None})
    except ValidationError as exc:
        lines = [
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}, found {e['input']!r}"
            for e in exc.errors()
        ]
        raise ConfigError("settings: " + "; ".join(lines)) from exc
    finally:
        _FileSource.path = None
    return complete(settings)


def complete(settings: Settings) -> Settings:
    """Fill in what depends on other settings: absolute paths, socket files, the secret."""
    data_dir = settings.data_dir.expanduser().resolve()
    run = runtime_dir(data_dir)
    return settings.model_copy(
        update={
            "data_dir": data_dir,
            "models": _absolute(settings.models),
            "telemetry": _absolute(settings.telemetry),
            "curve": CurveSettings(
                secret_key=_absolute(settings.curve.secret_key), clients=_absolute(settings.curve.clients)
            ),
            "frontend": settings.frontend or f"ipc://{run}/frontend.sock",
            "backend": settings.backend or f"ipc://{run}/backend/backend.sock",
            "control": settings.control or f"ipc://{run}/control.sock",
            "registry": settings.registry or f"ipc://{run}/registry.sock",
            "secret": settings.secret or secret_of(data_dir),
        }
    )


def _absolute(path: Path | None) -> Path | None:
    return path.expanduser().resolve() if path else None


def secret_of(data_dir: Path) -> str:
    """The stack's secret, kept in a file only its user can read; made on first use."""
    path = data_dir / "secret"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    data_dir.mkdir(parents=True, exist_ok=True)
    made = secrets.token_hex(32)
    temporary = path.with_name(f".secret-{os.getpid()}-{secrets.token_hex(4)}")
    temporary.touch(mode=0o600)
    temporary.write_text(made)
    try:
        os.link(temporary, path)  # atomic, and the first of several processes wins
    except FileExistsError:
        return path.read_text().strip()
    finally:
        temporary.unlink()
    return made


def split_address(address: str) -> tuple[str, int]:
    """HOST:PORT, [IPV6]:PORT or :PORT as (host, port).

    Raises:
        ValueError: It is none of these.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65_535:
        raise ValueError("expected HOST:PORT with a port of 0..65535")
    return host.strip("[]") or "0.0.0.0", int(port)
