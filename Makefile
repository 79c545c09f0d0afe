# `make test` is what CI runs first; .ci/run adds other Pythons and the image. PYTHON picks the interpreter; each one gets
# virtual environments of its own.
PYTHON ?= python3
TAG := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv-$(TAG)
DISTROS := .venv-distros-$(TAG)
OLDEST := .venv-oldest-$(TAG)
FRAMEWORKS := .venv-frameworks-$(TAG)
SERVERS := .venv-servers-$(TAG)
APPLICATIONS := .venv-applications-$(TAG)
SUITES := .venv-suites-$(TAG)
DEMO := .venv-demo-$(TAG)
PAGE := .venv-page-$(TAG)
BENCH := .venv-bench-$(TAG)
RELEASE := .venv-release-$(TAG)
INSTALLED := .venv-installed-$(TAG)
DOCS := .venv-docs-$(TAG)
SOURCES := pyproject.toml configurator/pyproject.toml configurator/hatch_build.py \
	$(wildcard configurator/otel_profiling_configurator/*.[ch] configurator/otel_profiling_configurator/*/*.[ch])
CONFIGURATOR := $(wildcard configurator/otel_profiling_configurator/*.py configurator/otel_profiling_configurator/*/*.py)

# Two at a time: most of a test is waiting for a process of its own.
WORKERS ?= 2
PARALLEL := -n $(WORKERS) --dist worksteal
# Such a test is run once more where it fails: a process that ends waits for its last upload two seconds, and a shared machine may stop it
# for longer.
PROCESSES := $(PARALLEL) --reruns 1

IMAGE := build/image
FIGURES := build/bench-$(TAG)

.PHONY: help test check lint unit integration labels runtimes processes distros frameworks servers oldest image image-test injection demo page page-test applications bench bench-startup bench-cost bench-accuracy bench-load bench-pictures soak proto clean wheels wheels-complete wheels-test installed slim-test musl-test musl-quick arm64-test docs docs-test suites suites-quick native-asan native-tsan native-refleak bench-cpu

help:
	@echo 'make demo     see what it does: a small web service, profiled, and a report of what arrived'
	@echo 'make page     the front end of the page that make demo ends with; needs Node.js (page-test: in a real browser)'
	@echo 'make docs     the documentation as a site, in build/site, with strict links; make docs-test runs what the pages say'
	@echo 'make test     what a change needs: lint, types, unit tests, commands of the documentation, integration tests (15 minutes)'
	@echo 'make check    the rest: other distros, frameworks, servers and workers, oldest dependencies, the page, sanitizers, some of others'\'' suites'
	@echo 'make wheels   what is published, in dist/: native wheels for each platform and each Python with headers here, pure'
	@echo '              ones, sources; checked'
	@echo 'make wheels-test  the same bytes again elsewhere, and what the checks would find'
	@echo 'make installed    what is in dist/, installed in a virtual environment: native, accurate'
	@echo 'make slim-test    the wheels in Debian without a compiler (root, debootstrap): installed, native, accurate'
	@echo 'make musl-test    the wheels and the tree on musl (root; builds CPython for musl the first time;'
	@echo '              musl-quick: the part that .ci/run has time for)'
	@echo 'make arm64-test   the wheels and the tree on an emulated arm64 (root, mmdebstrap, qemu; 10 minutes; not in .ci/run, which'
	@echo '              has no time for it)'

	@echo 'make applications  more servers and workers: each route has its own samples, all of them'
	@echo 'make suites   test suites of CPython, trio, anyio and others pass with profiling as they do without (suites-quick: a part)'
	@echo 'make image    the trees of the operator image, for each processor and C library, verified'
	@echo 'make image-test  they are complete, and applications work and are profiled with them'
	@echo 'make bench    what it costs and how right it is, beside the plain SDK and pyroscope-otel, in tables and pictures;'
	@echo '              needs wrk and an hour on a quiet machine; one at a time: make bench-startup, bench-cost,'
	@echo '              bench-accuracy (12 minutes), bench-load (half an hour), bench-pictures (what the others kept)'
	@echo 'make bench-cpu    how close sampled time is to CPU time, and what idle threads cost; hours, ARGUMENTS picks figures'
	@echo 'make soak     ten minutes of load on workers that come and go (SECONDS=600); needs wrk'
	@echo 'make proto    compile the .proto files of the receiver again'

# What a change needs: at most 15 minutes on two cores.
test: lint unit docs-test integration

