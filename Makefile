# Everything a newcomer types: `make` lists it. Portable make and sh, no root; all that is installed lies in $(VENV).

VENV   ?= .venv
TORCH  ?= torch==2.13.0
EXTRAS ?= demo,test,vad,decoding,cluster
# The first interpreter that is 3.11 or 3.12 and runs (a pyenv shim may be there and not run).
PYTHON ?= $(shell for python in python3.11 python3.12 python3 python; do \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && \
	echo "$$python" && break; done)

PY  = $(VENV)/bin/python
PIP = "$(PY)" -m pip --disable-pip-version-check
# fairseq-fixed asks for torchaudio, which is left out (see setup.py); pip need not say so at every step.
INSTALL = $(PIP) install --no-warn-conflicts
FAIRSEQ = fairseq-fixed==0.12.3.1
NUMPY   = numpy<2.5

# Quick tests run side by side, one process for each core; a file's tests share its models, so they stay together.
SIDE_BY_SIDE ?= auto

# A step is done when its stamp is there. Another TORCH or EXTRAS is another stamp, so it is installed when asked for.
checksum       = $(shell printf '%s' '$(1)' | cksum | cut -d' ' -f1)
PYTHON_STAMP  := $(VENV)/.python
TORCH_STAMP   := $(VENV)/.torch-$(call checksum,$(TORCH))
PACKAGE_STAMP := $(VENV)/.package-$(call checksum,$(TORCH) $(EXTRAS))
FAIRSEQ_WHEEL := $(VENV)/.wheel-$(call checksum,$(TORCH) $(FAIRSEQ))
FAIRSEQ_STAMP := $(VENV)/.fairseq-$(call checksum,$(TORCH) $(FAIRSEQ))

# On small virtual machines most of the time can go to page faults of memory that is freed and taken again.
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := 100000000000
export MALLOC_TOP_PAD_ := 268435456

.PHONY: help install kenlm flashlight demo test lint types quick-tests slow-tests clean

help:
	@echo "make demo     install, speak a small corpus, train on it, build language models, evaluate, print the table"
	@echo "make test     install, then lint, types and all tests"
	@echo "make kenlm    compile KenLM's programs, for language models, into .kenlm"
	@echo "make flashlight  compile flashlight-text for n-grams up to order 20; PyPI's reads up to 6"
	@echo "make install  only the installation, into $(VENV)"
	@echo "make lint, make types, make quick-tests, make slow-tests  the parts of make test"
	@echo "make clean    remove $(VENV) and what the tools keep; your runs and corpora stay"
	@echo
	@echo "Options: PYTHON=python3.12  VENV=.venv  'TORCH=$(TORCH)'  EXTRAS=$(EXTRAS),bench"

# fairseq is compiled on one core while pip fetches the rest on the other.
install: $(TORCH_STAMP)
	@$(MAKE) --silent --no-print-directory -j2 $(PACKAGE_STAMP) $(FAIRSEQ_STAMP)
	@echo "==> installed in $(VENV)"

$(PYTHON_STAMP):
	@test -n '$(PYTHON)' || { echo "No Python 3.11 or 3.12 found; install one, or name it: make install PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "$(PYTHON) is not Python 3.11 or 3.12; name another: make install PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) cannot make environments; Debian and Ubuntu keep that part in the package python3-venv"; exit 1; }
	@"$(PYTHON)" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || \
		{ echo "$(PYTHON) has no Python.h to compile fairseq against; Debian and Ubuntu keep it in the package python3-dev"; exit 1; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || \
		{ echo "No C++ compiler found (c++ or g++), and fairseq has to be compiled; Debian and Ubuntu: package g++"; exit 1; }
	@echo "==> 1/4 environment in $(VENV) with $$("$(PYTHON)" --version) and the newest pip"
	@"$(PY)" -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv "$(VENV)"
	@$(INSTALL) --quiet --upgrade pip
	@touch "$@"

$(TORCH_STAMP): $(PYTHON_STAMP)
	@echo "==> 2/4 $(TORCH) (kept as it is where one that fits is there; a CUDA build is a download of gigabytes)"
	@rm -f "$(VENV)"/.torch-* "$(VENV)"/.package-* "$(VENV)"/.fairseq-*
	@$(INSTALL) '$(TORCH)' '$(NUMPY)' setuptools wheel cython
	@touch "$@"

$(PACKAGE_STAMP): $(TORCH_STAMP) setup.py
	@echo "==> 3/4 mms-recipes, editable, with the extras $(EXTRAS)"
	@PYTHONWARNINGS=ignore $(INSTALL) --quiet --no-build-isolation --editable '.[$(EXTRAS)]'
	@touch "$@"

# -O1 takes a third off the compilation; the two modules that the recipes use are compiled with fairseq's own -O3.
# CUDA_HOME would add CUDA kernels that nothing here uses and that need a matching nvcc.
$(FAIRSEQ_WHEEL): $(TORCH_STAMP)
	@echo "==> 4/4 $(FAIRSEQ), compiled here, beside step 3: one to two minutes, the first time"
	@rm -rf "$@" "$@.part"
	@env -u CUDA_HOME CFLAGS='-O1 -g0' CXXFLAGS='-O1 -g0' \
		$(PIP) wheel --quiet --no-build-isolation --no-deps --wheel-dir "$@.part" $(FAIRSEQ)
	@mv "$@.part" "$@"

$(FAIRSEQ_STAMP): $(FAIRSEQ_WHEEL) | $(PACKAGE_STAMP)
	@$(INSTALL) --quiet --no-deps --force-reinstall "$(FAIRSEQ_WHEEL)"/*.whl
	@"$(PY)" -c 'import logging; logging.disable(logging.INFO); import torch, fairseq; \
		device = "CUDA" if torch.cuda.is_available() else "CPU"; print("==> fairseq imports; torch", torch.__version__, "will run on", device)'
	@touch "$@"

demo: kenlm
	@"$(PY)" tools/demo.py

test: slow-tests

lint: install
	@echo "==> lint (ruff)"
	@"$(PY)" -m ruff check .

types: install
	@echo "==> types (mypy)"
	@"$(PY)" -m mypy

# lmplz and build_binary, which tools/build_lm.py runs; compiled once, without root.
kenlm: install
	@"$(PY)" tools/build_kenlm.py .kenlm

# flashlight-text for n-grams up to order 20, in place of PyPI's wheel, which reads up to 6.
flashlight: install
	@"$(PY)" tools/build_flashlight.py .kenlm

quick-tests: lint types kenlm
	@echo "==> quick tests"
	@"$(PY)" -m pytest -m 'not slow' -n $(SIDE_BY_SIDE) --dist loadfile

slow-tests: quick-tests
	@echo "==> slow tests"
	@"$(PY)" tools/fetch_chromium.py || echo "==> no Chromium: the report is not tested in a browser"
	@"$(PY)" -m pytest -m slow --durations=10

clean:
	rm -rf "$(VENV)" .kenlm build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
