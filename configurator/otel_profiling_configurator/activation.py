"""Builds everything, wires it together once a process, and can take it all back.

Whoever comes first does it: our configurator, the pre-instrument hook that runs under any distro, or code. The others find
it done.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.trace import TracerProvider

from . import fork_hooks, guard, log, native, report_signal, settings
from .agent import agent as agents
from .agent import descriptors, fork_warning, process_models, resource_labels
from .agent.late_start import LateStart
from .agent.server_watch import ServerWatch
from .context import following, forked_pools, labelling, thread_context
from .interpreters import is_main_interpreter
from .log import logger
from .process_state import process_state
from .settings import Settings
from .spans import local_roots, sdk_tracers, tracer_provider
from .spans.labels import LabelRules, label_value
from .spans.tracer_provider import ProfilingTracerProvider


def activate() -> Callable[[], None]:
    """Read the environment, wrap the global tracer provider, have labels follow it and start the agent.

    Does nothing where that has been done already, or in an interpreter other than the process's main one. Where it is switched
    off, it only reports at the signal that was asked for. If no tracer provider has been set yet, it waits for the application
    to set one. Never raises: what goes wrong is logged and undone.

    Returns:
        What takes everything back (the same as `deactivate`).
    """
    if is_main_interpreter():
        state = process_state()
        with state.lock:
            if state.active is None:
                state.active, state.deactivate = _Activation(), deactivate
                guard.guarded("start")(state.active.begin)()
    return deactivate


def deactivate() -> None:
    """Take back what `activate` did, after the agent has sent what it has; afterwards `activate` may be called again.

    What another copy of this package did in the process is left alone.
    """
    state = process_state()
    with state.lock:
        if state.active is not None and state.deactivate is deactivate:
            activation, state.active = state.active, None
            activation.end()


class _Activation:
    """One activation, and how to undo what it has done so far."""

    def __init__(self) -> None:
        self._undos: list[Callable[[], None]] = []
        self._settings = Settings()
        self._agent: agents.Agent | None = None
        self._provider: TracerProvider | None = None
        self._watch: ServerWatch | None = None
        self._process = os.getpid()
        self._why_python = ""
        self._late = LateStart(self._start_in_child)
        self._undo_report: Callable[[], None] = lambda: None
        self._due = False
        """Whether an agent is to be started in forked children though none runs here."""

    def begin(self) -> None:
        """Start at once if there is a tracer provider, or else as soon as there is one."""
        if process_models.is_helper():
            return
        self._settings, problems = settings.read(os.environ)
        log.configure(self._settings.log_level)
        for problem in problems:
            logger.warning("%s", problem)
        # Also where profiling is switched off: whoever sends the signal may not know, and it would end the process.
        self._undo_report = report_signal.install(self._settings.report_signal, self._report)
        if not self._settings.enabled:
            return
        provider = trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider):
            logger.info("waiting for the application to set a tracer provider")
            self._undos.append(tracer_provider.when_set(self._start_or_undo))
        else:
            self._start_or_undo(provider)

    def end(self) -> None:
        """Undo everything, the report too. It stays where a start fails: the signal that asks for it would end the process."""
        self.undo()
        guard.guarded("leave the signal of the report")(self._undo_report)()

    def undo(self) -> None:
        """Undo everything but the report, last first, whatever fails."""
        while self._undos:
            guard.guarded("undo its installation")(self._undos.pop())()

    def _start_or_undo(self, provider: TracerProvider) -> None:
        try:
            self._start(provider)
        except Exception:  # noqa: BLE001 - a failure of ours never costs the application its traces
            self.undo()
            guard.report("start")

    def _start(self, provider: TracerProvider) -> None:
        is_used = "pyroscope" in sys.modules
        wanted = self._settings
        is_alone = wanted.thread_context and not wanted.agent_enabled
        pyroscope = agents.load(is_needed=not is_alone)
        if pyroscope is None and not is_alone:
            return
        if not isinstance(provider, ProfilingTracerProvider):
            wrapper = ProfilingTracerProvider(provider, wanted.span_id_scope, wanted.span_name_scope)
            provider = cast(TracerProvider, wrapper)
            self._undos.append(tracer_provider.install(provider))
        self._provider = provider
        self._undos.append(sdk_tracers.install(LabelRules(wanted.span_id_scope, wanted.span_name_scope)))
        self._agent = None if pyroscope is None else agents.Agent(pyroscope, wanted)
        tags = agents.NoTags() if self._agent is None else self._agent.tags
        baggage_names = self._baggage_names()
        self._undos.append(labelling.install(tags, baggage_names, aliases=wanted.aliases))
        undo, self._why_python = following.install()
        self._undos.append(undo)
        if wanted.agent_enabled and wanted.aliases and native.is_missing_here():
            logger.warning("%s", native.HOW_TO_GET_IT)
        self._undos.append(forked_pools.install())
        if wanted.thread_context:
            self._publish_contexts(provider, baggage_names)
        if self._agent is None:
            labelling.refresh()
            fork_hooks.register()
            return
        self._undos.append(self._agent.watch_application(self._follow_application))
        self._undos.append(self._agent.watch_labels())
        if wanted.agent_enabled:
            if process_models.is_uwsgi():
                # Its master forks without any hook before the fork, so that no moment could be chosen that suits an agent.
                self._announce()
                process_models.in_each_uwsgi_worker(fork_hooks.start_in_worker)
            elif process_models.only_forks():
                self._due = True
            elif self._start_agent(self._agent):
                self._announce()
            else:
                logger.warning(
                    "Pyroscope runs in this process already, or its agent could not start: the one that runs keeps its own "
                    "settings, span labels are added to its profiles. OTEL_PROFILING_AGENT_ENABLED=false says so from the "
                    "start."
                )
        elif is_used:  # the application may have started an agent
            labelling.agent_started(self._agent.tags, aliases=False)
        labelling.refresh()
        fork_hooks.register()

    def _publish_contexts(self, provider: TracerProvider, baggage_names: Mapping[str, str]) -> None:
        """Tell profilers outside the process of spans and of the resource; a warning where nothing else is to be done."""
        why_not = self._why_python
        if not why_not:
            try:
                self._undos.append(thread_context.install(provider, baggage_names.values()))
            except RuntimeError as error:
                why_not = str(error)
            except Exception:  # noqa: BLE001 - labels and the agent go on
                guard.report("tell profilers outside the process of spans")
        if why_not and self._agent is None:
            logger.warning(
                "nothing is profiled: the agent is off, and profilers outside the process can't be told of spans (%s). "
                "Install a wheel of otel-profiling-configurator for this Python on Linux, or set OTEL_PROFILING_ENABLED=false.",
                why_not,
            )
        elif not why_not and process_models.is_uwsgi() and not self._settings.agent_enabled:
            process_models.in_each_uwsgi_worker(fork_hooks.start_in_worker)

    def _start_agent(self, agent: agents.Agent, threads: bool = True) -> bool:
        """Start the agent, what ends it and what listens to it; whether it has started.

        Args:
            agent: What is started.
            threads: Whether threads of ours may take part.
        """
        self._undos.append(agent.stop)
        self._undos.append(agent.stop_at_exit())
        self._undos.append(process_models.before_fatal_signal(agent.stop))
        if agent.start(*self._identity(), threads=threads) and threads:
            guard.guarded("listen to the agent")(self._watch_server)(agent)
        return agent.running

    def _announce(self) -> None:
        name, labels = self._identity()
        wanted = self._settings
        logger.info(
            "profiling %r to %s: %s at %d samples a second, sent every %d s; span_id scope %s, span_name scope %s; "
            "labels %s; %s",
            name,
            wanted.shown_server_address,
            "+".join(wanted.types),
            wanted.sample_rate,
            wanted.upload_interval,
            wanted.span_id_scope.value,
            wanted.span_name_scope.value,
            labels,
            self._form(),
        )
        if wanted.aliases and not self._why_python and labelling.why_by_thread() == labelling.READING_REFUSED:
            logger.warning(
                "labels of short steps are less exact than could be: this system refuses process_vm_readv. Allow it (in the "
                "profile of seccomp), or set OTEL_PROFILING_ALIASES=false: then labels by thread are meant."
            )
        beyond = [name for name in self._identity(sys.maxsize)[1] if name not in labels]
        if beyond:
            logger.warning(
                "profiles have %d labels at most, so they lack the resource's %s: OTEL_PROFILING_RESOURCE_LABELS says "
                "which they have",
                settings.MAX_LABELS,
                ", ".join(beyond),
            )

    def _report(self) -> str:
        """Say how things stand, for whoever asks by a signal."""
        process = f"process {os.getpid()}, {threading.active_count()} threads"
        if not self._settings.enabled:
            return f"{process}: profiling is switched off"
        if self._provider is None:
            return f"{process}: waiting for a tracer provider, or profiling could not start"
        name, labels = self._identity()
        runs = self._agent is not None and self._agent.running
        return (
            f"{process}: {name!r} to {self._settings.shown_server_address}, labels {labels}\n"
            f"agent {'runs' if runs else 'does not run'}; {self._form()}\n"
            f"uploads: {self._watch.state() if self._watch is not None else 'not watched here'}"
        )

    def _form(self) -> str:
        """Say how samples find the labels of their span."""
        why = self._why_python or labelling.why_by_thread()
        return f"samples are labelled by thread ({why})" if why else "samples are labelled by aliases"

    def _watch_server(self, agent: agents.Agent) -> None:
        if not agent.words_are_caught:
            return  # the agent's words go to standard error as they are
        wanted = self._settings
        self._watch = ServerWatch(
            wanted.shown_server_address, wanted.upload_interval, agent.take_words, self._restart_agent, self._check
        )
        self._watch.start()
        agent.when_stopped = self._watch.hear_last_words
        self._undos.append(self._watch.stop)

    def _follow_application(self) -> None:
        """Go on with an agent that the application has started: label for it, and leave what it says to the application."""
        if self._watch is not None:
            self._watch.forget_agent()
        labelling.refresh()

    def _restart_agent(self) -> bool:
        """Start an agent again whose sampler has stopped; return whether it runs."""
        agent = self._agent
        if agent is None or not agent.running:
            return False
        self._due = True  # a child that is forked meanwhile has one, too
        try:
            runs = agent.restart(*self._identity())
        finally:
            self._due = False
        labelling.refresh()
        return runs

    def _check(self) -> None:
        """Do without aliases where this agent turns out to read threads in another way; and without what goes with them."""
        if labelling.give_up_aliases_if_unseen():
            self._restart_agent()
            logger.info("samples are labelled by thread from now on: %s", labelling.why_by_thread())

    def _baggage_names(self) -> Mapping[str, str]:
        """Return which baggage entries become labels: none of a name that each profile carries already."""
        names = self._settings.baggage_keys
        if not names:
            return names
        _, static = self._identity()
        for key in names.keys() & {key for key, name in names.items() if name in static}:
            logger.warning("baggage %r becomes no label: %r is set by the resource or by the environment", key, names[key])
        return {key: name for key, name in names.items() if name not in static}

    def _identity(self, most: int = settings.MAX_LABELS) -> tuple[str, dict[str, str]]:
        """Return the application's name and at most so many labels for every profile, from the provider's current resource."""
        attributes: Mapping[str, Any] = getattr(getattr(self._provider, "resource", None), "attributes", None) or {}
        process = os.getpid()
        # A resource names no process by default, and may still name the one that forked this one.
        if attributes.get(resource_labels.PROCESS, self._process) == self._process:
            attributes = {**attributes, resource_labels.PROCESS: process}
        return (
            label_value(self._settings.application_name or resource_labels.service_name(attributes)),
            resource_labels.static_labels(
                attributes, self._settings.resource_labels, self._settings.labels, self._settings.instance_id, most
            ),
        )

    def start_in_worker(self) -> None:
        """Start the agent in a process whose fork Python's hooks did not hear of; nothing may log here either.

        Nor may a thread of ours want the GIL there: Python has not made it anew, so that it may still count a thread of the
        parent among those that wait, and then the first time that two threads want it, both wait for ever (glibc, uWSGI 2.0).
        """
        thread_context.after_fork_in_child()
        if self._settings.agent_enabled and self._agent is not None and not self._agent.running:
            labelling.after_fork_in_child()
            local_roots.begin_process()
            self._start_agent(self._agent, threads=os.getpid() == self._process)
            labelling.refresh()

    def before_fork(self) -> None:
        """Wait for a moment at which a fork does no harm to the child's agent."""
        if self._agent is None or not (self._agent.running or self._due):
            return
        process_models.in_children(fork_hooks.start_due_agent, fork_hooks.stop_agent)
        self._late.before_fork()
        if self._watch is not None:
            self._watch.before_fork()
        self._agent.wait_to_fork()
        self._agent.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on as before."""
        if self._watch is not None:
            self._watch.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Give the forked child an agent of its own, and the thread that forked its labels.

        Nothing here may log: another thread of the parent may have held a handler's lock at the time of the fork.
        """
        descriptors.after_fork_in_child()
        labelling.after_fork_in_child()
        fork_warning.end_fork()
        guard.guarded("publish the process context")(thread_context.after_fork_in_child)()
        if self._agent is not None:
            try:
                # A provider that follows forks has updated its resource by now: its hook came first.
                if self._agent.running and self._agent.has_own_descriptors:
                    self._start_in_child()
                elif self._agent.running:
                    self._late.begin()
                elif self._due:
                    self._due = False
                    self._start_agent(self._agent)
            finally:
                labelling.refresh()

    def _start_in_child(self) -> None:
        if self._agent is not None:
            if self._watch is not None:
                self._watch.start()  # first: a thread that begins while the sampler seeks the interpreter makes it start over
            self._agent.start(*self._identity())

    def start_due_agent(self) -> None:
        """Start an agent that waits for the application to close what it inherited: it won't."""
        self._late.now()

    def stop_agent(self) -> None:
        """Have the agent send what it has, in a process that is about to end."""
        if self._agent is not None:
            self._agent.stop()