# Everything else that is tested on one Python, with a part of other projects' test suites; the operator's image and
# other Pythons are .ci/run's.
check: docs distros frameworks servers applications oldest page-test native-asan native-tsan suites-quick

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

unit: $(VENV)/ready
	$(VENV)/bin/pytest $(PARALLEL) tests/unit

docs: $(DOCS)/ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict

docs-test: $(VENV)/ready
	$(VENV)/bin/pytest $(PROCESSES) tests/docs

integration: $(VENV)/ready
	$(VENV)/bin/pytest $(PROCESSES) tests/integration

NATIVE_TESTS := $(addprefix tests/unit/configurator/test_,native.py aliases.py contexts.py following.py greenlets.py baggage_labels.py \
	thread_context.py process_context.py annotation.py sdk_tracers.py)
ASAN := build/asan-$(TAG)
TSAN := build/tsan-$(TAG)
REFLEAK := build/refleak

# The configurator once more, in a folder that comes first on PYTHONPATH, with a native module of its own:
# $(call instrumented,folder,interpreter,flags of the compiler)
define instrumented
	rm -rf $(1) && mkdir -p $(1) && cp -r configurator/otel_profiling_configurator $(1)
	rm -f $(1)/otel_profiling_configurator/native/*.so
	$(CC) -std=gnu11 -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -fPIC -shared $(3) \
		-I$$($(2) -c 'import sysconfig; print(sysconfig.get_paths()["include"])') \
		$(1)/otel_profiling_configurator/native/*.c -o $(1)/otel_profiling_configurator/native/_native.so
endef

# Memory that is used wrongly, and what C leaves undefined. Not memory that is never freed: the interpreter itself keeps hundreds
# of blocks until the process ends. `malloc` for each object, or its own blocks would hide what is used after its end.
native-asan: $(VENV)/ready
	$(call instrumented,$(ASAN),$(VENV)/bin/python,-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined)
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		PYTHONPATH=$(CURDIR)/$(ASAN) $(VENV)/bin/pytest -p no:cacheprovider $(NATIVE_TESTS)

# Memory that two threads touch and nothing orders: the agent's run without the GIL. Neither Python nor the agent is instrumented: what
# they do is not looked at. ThreadSanitizer wants addresses to be where it expects them (`setarch -R`, which containers may forbid).
native-tsan: $(VENV)/ready
	$(call instrumented,$(TSAN),$(VENV)/bin/python,-O1 -g -fno-omit-frame-pointer -fsanitize=thread -Wno-tsan)
	$$(setarch -R true 2>/dev/null && echo setarch -R) env LD_PRELOAD="$$($(CC) -print-file-name=libtsan.so)" \
		TSAN_OPTIONS=halt_on_error=1:report_signal_unsafe=0:ignore_noninstrumented_modules=1 PYTHONPATH=$(CURDIR)/$(TSAN) \
		$(VENV)/bin/python tests/sanitizers/races.py

# Needs a debug CPython 3.11 with its headers: Debian's python3-dbg and libpython3-dbg. It runs with the libraries of the
# environment of a 3.11, which it can load.
native-refleak: $(VENV)/ready
	$(call instrumented,$(REFLEAK),python3-dbg,-O1 -g)
	PYTHONPATH=$(CURDIR)/$(REFLEAK):$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])') \
		python3-dbg tests/sanitizers/refleak.py

# Those integration tests whose outcome may depend on the Python.
labels: $(VENV)/ready
	$(VENV)/bin/pytest $(PROCESSES) tests/integration/test_labels.py tests/integration/test_outside.py

runtimes: $(VENV)/ready
	$(VENV)/bin/pytest $(PROCESSES) tests/integration/test_runtimes.py

processes: $(VENV)/ready
	$(VENV)/bin/pytest $(PROCESSES) tests/integration/test_host.py tests/integration/test_process_exits.py tests/integration/test_doctor.py

distros: $(DISTROS)/ready
	$(DISTROS)/bin/pytest $(PROCESSES) tests/integration/test_other_distros.py tests/integration/test_agent.py

frameworks: $(FRAMEWORKS)/ready
	$(FRAMEWORKS)/bin/pytest $(PROCESSES) tests/integration/test_frameworks.py

applications: $(APPLICATIONS)/ready
	$(APPLICATIONS)/bin/pytest $(PROCESSES) tests/integration/test_more_applications.py

# Others' test suites, with profiling and without. The quick part takes 8 minutes at most.
suites: $(SUITES)/ready
	$(SUITES)/bin/pytest tests/suites
	$(SUITES)/bin/python -m tests.suites

suites-quick: $(SUITES)/ready
	$(SUITES)/bin/pytest tests/suites
	$(SUITES)/bin/python -m tests.suites --quick

oldest: $(OLDEST)/ready
	$(OLDEST)/bin/pytest $(PROCESSES) --pure tests/unit/configurator tests/integration/test_agent.py tests/integration/test_host.py \
		tests/integration/test_labels.py -k 'not scopes'

# Wheels for all platforms, made on this one, see release/. Zig's compiler keeps what it has compiled in build/.
wheels: build/wheels

build/wheels: export PYTHON_HEADERS := $(if $(PYTHON_HEADERS),$(PYTHON_HEADERS):)$(CURDIR)/build/headers
build/wheels: $(SOURCES) $(CONFIGURATOR) $(wildcard release/* hatch_build.py frontend/* frontend/src/* \
		otel_profiling_distro/*.py otel_profiling_distro/*/*.py otel_profiling_distro/*/*/*.py) | $(RELEASE)/ready
	release/debian_headers.sh build/headers $$($(RELEASE)/bin/python release/build.py --missing)
	$(RELEASE)/bin/python release/build.py --output dist --cache build/zig
	$(RELEASE)/bin/python release/check.py dist
	touch $@

