"""`python -m server`: serve, or one of the commands."""

import argparse
import asyncio
import sys
import warnings
from collections.abc import Coroutine

import uvloop
from jwt.warnings import InsecureKeyLengthWarning

from domain.errors import AppError
from domain.identity import Role
from domain.ids import parse_id
from server import logs
from server.embedded import EmbeddedError
from server.serve import serve, with_secret
from server.settings import Settings, SettingsError, load
from server.signing import mint
from server.workers import WORKER, WorkerError, serve_worker, serve_workers
from storage.mongo import Mongo
from storage.stats import StatsRepository

RESTORED_STEP = 2**20  # more changes than any user makes between two backups
RESTORED_TIMEOUT = 600.0  # seconds


def main() -> int:
    """Run the command that the arguments name; answers the exit code."""
    arguments = _parser().parse_args()
    try:
        settings = load()
        if arguments.command == "token":
            return _token(settings, arguments.user, Role(arguments.role))
        if arguments.command == "restored":
            return asyncio.run(_restored(settings))
        if arguments.command == WORKER:
            return _run(serve_worker(settings), settings, arguments.number)
        return _run((serve_workers if settings.workers > 1 else serve)(settings), settings)
    except (SettingsError, EmbeddedError, WorkerError, AppError) as error:
        sys.stderr.write(f"{error}\n")
    except OSError as error:
        sys.stderr.write(f"cannot serve: {error}\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m server", description="livetally: the live backend for games and apps."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="serve (the default)")
    token = commands.add_parser("token", help="print a token for a user")
    token.add_argument("user", metavar="USER")
    token.add_argument("--role", choices=[role.value for role in Role], default="user")
    commands.add_parser(
        "restored", help="after restoring a backup of MongoDB: lift all revs above what clients saw"
    )
    worker = commands.add_parser(WORKER)  # no help: for the parent, not for people
    worker.add_argument("number", type=int)
    return parser


def _run(work: Coroutine[None, None, None], settings: Settings, worker: int | None = None) -> int:
    logs.set_up(settings.log_level, settings.log_format, worker)
    warnings.simplefilter("ignore", InsecureKeyLengthWarning)  # with_secret decides about that
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
    return 0


async def _restored(settings: Settings) -> int:
    """Clients may have seen higher revs than the backup has; none may ever go down."""
    if settings.mongodb_uri is None:
        raise SettingsError("MONGODB_URI is missing: say which MongoDB was restored")
    mongo = Mongo(settings.mongodb_uri, settings.mongodb_db)
    try:
        stats = StatsRepository(mongo, settings.schema_of_stats())
        users = await stats.raise_revs(RESTORED_STEP, RESTORED_TIMEOUT)
    finally:
        await mongo.close()
    sys.stdout.write(f"lifted the revs of {users} users by {RESTORED_STEP}\n")
    return 0


def _token(settings: Settings, user: str, role: Role) -> int:
    sys.stdout.write(mint(with_secret(settings), parse_id(user, "USER"), role) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
