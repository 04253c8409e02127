# Two commands on a bare machine with Python 3.11 to 3.13: `make demo` and `make test`. The environment is .venv.
NEW_ENOUGH := 'import sys; sys.version_info >= (3, 11) and print(sys.executable)'
# Of the interpreters that are there, the first that is new enough; PYTHON=... names another.
NAMES := python3 python3.13 python3.12 python3.11 python
PYTHON ?= $(firstword $(foreach name,$(NAMES),$(shell $(name) -c $(NEW_ENOUGH) 2>/dev/null)))
export OMP_NUM_THREADS = 1
# Where an image of a container forbids byte code, every worker of every run would compile the tests anew, 8 s of each.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
# An environment of another version is made anew, and so is one whose interpreter is gone.
VERSION := $(shell $(or $(PYTHON),false) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
STAMP := .venv/.installed-$(VERSION)
RUNS := runs/digits
# The longest first, so that two at a time end together.
FITS := $(patsubst %,$(RUNS)/%/finished,union-5 plugin-6 union-3 amed-9 amed-5 amed-7 amed-3)
SHIPPED := $(patsubst %,%/predictor,amed-3 amed-5 amed-7 amed-9 plugin-6) $(patsubst %,%/table,union-3 union-5)
MODEL := amed_lightning/assets/digits/denoiser.json

.PHONY: test lint unit slow slurm stress gpu demo demo-fashion fits shipped readme docs nightly retrain clean

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python from 3.11 on in PATH; install one, or name it: make PYTHON=..."; exit 2; }
	@$(PYTHON) -c $(NEW_ENOUGH) | grep -q . || { echo "error: $(PYTHON) is older than Python 3.11; name another"; exit 2; }
	$(BIN)/python$(VERSION) -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

test: lint unit

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/pytest -n auto -m 'not slow and not nightly and not slurm and not stress and not demo'

slow: $(STAMP)
	$(BIN)/pytest -n auto -rs -m slow

# Jobs on a SLURM of two nodes that the tests bring up here (root, Debian's packages); skipped, with the reason, elsewhere.
slurm: $(STAMP)
	$(BIN)/pytest -m slurm -rs tests/slurm

stress: $(STAMP)
	$(BIN)/pytest -n auto -m stress -rs tests/faults tests/baddays
	$(BIN)/pytest -m stress -rs tests/slurm tests/chaos

# The tests that are marked gpu and the benchmarks that measure time, on this machine's; writes docs/gpu.md.
gpu: $(STAMP)
	$(BIN)/python benchmarks/gpu.py

# Distil on the shipped digits model, two fits at a time; sweep; show; compare with the rows of docs/digits.md.
demo: $(STAMP)
	$(MAKE) --no-print-directory -j2 fits $(RUNS)/amed-5/samples.png
	$(BIN)/lightning bench --config benchmarks/demo.yaml --accelerator cpu --devices 2
	$(BIN)/pytest -m demo tests/demo
	@echo "Training curves and sample grids: $(BIN)/tensorboard --logdir $(RUNS)"

fits: $(FITS)

$(RUNS)/amed-5/samples.png: $(RUNS)/amed-5/finished
	$(BIN)/lightning sample --config configs/digits/sample.yaml --output $@ --overwrite

# The same on 28x28 clothes, at five network runs and 1,000 images a cell. What has been stopped goes on.
CLOTHES := runs/fashion_mnist
demo-fashion: $(STAMP)
	$(MAKE) --no-print-directory -j2 $(CLOTHES)/amed-5/finished $(CLOTHES)/union-5/finished
	$(BIN)/lightning bench --config benchmarks/fashion-small.yaml --accelerator cpu --devices 2

$(CLOTHES)/amed-5/finished $(CLOTHES)/union-5/finished: $(CLOTHES)/%-5/finished: | $(STAMP)
	$(BIN)/lightning fit fashion_mnist/$*-5
	touch -c $@

# The learned samplers that the package ships are those that the demo's fits leave: `al.sample("digits/amed-5")`.
shipped: $(STAMP) fits
	for fit in $(SHIPPED); do for end in json safetensors; do \
	  cp $(RUNS)/$$fit.$$end amed_lightning/assets/digits/samplers/$$(basename $$(dirname $$fit)).$$end; done; done

# The table of docs/digits.md with all its rows, README's ten of them, and the pictures.
readme: fits $(RUNS)/amed-5/samples.png
	$(BIN)/lightning bench --config benchmarks/digits.yaml --accelerator cpu --devices 2
	$(BIN)/python -m tests.demo.readme
	cp runs/bench/digits/fid.png docs/fid.png
	cp $(RUNS)/amed-5/samples.png docs/samples.png

# The pages as a site, in build/site; a link that leads nowhere is an error.
docs: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# A night of the regression benchmark: exit code 0 fine, 1 a regression, 3 could not decide.
nightly: $(STAMP) fits
	$(BIN)/lightning bench nightly --config benchmarks/nightly.yaml --accelerator cpu --devices 2

# A run's mark, not its predictor, says that it has ended: a predictor is exported whenever one is the best so far.
$(RUNS)/%/finished: $(wildcard configs/*.yaml configs/digits/*.yaml) $(MODEL) | $(STAMP)
	$(BIN)/lightning fit digits/$*
	touch -c $@

# Re-train the shipped denoiser from its YAML (35 minutes on one core) and compare its quality: a nightly check.
retrain: $(STAMP)
	$(BIN)/lightning fit --config configs/digits/denoiser.yaml
	$(BIN)/pytest -m nightly

clean:
	rm -rf .venv build *.egg-info
