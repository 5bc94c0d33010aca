"""The command of the install step: looks, decides, says what it does, does it, and says what came of it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.systemd.box import installed_prefix, look
from scripts.systemd.errors import CannotInstall, Failed
from scripts.systemd.perform import perform, status_of
from scripts.systemd.places import DEFAULT_PREFIX, ENV_FILE, REPOSITORY, UNIT, Prefix
from scripts.systemd.plan import Wishes, must_ask, plan_install
from scripts.systemd.plan_uninstall import plan_uninstall
from scripts.systemd.refusals import check_ground

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.systemd.actions import Plan
    from scripts.systemd.box import Box

ABOUT = """Installs the daemon as a systemd service, or takes it away (--uninstall). Run by
`sudo make install-systemd` and `sudo make uninstall-systemd`, which pass on ARGS. A second install upgrades."""
NEXT = f"""\
  arasul-supervisor status              state, restarts, health
  arasul-supervisor pull                get the default model
  journalctl -u arasul-supervisor -f    what it and Ollama say
  sudoedit {ENV_FILE}   settings; then: sudo systemctl restart arasul-supervisor"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Install or uninstall; 0 when all of it was done."""
    asked = _parser().parse_args(arguments)
    name = f"{'un' * asked.uninstall}install-systemd"
    os.umask(0o022)  # the service's user must be able to read what is installed
    try:
        check_ground(is_root=os.geteuid() == 0, has_systemd=os.path.isdir("/run/systemd/system"))
        prefix = Prefix(asked.prefix or installed_prefix() or DEFAULT_PREFIX)
        box = look(prefix)
        plan = _plan_uninstall(box, prefix, asked) if asked.uninstall else _plan_install(box, prefix, asked)
        _carry_out(plan, dry_run=asked.dry_run)
    except KeyboardInterrupt:
        again = "Interrupted. Run the same again to finish, or `sudo make uninstall-systemd` to undo it."
        print(f"\n{name}: {again}", file=sys.stderr)
        return 130
    except (CannotInstall, Failed, OSError, subprocess.TimeoutExpired) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    if asked.dry_run:
        return 0
    if not asked.uninstall:
        _show_status()
    for note in plan.notes:
        print(f"note: {note}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="install_systemd.py", description=ABOUT)
    parser.add_argument("--uninstall", action="store_true", help="take the service away")
    parser.add_argument("--prefix", type=Path, metavar="FOLDER", help=f"of the program ({DEFAULT_PREFIX})")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    of_ollama = parser.add_mutually_exclusive_group()
    of_ollama.add_argument(
        "--disable-ollama", dest="of_ollama", action="store_const", const="disable", default="unsaid",
        help="stop and disable ollama.service, whose models and settings the daemon goes on with",
    )  # fmt: skip
    of_ollama.add_argument(
        "--keep-ollama", dest="of_ollama", action="store_const", const="keep",
        help="install without starting; with --uninstall: leave ollama.service disabled",
    )  # fmt: skip
    parser.add_argument("--purge", action="store_true", help="with --uninstall: settings, state and logs too")
    return parser


def _plan_install(box: Box, prefix: Prefix, asked: argparse.Namespace) -> Plan:
    wishes = Wishes(
        prefix=prefix,
        source=REPOSITORY,
        venv_name=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        unit=(REPOSITORY / "config" / UNIT).read_text(encoding="utf-8"),
        env_file=(REPOSITORY / "config" / "arasul-supervisor.default").read_text(encoding="utf-8"),
        of_ollama=asked.of_ollama,
    )
    if must_ask(box, wishes) and sys.stdin.isatty():
        return plan_install(box, _with_answer(wishes))
    return plan_install(box, wishes)


def _with_answer(wishes: Wishes) -> Wishes:
    print("ollama.service runs Ollama on this box, and only one can.")
    print("The supervisor would go on with its models and settings.")
    is_yes = _ask("Stop and disable ollama.service? [Y/n] ")
    return replace(wishes, of_ollama="disable" if is_yes else "keep")


def _plan_uninstall(box: Box, prefix: Prefix, asked: argparse.Namespace) -> Plan:
    """Ollama's own service comes back unless somebody says no: that is how the box was."""
    restore = asked.of_ollama != "keep"
    if restore and box.record and box.record.disabled_ollama and sys.stdin.isatty() and not asked.dry_run:
        restore = _ask("Enable and start ollama.service again? [Y/n] ")
    return plan_uninstall(box, prefix, purge=asked.purge, restore_ollama=restore)


def _ask(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("", "y", "yes")
    except (EOFError, KeyboardInterrupt):
        print()
        raise CannotInstall("There was no answer. Nothing has been changed.") from None


def _carry_out(plan: Plan, *, dry_run: bool) -> None:
    for action in plan.actions:
        print(f"{'would ' * dry_run}{action.sentence}", flush=True)
        if not dry_run:
            perform(action)


def _show_status() -> None:
    state, sentence = status_of(UNIT)
    print(f"{UNIT} is {state}{': ' * bool(sentence)}{sentence}\n{NEXT}")
