# make help           these lines
# make train          set up, find or fetch the data (else make the stand-in), train both MLPs at their defaults
# make train-convnet  the same for the ConvNet
# make test           set up and run every test
# make quick          set up and run what a change of a layer can break: every gradient check, a short run of each script
# make coverage       the tests again, and which lines of the package none of them runs
# make lint           ruff and mypy
# make bench          the measurements of docs/speed.md (on an idle machine)
# make constraints    write constraints.txt, the versions in this environment; after make test has passed with them
# make report         draw the figures and typeset report/report.pdf from the kept results; AUTHOR="Jane Doe" names its author
# make clean          remove what can be made again; data, runs and the environment stay
# make distclean      the environment too
#
# DATA=folder chooses the data set's folder: make train DATA=/somewhere/cifar-10-batches-py

PYTHON ?= python3
VENV ?= .venv
DATA ?= ./cifar10/cifar-10-batches-py
RUN = $(VENV)/bin/python
PARALLEL = -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help train train-convnet data test quick coverage lint constraints bench report clean distclean

help:
	@sed -n 's/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST)) | sed '/^DATA=/q'

train: $(VENV)/.runtime data
	$(RUN) train_mlp_numpy.py --data_dir "$(DATA)"
	$(RUN) train_mlp_pytorch.py --data_dir "$(DATA)"
	@echo
	@echo "Curves, metrics and checkpoints lie in:"
	@ls -td results/train_mlp_numpy/* | head -n 1
	@ls -td results/train_mlp_pytorch/* | head -n 1

train-convnet: $(VENV)/.runtime data
	$(RUN) train_convnet_pytorch.py --data_dir "$(DATA)"

data: $(VENV)/.runtime
	$(RUN) cifar10_utils.py fetch "$(DATA)" --or-standin

test: $(VENV)/.dev
	$(RUN) -m pytest $(PARALLEL) $(PYTEST_FLAGS)

quick: $(VENV)/.dev
	$(RUN) -m pytest -m quick $(PYTEST_FLAGS)

coverage: $(VENV)/.dev
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest $(PYTEST_FLAGS)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report

lint: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m mypy *.py training imagefiles networks $(wildcard grading benchmarks)

constraints: $(VENV)/.dev
	@echo "# The versions that the tests passed with last; make constraints writes them." > constraints.txt
	$(RUN) -m pip freeze --disable-pip-version-check | sed 's/+[^ ]*$$//' >> constraints.txt

bench: $(VENV)/.dev data
	CIFAR10_DIR="$(DATA)" $(RUN) -m benchmarks --page $(BENCH_FLAGS)

report: $(VENV)/.dev
	$(RUN) -m report.build_report $(if $(AUTHOR),--author "$(AUTHOR)")

# The environment is made once and filled again only when the requirements changed. One that was left half made, without
# pip or with a Python that is gone, is made again.
$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; this needs Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "this needs Python 3.11 or newer, \
	$(PYTHON) is %d.%d; try make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.runtime: requirements.txt | $(VENV)/bin/python
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing the requirements into $(VENV): some minutes and, with PyTorch's CUDA build, some 5 GB"
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean:
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