# For a release none may be missing.
wheels-complete: build/wheels
	$(RELEASE)/bin/python release/check.py --all dist

wheels-test: build/wheels
	$(RELEASE)/bin/pytest --confcutdir tests/release tests/release

# Of what is in dist/ already, wherever it was made: it is installed without a compiler's help, and its form is the native one.
installed:
	rm -rf $(INSTALLED)
	$(PYTHON) -m venv $(INSTALLED)
	$(INSTALLED)/bin/pip install --quiet --upgrade 'pip >= 25.1'
	$(INSTALLED)/bin/pip install --quiet --only-binary :all: --find-links dist 'otel-profiling-distro[page]' pytest pytest-timeout
	$(INSTALLED)/bin/pytest tests/installed

slim-test: build/wheels
	tests/installed/slim.sh dist

musl-test: $(IMAGE)/ready
	tests/installed/musl.sh dist $(IMAGE)

# What `.ci/run` has time for.
musl-quick: $(IMAGE)/ready
	tests/installed/musl.sh dist $(IMAGE) quick

arm64-test: $(IMAGE)/ready
	tests/installed/arm64.sh dist $(IMAGE)

# What `docker/Dockerfile` puts into the image; no Docker is needed.
image: $(IMAGE)/ready

$(IMAGE)/ready: build/wheels $(wildcard docker/*.py) docker/requirements.txt | $(VENV)/ready
	rm -f $@
	for arch in amd64 arm64; do \
		$(VENV)/bin/python docker/build_tree.py --output $(IMAGE)/$$arch --wheels dist --arch $$arch || exit 1; \
	done
	touch $@

image-test: $(VENV)/ready $(IMAGE)/ready
	$(VENV)/bin/pip install --quiet --group image
	$(VENV)/bin/pytest -n $(WORKERS) --dist loadfile --reruns 1 tests/image

# Only what depends on the Python, with trees that were built elsewhere.
injection: $(VENV)/ready
	$(VENV)/bin/pytest --reruns 1 tests/image/test_injection.py -k "test_flask or test_fastapi or arbitrary_user"

servers: $(SERVERS)/ready
	$(SERVERS)/bin/pytest $(PROCESSES) tests/integration/test_servers.py tests/integration/test_series.py

# Without the page where it can't be built; a line says why.
demo: $(DEMO)/ready
	@$(PYTHON) frontend/build_page.py || true
	$(DEMO)/bin/otel-profiling demo

# The front end, which wheels bring along.
page:
	$(PYTHON) frontend/build_page.py

# In a real browser: Debian's chromium, or what CHROMIUM names.
page-test: page $(PAGE)/ready
	$(PAGE)/bin/pytest --reruns 1 tests/page

# One after the other, also with `make -j`: each wants the machine for itself.
bench: $(BENCH)/ready
	@command -v wrk >/dev/null || { echo 'bench-load needs wrk: apt-get install wrk' >&2; exit 1; }
	for part in startup cost accuracy load pictures; do $(MAKE) --no-print-directory bench-$$part || exit 1; done

# Hours, if all of it is wanted; not part of `make bench`. ARGUMENTS picks figures, see its --help.
bench-cpu: $(BENCH)/ready
	mkdir -p $(FIGURES)
	$(BENCH)/bin/python tests/benchmarks/cpu_time.py --json $(FIGURES)/cpu_time.json $(ARGUMENTS)

bench-startup: $(BENCH)/ready
	$(BENCH)/bin/python tests/benchmarks/startup.py

bench-cost: $(BENCH)/ready
	mkdir -p $(FIGURES)
	$(BENCH)/bin/python tests/benchmarks/cost.py --json $(FIGURES)/cost.json

bench-accuracy: $(BENCH)/ready
	mkdir -p $(FIGURES)
	$(BENCH)/bin/python tests/benchmarks/accuracy.py --json $(FIGURES)/accuracy.json

bench-load: $(BENCH)/ready
	mkdir -p $(FIGURES)
	$(BENCH)/bin/python tests/benchmarks/under_load.py --json $(FIGURES)/load.json

bench-pictures: $(BENCH)/ready
	$(BENCH)/bin/python docs/bench_picture.py --accuracy $(FIGURES)/accuracy.json --cost $(FIGURES)/cost.json

SECONDS ?= 600
soak: $(SERVERS)/ready
	mkdir -p $(FIGURES)
	$(SERVERS)/bin/python tests/benchmarks/soak.py --seconds $(SECONDS) --svg $(FIGURES)/soak.svg

# An old compiler on purpose: what it makes runs with protobuf 5, 6 and 7, where newer ones' output is tied to one of them.
proto:
	$(PYTHON) -m venv .venv-proto
	.venv-proto/bin/pip install --quiet 'grpcio-tools == 1.62.*' 'setuptools < 80'
	cd otel_profiling_distro/receiver/protos && ../../../.venv-proto/bin/python -m grpc_tools.protoc \
		-I. --python_out=. --pyi_out=. otel_profiling_pprof.proto otel_profiling_push.proto

# pip 25.1 and later know dependency groups; some that come with Python can't resolve OpenTelemetry's pins at all.
define virtual_environment
	$(PYTHON) -m venv $(1)
	$(1)/bin/pip install --quiet --upgrade 'pip >= 25.1'
	$(1)/bin/pip install --quiet $(2)
	touch $(1)/ready
endef

$(VENV)/ready: $(SOURCES)
	$(call virtual_environment,$(VENV),--editable ./configurator --editable '.[demo]' --group test --group runtimes --group lint)

$(DISTROS)/ready: $(SOURCES)
	$(call virtual_environment,$(DISTROS),--editable ./configurator --editable . --group distros)

$(FRAMEWORKS)/ready: $(SOURCES)
	$(call virtual_environment,$(FRAMEWORKS),--editable ./configurator --editable . --group frameworks)

$(APPLICATIONS)/ready: $(SOURCES)
	$(call virtual_environment,$(APPLICATIONS),--editable ./configurator --editable . --group applications)

$(SERVERS)/ready: $(SOURCES)
	$(call virtual_environment,$(SERVERS),--editable ./configurator --editable . --group servers)

# Without the modules in C, too: what those do is there in Python. Not editable, or it would find others' in the source tree.
$(OLDEST)/ready: export HATCH_BUILD_NO_HOOKS = true
$(OLDEST)/ready: $(SOURCES) tests/oldest.txt $(CONFIGURATOR)
	$(call virtual_environment,$(OLDEST),--constraint tests/oldest.txt ./configurator --editable . --group oldest)

$(SUITES)/ready: $(SOURCES)
	$(call virtual_environment,$(SUITES),--editable ./configurator --editable . --group suites)

$(BENCH)/ready: $(SOURCES)
	$(call virtual_environment,$(BENCH),--editable ./configurator --editable . --group bench)

$(PAGE)/ready: $(SOURCES)
	$(call virtual_environment,$(PAGE),--editable ./configurator --editable '.[page]' --group page)

$(DOCS)/ready: pyproject.toml
	$(call virtual_environment,$(DOCS),--group docs)

$(RELEASE)/ready: pyproject.toml
	$(call virtual_environment,$(RELEASE),--group release)

$(DEMO)/ready: $(SOURCES)
	$(call virtual_environment,$(DEMO),--editable ./configurator --editable '.[demo]')

clean:
	rm -rf frontend/node_modules otel_profiling_distro/page/static
	rm -rf .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
