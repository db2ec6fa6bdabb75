"""Settings from the environment; every limit and timing of the process has its home here."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.stats import OwnFields, StatsSchema
from realtime.limits import LiveLimits

MIN_SECRET_BYTES = 32
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class SettingsError(ValueError):
    """The configuration cannot work; the message says what to change."""


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", value.strip())
        if not found:
            raise ValueError("write a duration as 30s, 15m, 12h or 7d")
        return float(found[1]) * _UNITS[found[2]]
    return value


def _commas(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Seconds = Annotated[float, BeforeValidator(_duration), Field(gt=0)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_commas)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Limit = Annotated[int, Field(ge=0)]


class Settings(BaseSettings):
    """The process' configuration; a limit of 0 is none."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    port: Port = 3000
    workers: Annotated[int, Field(ge=1)] = 1
    metrics_port: Port = 0

    mongodb_uri: str | None = None
    mongodb_db: str = "livetally"
    redis_url: str | None = None
    redis_prefix: str = "livetally"
    data_dir: Path = Path("var")

    jwt_secret: SecretStr | None = None
    jwt_secret_next: SecretStr | None = None
    jwt_private_key: SecretStr | None = None
    jwt_private_key_next: SecretStr | None = None
    jwt_public_key: str | None = None
    jwt_jwks_url: str | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_expire: Seconds = 7 * 86_400.0
    refresh_expire: Seconds = 60 * 86_400.0
    refresh_grace: Seconds = 60.0

    password_min_length: Annotated[int, Field(ge=1, le=128)] = 6
    password_blocklist: Path | None = None
    login_failures_per_account: Limit = 10
    login_failures_per_address: Limit = 100

    cors_origin: Names = ("*",)
    trusted_proxies: Names = ()
    transports: Names = ("polling", "websocket")
    stats_schema: Path | None = None

    rate_limit_per_minute: Limit = 100
    socket_events_per_second: Limit = 50
    connections_per_second: Limit = 100
    max_connections: Limit = 20_000

    sync_types: str | None = None
    sync_log_kept: Seconds = 90 * 86_400.0
    sync_tombstones_kept: Annotated[float, BeforeValidator(_duration), Field(ge=0)] = 0.0
    sync_max_entities: Limit = 100_000

    queue_handlers: str | None = None
    queue_lease: Seconds = 30.0
    queue_first_attempt_after: Seconds = 60.0
    queue_completed_kept: Seconds = 30 * 86_400.0
    queue_failed_kept: Seconds = 90 * 86_400.0

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"

    ping_interval: Seconds = 25.0
    ping_timeout: Seconds = 20.0
    connect_timeout: Seconds = 10.0
    presence_lease: Seconds = 12.0
    presence_grace: Seconds = 15.0
    presence_visit: Seconds = 300.0
    token_expired_grace: Seconds = 25.0
    reconcile_interval: Seconds = 30.0
    erasure_resume_interval: Seconds = 30.0
    write_timeout: Seconds = 4.0
    redis_timeout: Seconds = 2.0
    drain_seconds: Seconds = 5.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        keys = [self.jwt_secret, self.jwt_private_key, self.jwt_public_key, self.jwt_jwks_url]
        if sum(key is not None for key in keys) > 1:
            raise ValueError(
                "set only one of JWT_SECRET, JWT_PRIVATE_KEY, JWT_PUBLIC_KEY and JWT_JWKS_URL"
            )
        if self.jwt_secret_next is not None and self.jwt_secret is None:
            raise ValueError("JWT_SECRET_NEXT comes after JWT_SECRET: set both")
        if self.jwt_private_key_next is not None and self.jwt_private_key is None:
            raise ValueError("JWT_PRIVATE_KEY_NEXT comes after JWT_PRIVATE_KEY: set both")
        last_metrics_port = self.metrics_port + self.workers - 1
        if self.metrics_port and last_metrics_port > 65_535:
            raise ValueError("METRICS_PORT and the ports after it, one per worker, end at 65535")
        if self.metrics_port and self.metrics_port <= self.port <= last_metrics_port:
            raise ValueError("METRICS_PORT and the ports after it, one per worker, include PORT")
        if not self.transports or set(self.transports) - {"polling", "websocket"}:
            raise ValueError("TRANSPORTS is polling, websocket or both, separated by a comma")
        if self.workers > 1 and "websocket" not in self.transports:
            raise ValueError("WORKERS: several take websocket only, and TRANSPORTS has it not")
        if "*" in self.cors_origin and len(self.cors_origin) > 1:
            raise ValueError("CORS_ORIGIN is either * or a list of origins")
        with naming("TRUSTED_PROXIES"):
            _ = self.proxy_networks
        return self

    @property
    def embedded(self) -> bool:
        """Whether MongoDB and Redis are both private ones of this process."""
        return self.mongodb_uri is None and self.redis_url is None

    @cached_property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """TRUSTED_PROXIES as networks."""
        return tuple(ip_network(part, strict=False) for part in self.trusted_proxies)

    def limits(self) -> LiveLimits:
        """The limits of the live part."""
        return LiveLimits(
            ping_interval=self.ping_interval,
            ping_timeout=self.ping_timeout,
            connect_timeout=self.connect_timeout,
            events_per_second=self.socket_events_per_second,
            lease=self.presence_lease,
            grace=self.presence_grace,
            visit=self.presence_visit,
            expired_grace=self.token_expired_grace,
            reconcile_every=self.reconcile_interval,
            write_timeout=self.write_timeout,
        )

    def schema_of_stats(self) -> StatsSchema:
        """The stats' fields, the app's own included; raises SettingsError."""
        if self.stats_schema is None:
            return StatsSchema()
        try:
            own = OwnFields.model_validate_json(self.stats_schema.read_text())
        except (OSError, ValueError) as error:
            raise SettingsError(f"STATS_SCHEMA {self.stats_schema}: {error}") from error
        return StatsSchema(own.fields)


@contextmanager
def naming(variables: str) -> Iterator[None]:
    """Turn what a library has against a value into a SettingsError that names `variables`."""
    try:
        yield
    except Exception as error:
        raise SettingsError(f"{variables}: {error}") from None


def load() -> Settings:
    """The settings of the environment; raises SettingsError that names the variable."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, fault['loc'])).upper() or 'configuration'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("\n".join(lines)) from None
