PYTHON ?= python3
VENV ?= .venv
DEMO := runs/demo
BIN := $(VENV)/bin
# One process, chosen device, no questions: what `accelerate launch` asks for when it has no configuration.
LAUNCH := $(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no

.PHONY: install demo test test-browser check notebook

install: $(VENV)/.installed

$(VENV)/.installed: requirements.txt requirements-app.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name it: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# The whole chain on the drawn sample: no network, a few minutes on two cores.
demo: export HF_HUB_OFFLINE = 1
demo: install
	rm -rf "$(DEMO)"
	$(BIN)/python data_prep.py --source sample --output_dir $(DEMO)/data
	$(LAUNCH) finetune_vit.py --dataset $(DEMO)/data --output_dir $(DEMO)/model --model_name_or_path backbones/vit-micro-patch12-96 \
		--precision fp32 --num_train_epochs 10
	$(BIN)/python -m memevit.commands.demo $(DEMO) --fill_inbox
	$(BIN)/python sort_memes.py --model $(DEMO)/model $(DEMO)/inbox --into $(DEMO)/sorted --min_probability 0.6 \
		--output $(DEMO)/rows.csv --contact_sheet $(DEMO)/sheets
	$(BIN)/python diagnose.py --model $(DEMO)/model --dataset $(DEMO)/data --learning_curve
	$(BIN)/python add_class.py --model $(DEMO)/model --dataset $(DEMO)/data --no_auto_refine --class_name genshin_impact \
		--images $(DEMO)/data-sample/held_apart/genshin_impact --output_dir $(DEMO)/model-3
	$(BIN)/python push_to_hub.py --model $(DEMO)/model --dataset $(DEMO)/data --repo_id demo/doom-or-animal-crossing --dry_run
	$(BIN)/python -m memevit.commands.demo $(DEMO)

test: export HF_HUB_OFFLINE = 1
test: install
	$(BIN)/python -m pytest -n 2 --dist loadscope

test-browser: export HF_HUB_OFFLINE = 1
test-browser: install
	$(BIN)/python -m pytest -m browser tests

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 --dist loadscope

# Runs the text form of the notebook and writes the notebook with its outputs: no network, some minutes on two cores.
notebook: install
	$(BIN)/python notebooks/execute.py
