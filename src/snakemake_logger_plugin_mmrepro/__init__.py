"""Snakemake's screen as mmrepro shows it: a line a job, in a terminal a view of what runs; `logger: mmrepro`.

Dry runs, `--verbose` and `--quiet` print what Snakemake prints without it.
"""

from __future__ import annotations

import sys
import threading
from logging import LogRecord
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from mmrepro.housekeeping.running import note_running
from mmrepro.housekeeping.screen import Screen

EVERY = 60.0
"""Seconds after which a log is told of the jobs that still run."""
INTERRUPTED = "Terminating processes on user request"
HIDDEN = (
    "RuleException",
    "CalledProcessError",
    "Using workflow specific profile",
    "Building DAG",
    "Complete log",
    "host:",
    "Job stats",
    "Select jobs",
)
"""Beginnings of messages that say nothing to a user."""


BY_EXECUTOR = "mmrepro: "
"""Beginning of what our executors say of a failed job, and after it what they say to everybody."""
FURTHER = "For further error details"


def _why(message: str | None) -> str:
    """What an executor of ours says of a failed job."""
    text = message or ""
    return text.removeprefix(BY_EXECUTOR).partition(FURTHER)[0].strip() if text.startswith(BY_EXECUTOR) else ""


class LogHandler(LogHandlerBase):
    """Writes to stderr what a person wants to know."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Decide how to show."""
        settings = self.common_settings
        self.plain = bool(settings.dryrun or settings.verbose or settings.quiet)
        self.screen = Screen()
        self.stream = sys.stdout if settings.stdout else sys.stderr
        self.live: Any = None
        self.over = threading.Event()
        if not self.plain:
            threading.Thread(target=self._remind, daemon=True).start()

    def emit(self, record: LogRecord) -> None:
        """Show a record."""
        try:
            if self.plain:
                text = self.format(record)
                if text and text.strip() and text != "None":
                    print(text, file=self.stream, flush=True)
            else:
                for line in self._lines(record):
                    self._print(line)
        except Exception:  # a screen must never end a workflow
            self.handleError(record)

    def close(self) -> None:
        """Say how it ended."""
        if not self.plain and not self.over.is_set():
            self.over.set()
            if self.live is not None:
                self.live.stop()
                self.live = None
            for line in self.screen.end():
                self._print(line)
        super().close()

    def _lines(self, record: LogRecord) -> list[str]:
        event, screen, told = getattr(record, "event", None), self.screen, vars(record)
        if event == LogEvent.RUN_INFO:
            self._show_live()
            return [screen.begin(told["stats"])]
        if event == LogEvent.JOB_INFO:
            screen.start(told["jobid"], told["rule_name"], told["wildcards"] or {}, told["log"], told["output"])
            note_running(screen.logs)
            return []
        if event == LogEvent.JOB_FINISHED:
            line = screen.finish(told["job_id"])
            note_running(screen.logs)
            return [line] if line else []
        if event == LogEvent.JOB_ERROR:
            lines = [*screen.fail(told["jobid"], _why(told.get("rule_msg")), told.get("log") or ())]
            note_running(screen.logs)
            return lines
        if event is not None and event != LogEvent.ERROR:
            return []
        return self._message(record, event)

    def _message(self, record: LogRecord, event: Any) -> list[str]:
        text = record.getMessage() if record.msg is not None else ""
        if INTERRUPTED in text:
            self.screen.stopped = True
            return []
        failed = bool(self.screen.failed or self.screen.stopped)
        if not text.strip() or text.startswith(HIDDEN) or (failed and event == LogEvent.ERROR):
            return []
        if failed and record.levelname in ("ERROR", "CRITICAL"):
            return []
        known = text.startswith(("Nothing to be done", "Error", "WorkflowError", "MissingInput")) or event is not None
        return [text.strip()] if known or record.levelno >= 30 else []

    def _print(self, line: str) -> None:
        if self.live is not None:
            self.live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self.stream, flush=True)

    def _show_live(self) -> None:
        """In a terminal, what runs stands below the lines of what is done."""
        if self.live is None and self.stream.isatty():
            from rich.console import Console
            from rich.live import Live
            from rich.text import Text

            def view() -> Text:
                head = f"{self.screen.place}{self.screen.rest}"
                return Text("\n".join([head, *(f"  {line}" for line in self.screen.progress())]), overflow="ellipsis")

            self.live = Live(
                get_renderable=view, console=Console(file=self.stream), refresh_per_second=2, transient=True
            )
            self.live.start()

    def _remind(self) -> None:
        """In a log, tell of long jobs once a minute."""
        while not self.over.wait(EVERY):
            if self.live is None:
                for line in self.screen.progress(EVERY):
                    self._print(f"    {line}")
