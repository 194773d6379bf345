# SPDX-License-Identifier: Apache-2.0
EXTRA_DIST += %D%/README.md %D%/chaos.py %D%/checks.py %D%/faults.py %D%/clients.py %D%/pool.py \
	%D%/traps.py %D%/watch.py

# make chaos MINUTES=5 SEED=7, or SEEDS="1 2 3"; without a seed one is drawn. ONLY=db,nats leaves other faults out.
# chaos.jsonl has a line for each run.
MINUTES = 2
SEED =
SEEDS = $(SEED)
ONLY =
.PHONY: chaos
chaos: all
	$(AM_V_at)mkdir -p %D%
	$(AM_V_at)HEARTH_BUILD=$(abs_top_builddir) PYTHONDONTWRITEBYTECODE=1 $(PYTHON3) $(srcdir)/%D%/chaos.py --minutes $(MINUTES) \
		$(SEEDS:%=--seed %) $(ONLY:%=--only %) --report $(abs_top_builddir)/%D%/chaos.jsonl
