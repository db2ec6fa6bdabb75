"""`python -m server`: serve, or one of the commands."""

import argparse
import asyncio
import sys
import warnings
from collections.abc import Coroutine

import uvloop
from jwt.warnings import InsecureKeyLengthWarning

from domain.emails import parse_email
from domain.errors import AppError
from domain.identity import Role
from domain.ids import parse_id
from server import logs
from server.commands import create_admin, restored
from server.embedded import EmbeddedError
from server.serve import serve, with_secret
from server.settings import Settings, SettingsError, load
from server.signing import mint
from server.workers import WORKER, WorkerError, serve_worker, serve_workers


def main() -> int:
    """Run the command that the arguments name; answers the exit code."""
    arguments = _parser().parse_args()
    try:
        settings = load()
        if arguments.command == "token":
            return _token(settings, arguments.user, Role(arguments.role))
        if arguments.command == "restored":
            return _say(restored(settings))
        if arguments.command == "admin":
            return _say(create_admin(settings, parse_email(arguments.email, "EMAIL")))
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
    admin = commands.add_parser("admin", help="accounts with the role admin")
    create = admin.add_subparsers(dest="action", metavar="ACTION", required=True).add_parser(
        "create", help="make an admin, or make one of an account that is there"
    )
    create.add_argument("email", metavar="EMAIL")
    worker = commands.add_parser(WORKER)  # no help: for the parent, not for people
    worker.add_argument("number", type=int)
    return parser


def _run(work: Coroutine[None, None, None], settings: Settings, worker: int | None = None) -> int:
    logs.set_up(settings.log_level, settings.log_format, worker)
    warnings.simplefilter("ignore", InsecureKeyLengthWarning)  # with_secret decides about that
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
    return 0


def _say(work: Coroutine[None, None, str]) -> int:
    sys.stdout.write(asyncio.run(work) + "\n")
    return 0


def _token(settings: Settings, user: str, role: Role) -> int:
    sys.stdout.write(mint(with_secret(settings), parse_id(user, "USER"), role) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
